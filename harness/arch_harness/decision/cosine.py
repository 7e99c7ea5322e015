"""The embeddings of two models or runs, clip by clip: the cosine similarity of each clip's two embeddings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from arch_common.errors import ArchError, UsageError

from arch_harness.datasets.dataset import STRICT
from arch_harness.embeddings.geometry import cosines_of
from arch_harness.embeddings.reading import read_entry
from arch_harness.embeddings.store import EmbeddingStore

if TYPE_CHECKING:
    from collections.abc import Collection

    from arch_harness.embeddings.store import EntryFacts
    from arch_harness.results.run import DatasetFacts, ModelFacts, Result, Run


@dataclass(frozen=True)
class CosineDifference:
    """How near two entries of the embedding store are.

    Attributes:
        clips: that both hold, their files being of the same size.
        expected: that there should be; less, where some are no longer stored.
        lowest: the smallest cosine similarity of a clip's two embeddings.
        lowest_clip: whose it is.
        mean: over the clips.
    """

    clips: int
    expected: int
    lowest: float
    lowest_clip: str
    mean: float


def compare_entries(
    one: Path,
    other: Path,
    expected: int | None = None,
    without: Collection[str] = (),
    note: Callable[[str], None] = lambda _text: None,
) -> CosineDifference:
    """Compare two entries of the embedding store.

    Args:
        one: folder of an entry.
        other: likewise; the same is compared with itself.
        expected: clips that there should be; by default all that either holds.
        without: paths of clips that do not count.
        note: told of damaged files.

    Raises:
        ArchError: if one cannot be read, they share no clip, or their embeddings differ in length.
    """
    first, second = read_entry(one, note), read_entry(other, note)
    if first.embeddings.shape[1] != second.embeddings.shape[1]:
        sizes = f"{first.embeddings.shape[1]} and {second.embeddings.shape[1]}"
        raise ArchError(f"embeddings of {sizes} numbers have no cosine similarity")
    places = {path: row for row, path in enumerate(second.paths) if path not in without}
    shared = [
        (row, places[path])
        for row, path in enumerate(first.paths)
        if path in places and first.sizes[row] == second.sizes[places[path]]
    ]
    if not shared:
        raise ArchError(f"{one} and {other} hold no clip in common whose file is of the same size")
    rows = np.array(shared)
    cosines = cosines_of(first.embeddings[rows[:, 0]], second.embeddings[rows[:, 1]])
    lowest = int(cosines.argmin())
    if expected is None:
        expected = len({*first.paths, *second.paths} - set(without))
    return CosineDifference(
        len(shared), expected, float(cosines[lowest]), first.paths[rows[lowest, 0]], float(cosines.mean())
    )


def compare_results(
    ours: tuple[Run, Path, Result], theirs: tuple[Run, Path, Result], note: Callable[[str], None]
) -> CosineDifference:
    """Compare the stored embeddings that two results were made of, on the clips that failed in neither.

    Args:
        ours: a run, the folder of its embedding store, and a result of it.
        theirs: likewise.
        note: told of damaged files.

    Raises:
        ArchError: if an entry is not in its store, or does not hold the embeddings of its run any more.
    """
    entries = [_entry(*one) for one in (ours, theirs)]
    result, other = ours[2], theirs[2]
    # What the later run took from the store is what the earlier one used, whether or not that had computed it.
    later = max(result, other, key=lambda one: one.started)
    if entries[0].samefile(entries[1]) and later.stored < later.clips - later.failed:
        raise ArchError(
            f"one entry of the store ({entries[0]}) served both runs, and the later one computed embeddings: they have "
            "replaced the earlier; give each run a store of its own (--cache)"
        )
    failed = {failure.clip for one in (result, other) for failure in one.failures}
    return compare_entries(entries[0], entries[1], expected=result.clips - len(failed), without=failed, note=note)


def _entry(run: Run, store: Path, result: Result) -> Path:
    model = next(one for one in run.models if one.name == result.model)
    dataset = next(one for one in run.datasets if one.id == result.dataset)
    found = [one for one in EmbeddingStore(store).entries() if _is_of(one, model, dataset)]
    if not found:
        raise ArchError(
            f"the store {store} holds no embeddings of {model.name} on {dataset.id}: pruned, or kept elsewhere "
            "(--cache, --baseline-cache)"
        )
    # The same data may have been embedded in several folders: those of the run's own come first.
    return min(found, key=lambda one: one.value("folder") != str(Path(dataset.path).resolve())).folder


def _is_of(entry: EntryFacts, model: ModelFacts, dataset: DatasetFacts) -> bool:
    key = entry.key or {}
    wanted = {
        "content_hash": model.content_hash,
        "precision": model.precision,
        "executed_by": model.executed_by,
        "embedding_size": model.embedding_size,
        "dataset": dataset.id.removesuffix(STRICT),
        "sample_rate": model.sample_rate,
        "max_seconds": dataset.max_seconds,
    }
    return entry.clips > 0 and not entry.preprocessing and all(key.get(name) == value for name, value in wanted.items())


def entries_of(path: Path) -> list[EntryFacts]:
    """The entries that a path names: one by its own folder, or all those of a store; none where it is neither.

    Raises:
        UsageError: if it is an entry whose key cannot be read.
    """
    of_parent = [one for one in EmbeddingStore(path.parent).entries() if one.folder.resolve() == path.resolve()]
    found = of_parent or (EmbeddingStore(path).entries() if path.is_dir() else [])
    for one in of_parent:
        if one.key is None:
            raise UsageError(f"{path} looks like an entry of the embedding store, but its key.json cannot be read")
    return [one for one in found if one.key is not None]
