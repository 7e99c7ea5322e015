"""Certificates made up for a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import trustme

Pem = Callable[[str], Path]


def make_certificates(folder: Path) -> Pem:
    """Files of PEM by name: `server`, `client` and their authority `ca`; a `stranger` of an `other-ca` not trusted.

    Each of the three has a `.pem`, which holds for localhost, and a `.key`.
    """
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    other.cert_pem.write_to_path(str(folder / "other-ca.pem"))
    for name, issuer in (("server", authority), ("client", authority), ("stranger", other)):
        issued = issuer.issue_cert("localhost", "127.0.0.1")
        issued.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        issued.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
    return lambda name: folder / name
