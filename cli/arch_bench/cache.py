"""The embedding store, as the commands and the API find it."""

from __future__ import annotations

import math
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from arch_common.errors import ArchError, UsageError
from arch_common.files import can_be_written, check_folder

from arch_bench.extras import needs

if TYPE_CHECKING:
    from arch_harness.embeddings.store import EntryFacts


@dataclass(frozen=True)
class Pruned:
    """What `prune` did.

    Attributes:
        removed: the entries that are gone.
        busy: those that a process was using, and that stay.
    """

    removed: list[EntryFacts]
    busy: list[EntryFacts]


def root(cache: str | Path | None = None) -> Path:
    """The store's folder: `cache`, or `$ARCH_CACHE`, or a folder in the user's cache.

    Where the user's cache cannot be written, as with a container's user who has no home, it is one for temporary files.

    Raises:
        UsageError: if that cannot be written either.
    """
    if named := cache or os.environ.get("ARCH_CACHE"):
        return Path(named)
    usual = _usual()
    return usual if usual is not None and can_be_written(usual) else _makeshift()


def check(cache: str | Path | None = None) -> None:
    """Look whether embeddings can be kept in the store.

    Raises:
        UsageError: if it is a file or below one, or cannot be written.
    """
    check_folder(root(cache), "--cache" if cache else "ARCH_CACHE")


def makeshift_note(cache: str | Path | None = None) -> str:
    """What to tell of a store among the temporary files; empty where it lies elsewhere."""
    found = root(cache)
    if cache or os.environ.get("ARCH_CACHE") or found == _usual():
        return ""
    return f"embeddings are kept in {found}, for no home can be written: set HOME, ARCH_CACHE or --cache to keep them"


def _usual() -> Path | None:
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "arch"
    except RuntimeError:  # neither HOME nor a known user
        return None


def _makeshift() -> Path:
    try:
        folder = Path(tempfile.gettempdir()) / f"arch-{os.getuid()}"
        # Others can make one of this name before us, and put into it what they like.
        if (
            not folder.is_symlink()
            and can_be_written(folder)
            and (not folder.exists() or folder.stat().st_uid == os.getuid())
        ):
            return folder
    except OSError:  # nowhere can a file be written
        pass
    raise UsageError("there is no folder to keep embeddings in: set HOME, or name one with --cache or ARCH_CACHE")


def entries(cache: str | Path | None = None) -> list[EntryFacts]:
    """What is stored, the entry used last first.

    Raises:
        ArchError: if the store cannot be read.
    """
    with needs("bench"):
        from arch_harness.embeddings.store import EmbeddingStore
    return EmbeddingStore(root(cache)).entries()


def prune(
    cache: str | Path | None = None,
    *,
    unused_days: float | None = None,
    model: str | None = None,
    dataset: str | None = None,
    everything: bool = False,
) -> Pruned:
    """Delete the stored embeddings that all of the given conditions fit.

    Args:
        cache: the store's folder.
        unused_days: only what no run used for so many days.
        model: only of this model: its name, or at least 8 digits of its content hash.
        dataset: only of this dataset.
        everything: all that is stored; to be given alone.

    Raises:
        UsageError: if no condition is given, or `everything` with one, or so many days cannot be.
        ArchError: if an entry cannot be deleted.
    """
    narrowed = unused_days is not None or model is not None or dataset is not None
    if everything == narrowed:
        raise UsageError("say what to delete: --unused-days, --model and --dataset, together or alone, or --all")
    if unused_days is not None and not 0 <= unused_days < math.inf:
        raise UsageError(f"unused days cannot be {unused_days}: give a number from 0 on")
    with needs("bench"):
        from arch_harness.embeddings.store import EmbeddingStore
    store = EmbeddingStore(root(cache))
    pruned = Pruned([], [])
    for one in store.entries():
        wanted = (
            (unused_days is None or one.idle_days >= unused_days)
            and (model is None or one.is_of(model))
            and (dataset is None or one.value("dataset") == dataset)
        )
        if not wanted:
            continue
        try:
            (pruned.removed if store.remove(one) else pruned.busy).append(one)
        except ArchError as error:
            raise ArchError(f"{error}; deleted before that: {len(pruned.removed)}") from error
    return pruned
