"""`arch analyse`: what the layers of a run's encoders represent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from arch_common import interrupt

from arch_bench import options
from arch_bench.analysis import analysing
from arch_bench.terminal import ERR, OUT


def analyse(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A folder that arch bench --layers wrote, or its results.json.")
    ],
    output: Annotated[
        Path | None, typer.Option(help="Folder for analysis.html and analysis.json. [that of the run]")
    ] = None,
    cache: options.Cache = None,
) -> None:
    """Draw what stored layers represent: scores, CKA, effective rank, neighbours across domains."""
    interrupt.catch()
    found = analysing.analyse(
        run,
        output=output,
        cache=cache,
        note=lambda text: ERR.print(text, highlight=False, markup=False, soft_wrap=True),
    )
    OUT.print(found)
    OUT.print(f"analysis: {found.page}", soft_wrap=True)
