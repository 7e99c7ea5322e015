"""`arch compare`: what differs between runs, and what of it is more than noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from arch_common.errors import ArchError

from arch_bench import options
from arch_bench.decisions import comparing
from arch_bench.terminal import ERR, OUT


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="BASELINE RUN...",
            help="Folders that arch bench wrote, or their results.json: the others are compared with the first. Or "
            "embedding stores, or entries of one.",
            show_default=False,
        ),
    ],
    pair: options.Pairs = None,
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="Compare the stored embeddings too, clip by clip.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every figure that was compared.")] = False,
    markdown: options.MarkdownFile = None,
    html: Annotated[Path | None, typer.Option(help="Write it as a page of its own.", show_default=False)] = None,
    json: options.JsonFile = None,
    cache: options.Cache = None,
    baseline_cache: options.BaselineCache = None,
) -> None:
    """Compare runs on the same clips: scores, speed and p99, and what of their differences is more than noise."""
    found = comparing.compare(
        *runs,
        pairs=options.pairs_of(pair),
        embeddings=embeddings,
        cache=cache,
        baseline_cache=baseline_cache,
        note=lambda text: ERR.print(text, soft_wrap=True),
    )
    OUT.print(replace(found, verbose=verbose))
    found.write(markdown=markdown, html=html, json=json)
    if not found.is_whole:
        raise ArchError("not everything that the runs have in common could be compared: the warnings say what and why")
