"""The options that several commands share, and what is read from them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from arch_common.errors import UsageError

from arch_bench import api

if TYPE_CHECKING:
    from arch_harness.results.scores import ProbeName
    from arch_harness.triton.endpoint import Endpoint

HEADER_VARIABLE = "ARCH_HEADER"
DEFAULT_SEEDS = 3


class Probe(StrEnum):
    """The probes, as named on the command line and in results."""

    LINEAR = "linear"
    LOGREG = "logreg"
    MLP = "mlp"
    KNN = "knn"


class Splits(StrEnum):
    """Which split of a dataset is used."""

    ARCH = "arch"
    STRICT = "strict"


class TransportChoice(StrEnum):
    """How the audio goes to servers on the client's machine."""

    GRPC = "grpc"
    SHARED_MEMORY = "shared-memory"


Repository = Annotated[Path, typer.Option(help="The Triton model repository.")]
DataRoot = Annotated[Path, typer.Option(envvar="ARCH_DATA", help="Holds a folder for each dataset.")]
Cache = Annotated[
    Path | None,
    typer.Option("--cache", envvar="ARCH_CACHE", help="The embedding store. [$XDG_CACHE_HOME/arch or ~/.cache/arch]"),
]
Servers = Annotated[
    list[str] | None,
    typer.Option("--server", help="HOST:PORT of Triton's gRPC; may be repeated: they share the load. None: start one."),
]
_CERTIFICATES = ("tls_ca", "tls_cert", "tls_key")


def _agreeing(context: typer.Context, parameter: typer.CallbackParam, value: Any) -> Any:
    """Let `--no-tls` turn off the certificates of a file, which mean TLS, and certificates turn off its `tls: false`.

    What the command line holds is looked at first, so that a file's defaults can still be taken back here.

    Raises:
        UsageError: if both are on the command line.
    """
    values = {**context.params, str(parameter.name): value}
    said = [name for name in ("tls", *_CERTIFICATES) if _is_said(context, name) and name in values]
    if not said:
        return value
    certificates = [name for name in said if name != "tls"]
    without = "tls" in said and not values["tls"]
    if without and certificates:
        raise UsageError(f"--no-tls and --{certificates[0].replace('_', '-')}: choose one, for certificates mean TLS")
    of_file = dict(context.default_map or {})
    for name in _CERTIFICATES if without else ():
        of_file.pop(name, None)
    if certificates and of_file.get("tls") is False:
        del of_file["tls"]
    context.default_map = of_file
    return value


def _is_said(context: typer.Context, name: str) -> bool:
    """Whether an option is on the command line."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


Tls = Annotated[
    bool,
    typer.Option("--tls/--no-tls", callback=_agreeing, help="Encrypt, and check the servers' certificates."),
]
TlsCa = Annotated[
    Path | None,
    typer.Option(
        "--tls-ca",
        callback=_agreeing,
        help="PEM of the authorities to trust instead of the system's; means --tls.",
    ),
]
TlsCert = Annotated[
    Path | None,
    typer.Option(
        "--tls-cert",
        callback=_agreeing,
        help="PEM of a certificate of ours, for servers that want one; means --tls.",
    ),
]
TlsKey = Annotated[
    Path | None,
    typer.Option("--tls-key", callback=_agreeing, help="PEM of its private key, without a password."),
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
    str | None,
    typer.Option(
        "--ray-address",
        envvar="RAY_ADDRESS",
        help="HOST:PORT of a Ray cluster of which this machine is a node, or auto; without it Ray is started.",
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="The first seed: initial weights and clip order of the probes.")]
Seeds = Annotated[int, typer.Option(min=1, help="Probes trained per fold, with seeds that follow one another.")]
Probes = Annotated[
    list[Probe] | None,
    typer.Option(help="linear (the ARCH protocol, the default), logreg, mlp or knn; may be repeated, headline first."),
]
Transports = Annotated[
    TransportChoice,
    typer.Option("--transport", help="shared-memory: servers on this machine read the audio there, not in requests."),
]

Verbose = Annotated[
    bool,
    typer.Option("--verbose/--no-verbose", "-v", help="Show the long tables too: where the time goes, stage by stage."),
]
Quiet = Annotated[bool, typer.Option("--quiet/--no-quiet", help="Print nothing but the report's path, and errors.")]

BaselineCache = Annotated[
    Path | None,
    typer.Option("--baseline-cache", help="The embedding store of the baseline, if it is another.", show_default=False),
]
Pairs = Annotated[
    list[str] | None,
    typer.Option(
        "--pair",
        metavar="MODEL=BASELINE_MODEL",
        help="Compare a model with the baseline's of another name, an int8 with its fp32, say; may be repeated.",
    ),
]
MarkdownFile = Annotated[Path | None, typer.Option(help="Write it as Markdown.", show_default=False)]
JsonFile = Annotated[Path | None, typer.Option(help="Write all figures as JSON.", show_default=False)]


def check_detail(verbose: bool, quiet: bool) -> None:
    """Refuse to print both more and less.

    Raises:
        UsageError: if both are asked for.
    """
    if verbose and quiet:
        raise UsageError("--verbose and --quiet: choose one")


def pairs_of(given: Sequence[str] | None) -> dict[str, str]:
    """Models by name, each with the one of the baseline that it is compared with.

    Raises:
        UsageError: if one is no MODEL=MODEL, or a model is named twice.
    """
    found: dict[str, str] = {}
    for one in given or []:
        model, equals, other = one.partition("=")
        if not (model and equals and other):
            raise UsageError(f"--pair {one!r} cannot be right: wants MODEL=BASELINE_MODEL")
        if found.get(model, other) != other:
            raise UsageError(f"--pair names {model!r} twice")
        found[model] = other
    return found


def names_of(probes: list[Probe] | None) -> list[ProbeName]:
    """The probes asked for, in their order; linear if none was named."""
    return [one.value for one in probes or [Probe.LINEAR]]


def endpoints_of(
    addresses: Sequence[str] | None,
    tls: bool,
    tls_ca: Path | None,
    headers: Sequence[str] | None,
    identity: tuple[Path | None, Path | None] = (None, None),
) -> list[Endpoint]:
    """The servers asked for, each once, with headers from the options and the environment.

    Args:
        addresses: of gRPC endpoints.
        tls: whether to encrypt.
        tls_ca: authorities to trust.
        headers: as given, before those of the environment.
        identity: files of the client's certificate and key.

    Raises:
        UsageError: if an address, a header or the file of certificates cannot be right.
    """
    given = [*os.environ.get(HEADER_VARIABLE, "").splitlines(), *(headers or [])]
    lines = [line for line in given if line.strip()]
    cert, key = identity
    return api.endpoints(*(addresses or []), tls=tls, tls_ca=tls_ca, tls_cert=cert, tls_key=key, headers=lines)


def shown_command(arguments: Sequence[str]) -> str:
    """The command line, without the values of headers, and as text that any file can hold: a name may not be UTF-8."""
    shown = ["arch"]
    hide = False
    for argument in arguments:
        value = argument if hide else argument.removeprefix("--header=") if argument.startswith("--header=") else None
        if value is None:
            shown.append(argument)
        else:
            shown.append(("" if hide else "--header=") + value.split(":")[0].strip() + ": ***")
        hide = argument == "--header"
    return shlex.join(shown).encode(errors="backslashreplace").decode()
