"""`arch doctor`: one page on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from arch_bench import api, options
from arch_bench.health import doctor as look
from arch_bench.health.page import as_json, faults, page, summary
from arch_bench.terminal import ERR, OUT


def doctor(
    repository: options.Repository = api.REPOSITORY,
    output: Annotated[Path, typer.Option(help="Where reports are to go.")] = Path("reports"),
    cache: options.Cache = None,
    grpc_port: Annotated[int, typer.Option(help="As arch serve would take it; so the others.")] = 8001,
    http_port: Annotated[int, typer.Option()] = 8000,
    metrics_port: Annotated[int, typer.Option()] = 8002,
    json: Annotated[bool, typer.Option("--json", help="Print the same as JSON.")] = False,
) -> None:
    """Look whether arch can work on this machine, and say what to do where not: exit code 1 if something stops it."""
    ports = (grpc_port, http_port, metrics_port)
    with ERR.status("looking at this machine"):
        found = look(repository=repository, output=output, cache=cache, ports=ports)
    if json:
        OUT.print(as_json(found), soft_wrap=True)
    else:
        OUT.print(page(found))
        OUT.print(summary(found), soft_wrap=True)
    if faults(found):
        raise typer.Exit(1)
