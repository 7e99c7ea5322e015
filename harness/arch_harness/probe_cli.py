"""`arch probe`, and the options that it shares with `arch bench`."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from arch_harness import cache_cli, interrupt

DEFAULT_SEEDS = 3


class Probe(StrEnum):
    """The probes, as named on the command line and in results."""

    LINEAR = "linear"
    LOGREG = "logreg"
    MLP = "mlp"
    KNN = "knn"


Seed = Annotated[int, typer.Option(min=0, help="The first seed: initial weights and clip order of the probes.")]
Seeds = Annotated[int, typer.Option(min=1, help="Probes trained per fold, with seeds that follow one another.")]
Probes = Annotated[
    list[Probe] | None,
    typer.Option(help="linear (the ARCH protocol, the default), logreg, mlp or knn; may be repeated, headline first."),
]


def names_of(probes: list[Probe] | None) -> list[str]:
    """The probes asked for, each once, in their order; linear if none was named."""
    return list(dict.fromkeys(one.value for one in probes or [Probe.LINEAR]))


def probe(
    folder: Annotated[Path, typer.Argument(help="A folder that arch bench wrote.")],
    probe: Probes = None,
    seeds: Seeds = DEFAULT_SEEDS,
    seed: Seed = 0,
    cache: cache_cli.Cache = None,
) -> None:
    """Score the stored embeddings of a run again, without a server, and write its report anew."""
    from arch_harness.cli import part

    with part("bench"):
        from arch_harness.display import Display
        from arch_harness.embedding_store import EmbeddingStore
        from arch_harness.probing import probe_again
        from arch_harness.report import TerminalReport
    out, err = Console(), Console(stderr=True)
    display = Display(err)
    store = EmbeddingStore(cache_cli.root_of(cache), display.note)
    interrupt.catch()
    try:
        with interrupt.honoured():
            run, problems = probe_again(
                folder, store, names_of(probe), seeds, seed, display, shlex.join(["arch", *sys.argv[1:]])
            )
    except KeyboardInterrupt:
        err.print("interrupted; results that were done are saved")
        raise typer.Exit(interrupt.INTERRUPTED) from None
    out.print(TerminalReport(run))
    out.print(f"report: {folder / 'report.html'}", highlight=False, soft_wrap=True)
    for problem in problems:
        err.print(f"arch: {problem}", highlight=False, markup=False, soft_wrap=True)
    if problems:
        raise typer.Exit(1)
