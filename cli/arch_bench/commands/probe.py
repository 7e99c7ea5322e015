"""`arch probe`: stored embeddings scored again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from arch_common import interrupt

from arch_bench import api, options
from arch_bench.terminal import ERR, show_scores


def probe(
    folder: Annotated[Path, typer.Argument(help="A folder that arch bench wrote.")],
    probe: options.Probes = None,
    seeds: options.Seeds = options.DEFAULT_SEEDS,
    seed: options.Seed = 0,
    cache: options.Cache = None,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Score the stored embeddings of a run again, without a server, and write its report anew."""
    options.check_detail(verbose, quiet)
    try:
        with interrupt.honoured():
            run = api.probe(
                folder,
                probes=options.names_of(probe),
                seeds=seeds,
                seed=seed,
                cache=cache,
                command=options.shown_command(sys.argv[1:]),
                console=None if quiet else ERR,
            )
    except KeyboardInterrupt:
        ERR.print("interrupted; what was scored is saved, and the same command goes on from there")
        raise typer.Exit(interrupt.INTERRUPTED) from None
    show_scores(run, verbose=verbose, quiet=quiet)
