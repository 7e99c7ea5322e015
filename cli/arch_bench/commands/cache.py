"""`arch cache`: what the embedding store holds, and making room."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from arch_common.errors import ArchError
from rich.table import Table

from arch_bench import cache
from arch_bench.options import Cache
from arch_bench.terminal import ERR, OUT

if TYPE_CHECKING:
    from arch_harness.embeddings.store import EntryFacts

app = typer.Typer(name="cache", help="The embedding store: list, prune.", no_args_is_help=True)


@app.command("list")
def list_entries(cache_folder: Cache = None) -> None:
    """Show what is stored, the entry used last first."""
    root = cache.root(cache_folder)
    entries = cache.entries(root)
    if not entries:
        OUT.print(f"no embeddings in {root}", soft_wrap=True)
        return
    # Not as the table's title, which would break a path where one copies it.
    OUT.print(f"Embeddings in {root}", soft_wrap=True)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("embeddings of", overflow="fold")
    table.add_column("content", no_wrap=True)
    for column in ("layers", "clips", "MB", "days unused"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in entries:
        table.add_row(
            "\n".join(_origin(one, entries)),
            one.value("content_hash"),
            one.value("layers"),
            f"{one.clips:,}",
            _megabytes(one.size),
            f"{one.idle_days:.1f}",
        )
    OUT.print(table)
    OUT.print(f"{_megabytes(sum(one.size for one in entries))} MB in all")


def _origin(one: EntryFacts, entries: Sequence[EntryFacts]) -> list[str]:
    """What an entry holds, in lines, so that no two entries read the same."""
    runs_in = one.value("executed_by") or f"{one.value('precision')}, by what the server did not tell"
    lines = [f"{one.value('model')} on {one.value('dataset')}", f"  {runs_in}", f"  {one.value('folder')}"]
    shown = ("model", "content_hash", "dataset", "folder", "layers", "executed_by")
    alike = [other for other in entries if all(other.value(name) == one.value(name) for name in shown)]
    others = [name for name in one.key or {} if name not in shown and len({other.value(name) for other in alike}) > 1]
    return lines + [f"  {name.replace('_', ' ')}: {one.value(name)}" for name in others]


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
        ERR.print(
            f"arch: {one.value('model')} on {one.value('dataset')} is in use and stays: {one.folder}", soft_wrap=True
        )
    entries = "entry" if len(pruned.removed) == 1 else "entries"
    freed = _megabytes(sum(one.size for one in pruned.removed))
    root: Path = cache.root(cache_folder)
    OUT.print(f"deleted {len(pruned.removed)} {entries} of {root}: {freed} MB freed", soft_wrap=True)
    if pruned.busy:
        raise typer.Exit(ArchError.exit_code)
