"""`arch cache`: what the embedding store holds, and making room."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from arch_harness.errors import ArchError, UsageError

if TYPE_CHECKING:
    from arch_harness.embedding_store import EntryFacts

app = typer.Typer(name="cache", help="The embedding store: list, prune.", no_args_is_help=True)

_out = Console()
_err = Console(stderr=True)

Cache = Annotated[
    Path | None,
    typer.Option("--cache", envvar="ARCH_CACHE", help="The embedding store. [$XDG_CACHE_HOME/arch or ~/.cache/arch]"),
]


def root_of(cache: Path | None) -> Path:
    """The embedding store's folder; where it is not named, in the user's cache folder."""
    return cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "arch"


@contextmanager
def _bench_part() -> Iterator[None]:
    """Say which part of arch is missing when one of its packages is."""
    from arch_harness.cli import part  # not at the top: that module registers this one's commands

    with part("bench"):
        yield


@app.command("list")
def list_entries(cache: Cache = None) -> None:
    """Show what is stored, the entry used last first."""
    with _bench_part():
        from arch_harness.embedding_store import EmbeddingStore
    root = root_of(cache)
    entries = EmbeddingStore(root).entries()
    if not entries:
        _out.print(f"no embeddings in {root}", highlight=False, soft_wrap=True)
        return
    table = Table(title=f"Embeddings in {root}", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("model", "content", "dataset", "folder", "layers", "clips", "MB", "days unused"):
        right = column in {"layers", "clips", "MB", "days unused"}
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for one in entries:
        table.add_row(
            *(_value(one, key) for key in ("model", "content_hash", "dataset", "folder", "layers")),
            f"{one.clips:,}",
            _megabytes(one.size),
            f"{one.idle_days:.1f}",
        )
    _out.print(table)
    _out.print(f"{_megabytes(sum(one.size for one in entries))} MB in all", highlight=False)


def _value(entry: EntryFacts, key: str) -> str:
    if entry.key is None:
        return "?"
    value = str(entry.key.get(key, "?"))
    return value.removeprefix("sha256:")[:12] if key == "content_hash" else value


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f}"


@app.command()
def prune(
    cache: Cache = None,
    unused_days: Annotated[float | None, typer.Option(min=0, help="Only what no run used for so many days.")] = None,
    model: Annotated[str | None, typer.Option(help="Only of this model: its name, or how its hash begins.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Only of this dataset.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that is stored.")] = False,
) -> None:
    """Delete stored embeddings that all of the given options fit, and say what that frees."""
    with _bench_part():
        from arch_harness.embedding_store import EmbeddingStore
    narrowed = unused_days is not None or model is not None or dataset is not None
    if everything == narrowed:
        raise UsageError("say what to delete: --unused-days, --model and --dataset, together or alone, or --all")
    store = EmbeddingStore(root_of(cache))
    freed = deleted = busy = 0
    for one in store.entries():
        wanted = (
            (unused_days is None or one.idle_days >= unused_days)
            and (model is None or _is_of(one, model))
            and (dataset is None or _value(one, "dataset") == dataset)
        )
        if not wanted:
            continue
        if store.remove(one):
            deleted, freed = deleted + 1, freed + one.size
        else:
            busy += 1
            _err.print(
                f"arch: {_value(one, 'model')} on {_value(one, 'dataset')} is in use and stays: {one.folder}",
                highlight=False,
                soft_wrap=True,
            )
    entries = "entry" if deleted == 1 else "entries"
    _out.print(
        f"deleted {deleted} {entries} of {store.root}: {_megabytes(freed)} MB freed", highlight=False, soft_wrap=True
    )
    if busy:
        raise typer.Exit(ArchError.exit_code)


def _is_of(entry: EntryFacts, model: str) -> bool:
    content = str((entry.key or {}).get("content_hash", "")).removeprefix("sha256:")
    wanted = model.removeprefix("sha256:")
    # Eight digits of a hash are no model's name by chance.
    return _value(entry, "model") == model or (len(wanted) >= 8 and content.startswith(wanted))
