"""`arch probe`: stored embeddings scored again."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from arch_common import interrupt
from rich.console import Console

from arch_bench import api, options

_out = Console()
_err = Console(stderr=True)


def probe(
    folder: Annotated[Path, typer.Argument(help="A folder that arch bench wrote.")],
    probe: options.Probes = None,
    seeds: options.Seeds = options.DEFAULT_SEEDS,
    seed: options.Seed = 0,
    cache: options.Cache = None,
) -> None:
    """Score the stored embeddings of a run again, without a server, and write its report anew."""
    interrupt.catch()
    try:
        with interrupt.honoured():
            run = api.probe(
                folder,
                probes=options.names_of(probe),
                seeds=seeds,
                seed=seed,
                cache=cache,
                command=shlex.join(["arch", *sys.argv[1:]]),
                console=_err,
            )
    except KeyboardInterrupt:
        _err.print("interrupted; results that were done are saved")
        raise typer.Exit(interrupt.INTERRUPTED) from None
    _out.print(run)
    _out.print(f"report: {run.report}", highlight=False, soft_wrap=True)
    for problem in run.problems:
        _err.print(f"arch: {problem}", highlight=False, markup=False, soft_wrap=True)
    if run.problems:
        raise typer.Exit(1)
