"""`arch publish`: runs as a leaderboard, and their scores for the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from arch_bench.decisions import publishing
from arch_bench.terminal import ERR, OUT


def publish(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="Folders that arch bench wrote, or their results.json.", show_default=False
        ),
    ],
    output: Annotated[Path, typer.Option(help="Folder for the leaderboard.")] = publishing.LEADERBOARD,
    benchmark: Annotated[
        str,
        typer.Option(
            metavar="OWNER/NAME",
            help="Dataset repository on the Hugging Face Hub that is registered as a benchmark, with a task a dataset.",
        ),
    ] = publishing.BENCHMARK,
    source: Annotated[
        str | None, typer.Option(metavar="URL", help="What the .eval_results give as their source.", show_default=False)
    ] = None,
) -> None:
    """Merge comparable runs into a leaderboard page, and write each model's scores for the Hugging Face Hub."""
    found = publishing.publish(*runs, output=output, benchmark=benchmark, source=source)
    for note in found.notes:
        ERR.print(note, soft_wrap=True)
    OUT.print(f"leaderboard: {found.page}", soft_wrap=True)
