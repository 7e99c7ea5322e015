"""The options that say which servers are benched, how they are reached, and from where."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arch_harness.errors import UsageError

if TYPE_CHECKING:
    from arch_harness.triton import Target

HEADER_VARIABLE = "ARCH_HEADER"
_HEADER = re.compile(r"\s*([A-Za-z0-9_.-]+)\s*:\s*([\x20-\x7e]+?)\s*")

Servers = Annotated[
    list[str] | None,
    typer.Option("--server", help="HOST:PORT of Triton's gRPC; may be repeated: they share the load. None: start one."),
]
Tls = Annotated[bool, typer.Option("--tls", help="Encrypt, and check the servers' certificates.")]
TlsCa = Annotated[
    Path | None, typer.Option("--tls-ca", help="PEM of the authorities to trust instead of the system's; means --tls.")
]
Headers = Annotated[
    list[str] | None,
    typer.Option(
        "--header",
        help=f"'NAME: VALUE' for every request, such as a token; may be repeated. Kept out of results and logs. "
        f"Also from {HEADER_VARIABLE}, one a line.",
    ),
]
RayAddress = Annotated[
    str | None, typer.Option("--ray-address", help="HOST:PORT of a Ray cluster, or auto; without it Ray is started.")
]


def targets_of(addresses: Sequence[str], tls: bool, tls_ca: Path | None, headers: Sequence[str] | None) -> list[Target]:
    """The servers asked for, each once.

    Raises:
        UsageError: if an address, a header or the file of certificates cannot be right.
    """
    from arch_harness.triton import Target

    certificates = None
    if tls_ca is not None:
        try:
            certificates = tls_ca.read_bytes()
        except OSError as error:
            raise UsageError(f"--tls-ca: cannot read {tls_ca}: {error.strerror}") from error
        if b"-----BEGIN CERTIFICATE-----" not in certificates:
            raise UsageError(f"--tls-ca: {tls_ca} holds no certificate in PEM")
    given = [*os.environ.get(HEADER_VARIABLE, "").splitlines(), *(headers or [])]
    pairs = tuple(_header(line) for line in given if line.strip())
    return [
        Target(address, tls or certificates is not None, certificates, pairs) for address in dict.fromkeys(addresses)
    ]


def _header(line: str) -> tuple[str, str]:
    """Name, in lower case as gRPC wants it, and value; an error does not repeat it, since it may be secret."""
    found = _HEADER.fullmatch(line)
    if found is None:
        raise UsageError(f"--header or {HEADER_VARIABLE}: wants 'NAME: VALUE' of printable ASCII")
    name = found[1].lower()
    if name.startswith("grpc-") or name.endswith("-bin"):
        raise UsageError(f"--header or {HEADER_VARIABLE}: gRPC keeps the name {name!r} for itself")
    return name, found[2]


def shown_command(arguments: Sequence[str]) -> str:
    """The command line, without the values of headers."""
    shown = ["arch"]
    hide = False
    for argument in arguments:
        value = argument if hide else argument.removeprefix("--header=") if argument.startswith("--header=") else None
        if value is None:
            shown.append(argument)
        else:
            shown.append(("" if hide else "--header=") + value.split(":")[0].strip() + ": ***")
        hide = argument == "--header"
    return shlex.join(shown)
