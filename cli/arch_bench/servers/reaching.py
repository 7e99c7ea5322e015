"""How running servers are reached: addresses, certificates, headers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arch_common.certificates import read_authorities, read_pair
from arch_common.errors import UsageError

from arch_bench.extras import needs

if TYPE_CHECKING:
    from arch_harness.triton.endpoint import Endpoint


def endpoints(
    *addresses: str,
    tls: bool = False,
    tls_ca: str | Path | None = None,
    tls_cert: str | Path | None = None,
    tls_key: str | Path | None = None,
    headers: str | Sequence[str] = (),
) -> list[Endpoint]:
    """How running servers are reached, each once, for `bench`; needs the extra `bench`.

    Args:
        addresses: `HOST:PORT` of their gRPC endpoints.
        tls: encrypt, and check the servers' certificates.
        tls_ca: PEM of the authorities to trust instead of the system's; means `tls`.
        tls_cert: PEM of the client's own certificate, for servers that ask for one; means `tls`.
        tls_key: PEM of its private key.
        headers: `NAME: VALUE`, sent with every request; never shown or stored.

    Raises:
        UsageError: if an address, a header or a file of certificates cannot be right.
    """
    with needs("bench"):
        from arch_harness.triton.endpoint import Endpoint, parse_header
    certificates = None if tls_ca is None else read_authorities(Path(tls_ca), "--tls-ca")
    if (tls_cert is None) != (tls_key is None):
        raise UsageError("a client's certificate needs both --tls-cert and --tls-key")
    identity = None if tls_cert is None or tls_key is None else read_pair(Path(tls_cert), Path(tls_key))
    pairs = tuple(parse_header(line) for line in listed(headers))
    encrypted = tls or certificates is not None or identity is not None
    return [Endpoint(one, encrypted, certificates, identity, pairs) for one in dict.fromkeys(addresses)]


def listed(given: Any) -> list[Any]:
    """What was given, each once: a single one need not be in a list, and a string is one, not its letters."""
    several = isinstance(given, Sequence) and not isinstance(given, str)
    return list(dict.fromkeys(given if several else [given]))
