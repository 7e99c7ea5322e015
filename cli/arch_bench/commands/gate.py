"""`arch gate`: whether a run may take the place of a baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from arch_bench import options
from arch_bench.decisions import gating
from arch_bench.terminal import ERR, OUT


def gate(
    run: Annotated[Path, typer.Argument(help="A folder that arch bench wrote, or its results.json.")],
    baseline: Annotated[Path, typer.Option(help="What it is held against: likewise.", show_default=False)],
    max_drop: Annotated[
        str | None, typer.Option(help="The most that a score may fall: 1pt. Fails if the fall is real too.")
    ] = None,
    min_speed: Annotated[
        str | None, typer.Option(help="The least ratio of clips/s: 0.95. Needs runs with --repeat 2 or more.")
    ] = None,
    max_p99: Annotated[
        list[str] | None,
        typer.Option(help="The most that p99 may be at a load: 200ms@16/s or 50ms@alone; may be repeated."),
    ] = None,
    max_failed: Annotated[
        str | None, typer.Option(help="The largest share of a dataset's files without an embedding: 1%.")
    ] = None,
    min_cosine: Annotated[
        str | None, typer.Option(help="The least cosine similarity of a clip's two stored embeddings: 0.999.")
    ] = None,
    thresholds: Annotated[
        Path | None, typer.Option(help="A YAML file of the same names; options take the place of what it says.")
    ] = None,
    pair: options.Pairs = None,
    model: Annotated[list[str] | None, typer.Option(help="Only this model; may be repeated.")] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="Only this dataset; may be repeated.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="What cannot be told fails too, with exit code 3.")] = False,
    junit: Annotated[Path | None, typer.Option(help="Write it as JUnit XML.", show_default=False)] = None,
    markdown: options.MarkdownFile = None,
    json: options.JsonFile = None,
    cache: options.Cache = None,
    baseline_cache: options.BaselineCache = None,
) -> None:
    """Hold a run to thresholds against a baseline: exit code 3 if one is really missed, 1 if one cannot be judged."""
    found = gating.gate(
        run,
        baseline,
        thresholds=thresholds,
        max_drop=max_drop,
        min_speed=min_speed,
        max_p99=max_p99,
        max_failed=max_failed,
        min_cosine=min_cosine,
        pairs=options.pairs_of(pair),
        models=model or [],
        datasets=dataset or [],
        strict=strict,
        cache=cache,
        baseline_cache=baseline_cache,
        note=lambda text: ERR.print(text, soft_wrap=True),
    )
    OUT.print(found, soft_wrap=True)
    found.write(junit=junit, markdown=markdown, json=json)
    found.enforce()
