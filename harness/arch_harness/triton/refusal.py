"""What it means that a server, or a proxy before it, does not let a client in or do something."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tritonclient.utils import InferenceServerException

    from arch_harness.triton.endpoint import Endpoint

# Triton's answer where `--grpc-restricted-protocol` closes a call; its code is that of a server that is away.
_RESTRICTED = "This protocol is restricted"


def is_forbidden(code: object, words: str) -> bool:
    """Whether a call was refused because of who made it, not because of the state of the server.

    Args:
        code: gRPC's, or its name.
        words: the message with it.
    """
    return _RESTRICTED in words or "PERMISSION_DENIED" in str(code) or "UNAUTHENTICATED" in str(code)


def unreached(endpoint: Endpoint, error: InferenceServerException) -> str:
    """What to look at where no server answers, in one clause."""
    words = str(error.message() or error)
    if is_forbidden(error.status() or "", words):
        return "it wants to know who asks: does --header (or ARCH_HEADER) carry a token that it knows?"
    if "CERTIFICATE_VERIFY_FAILED" in words:
        return "--tls-ca wants the authority of the server's certificate, and --server a name that stands in it"
    if endpoint.tls and endpoint.identity is None:
        return "does it encrypt at this port, and want a certificate of ours (--tls-cert, --tls-key)?"
    if endpoint.tls:
        return "does it encrypt at this port, and trust the authority of our certificate (--tls-cert)?"
    return "is that its gRPC port (8001 by default), without TLS (--tls)? 'arch serve' starts one"
