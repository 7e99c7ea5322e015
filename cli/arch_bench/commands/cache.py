"""`arch cache`: what the embedding store holds, and making room."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from arch_common.errors import ArchError
from rich.console import Console
from rich.table import Table

from arch_bench import cache
from arch_bench.options import Cache

app = typer.Typer(name="cache", help="The embedding store: list, prune.", no_args_is_help=True)

_out = Console()
_err = Console(stderr=True)


@app.command("list")
def list_entries(cache_folder: Cache = None) -> None:
    """Show what is stored, the entry used last first."""
    root = cache.root(cache_folder)
    entries = cache.entries(root)
    if not entries:
        _out.print(f"no embeddings in {root}", highlight=False, soft_wrap=True)
        return
    table = Table(title=f"Embeddings in {root}", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("model", "content", "dataset", "folder", "layers", "clips", "MB", "days unused"):
        right = column in {"layers", "clips", "MB", "days unused"}
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for one in entries:
        table.add_row(
            *(one.value(key) for key in ("model", "content_hash", "dataset", "folder", "layers")),
            f"{one.clips:,}",
            _megabytes(one.size),
            f"{one.idle_days:.1f}",
        )
    _out.print(table)
    _out.print(f"{_megabytes(sum(one.size for one in entries))} MB in all", highlight=False)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f}"


@app.command()
def prune(
    cache_folder: Cache = None,
    unused_days: Annotated[float | None, typer.Option(min=0, help="Only what no run used for so many days.")] = None,
    model: Annotated[str | None, typer.Option(help="Only of this model: its name, or how its hash begins.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Only of this dataset.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that is stored.")] = False,
) -> None:
    """Delete stored embeddings that all of the given options fit, and say what that frees."""
    pruned = cache.prune(cache_folder, unused_days=unused_days, model=model, dataset=dataset, everything=everything)
    for one in pruned.busy:
        _err.print(
            f"arch: {one.value('model')} on {one.value('dataset')} is in use and stays: {one.folder}",
            highlight=False,
            soft_wrap=True,
        )
    entries = "entry" if len(pruned.removed) == 1 else "entries"
    freed = _megabytes(sum(one.size for one in pruned.removed))
    root: Path = cache.root(cache_folder)
    _out.print(f"deleted {len(pruned.removed)} {entries} of {root}: {freed} MB freed", highlight=False, soft_wrap=True)
    if pruned.busy:
        raise typer.Exit(ArchError.exit_code)
