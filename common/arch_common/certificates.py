"""A certificate and its private key, as servers and, with mutual TLS, clients show them: checked before either starts.

gRPC itself says of a pair that does not fit no more than that no connection came about.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from arch_common.errors import UsageError


def read_pair(certificate: Path, key: Path) -> tuple[bytes, bytes]:
    """A certificate, with what leads to its authority, and its private key, both in PEM.

    Raises:
        UsageError: if one cannot be read, or they are none, or do not belong together.
    """
    found = _read(certificate, "--tls-cert"), _read(key, "--tls-key")
    try:
        # An empty password: with none, OpenSSL would ask at the terminal for that of an encrypted key.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: "")
    except (ssl.SSLError, OSError, ValueError) as error:
        raise UsageError(
            f"--tls-cert {certificate} and --tls-key {key} are no certificate and its unencrypted key in PEM: "
            f"{getattr(error, 'reason', None) or error}"
        ) from error
    return found


def read_authorities(path: Path, option: str) -> bytes:
    """The certificates of the authorities to trust, in PEM.

    Raises:
        UsageError: if the file cannot be read or holds none.
    """
    found = _read(path, option)
    if b"-----BEGIN CERTIFICATE-----" not in found:
        raise UsageError(f"{option}: {path} holds no certificate in PEM")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError as error:
        raise UsageError(f"{option}: {path} holds a damaged certificate: {error.reason or error}") from error
    return found


def _read(path: Path, option: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{option}: cannot read {path}: {error.strerror}") from error
