"""What file names tell of clips, held against who is whose neighbour: speakers that nobody has declared."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from arch_harness.results.checks.diagnoses import NameFacts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arch_harness.datasets import Dataset, Fold

_LEAST_TESTS = 30
_USUAL = 0.95
_LEAST_LIFT = 0.3
"""By how much more often neighbours must agree than labels alone explain: a third of the way is no accident."""


@dataclass(frozen=True)
class Neighbour:
    """A test clip and the training clip of its fold that is nearest to it: indices into the dataset's clips.

    Attributes:
        cosine: of their embeddings, less the mean of all.
        fold: its number.
        train: the training clip.
        test: the test clip.
    """

    cosine: float
    fold: int
    train: int
    test: int


def look_at_names(dataset: Dataset, nearest: Sequence[Neighbour]) -> NameFacts | None:
    """The part of the file names by which clips are neighbours, beyond what their labels explain.

    That a name holds the label is no leak: an encoder is sent samples, and no name. But such names often hold more,
    and a probe can use what the audio shows of that: the speaker, the room, the recording.

    Args:
        dataset: one label a clip; one whose clips name their sources needs no guess.
        nearest: of each test clip.

    Returns:
        None where no part is such, or nothing can be told.
    """
    if dataset.targets.ndim != 1 or len(nearest) < _LEAST_TESTS or any(clip.source for clip in dataset.clips):
        return None
    names = [re.split(r"[\W_]+", clip.path.rsplit("/", 1)[-1].rpartition(".")[0]) for clip in dataset.clips]
    parts, usual = Counter(map(len, names)).most_common(1)[0]
    if usual < _USUAL * len(names):
        return None
    found = []
    for part in range(parts):
        values = [name[part] if len(name) == parts else "" for name in names]
        if _may_be_sources(dataset, values):
            same, expected = _agreement(dataset, np.unique(values, return_inverse=True)[1], nearest)
            shared = set(values)
            found.append(NameFacts(part=part + 1, values=len(shared), example=values[0], same=same, expected=expected))
    best = max(found, key=lambda one: one.same - one.expected, default=None)
    return best if best is not None and best.same - best.expected >= _LEAST_LIFT else None


def _may_be_sources(dataset: Dataset, values: Sequence[str]) -> bool:
    """Whether each value stands for several clips, and most values for clips of several labels."""
    counts = Counter(values)
    labels = Counter(value for value, _ in set(zip(values, dataset.targets.tolist(), strict=True)))
    several = sum(count > 1 for count in labels.values())
    return 1 < len(counts) <= len(values) / 5 and several > len(counts) / 2


def _agreement(dataset: Dataset, values: NDArray[np.int64], nearest: Sequence[Neighbour]) -> tuple[float, float]:
    """How often a test clip's neighbour has its value, and how often any training clip of the neighbour's label has."""
    targets = dataset.targets.astype(np.int64)
    same, expected = [], []
    for number, fold in enumerate(dataset.folds):
        of_fold = [one for one in nearest if one.fold == number]
        train, test = (np.array([getattr(one, part) for one in of_fold], dtype=np.int64) for part in ("train", "test"))
        if not len(test):
            continue
        share = _shares(fold, targets, values)
        same.append(values[train] == values[test])
        expected.append(share[targets[train], values[test]])
    return float(np.concatenate(same).mean()), float(np.concatenate(expected).mean())


def _shares(fold: Fold, targets: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.float64]:
    """FP64 [labels, values]: of the training clips of a label, the share that has a value."""
    counts = np.zeros((targets.max() + 1, values.max() + 1))
    np.add.at(counts, (targets[fold.train], values[fold.train]), 1)
    shares: NDArray[np.float64] = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    return shares
