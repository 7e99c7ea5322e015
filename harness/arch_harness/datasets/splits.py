"""The split rules of the protocol. Each is a function of the clips' order and groups, and of nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from arch_harness.datasets.declaration import Clip, Fold

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Of every random draw, as in the ARCH reference.
SEED = 42


def hold_out(indices: Sequence[int], share: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw `share` of the indices at random: (kept, held out), as scikit-learn's train_test_split orders them."""
    from sklearn.model_selection import train_test_split

    kept, held_out = train_test_split(np.asarray(indices, dtype=np.int64), test_size=share, random_state=SEED)
    return kept, held_out


def members(clips: Sequence[Clip]) -> dict[str, list[int]]:
    """The indices of each group's clips, groups in order of first appearance."""
    groups: dict[str, list[int]] = {}
    for index, clip in enumerate(clips):
        groups.setdefault(clip.group, []).append(index)
    return groups


def official(clips: Sequence[Clip], train: str, validation: str, test: str) -> list[Fold]:
    """One fold of three groups; no fold where training or test clips are missing."""
    groups = members(clips)
    parts = [np.array(groups.get(name, ()), dtype=np.int64) for name in (train, validation, test)]
    return _usable([Fold("official", *parts)])


def leave_one_group_out(
    clips: Sequence[Clip], validation_share: float, key: Callable[[str], str | int] = str
) -> list[Fold]:
    """Test on each group in turn; of the others, concatenated in order of first appearance, hold a share out."""
    groups = members(clips)
    folds = []
    for test in sorted(groups, key=key):
        rest = [index for group, indices in groups.items() if group != test for index in indices]
        if len(rest) >= 2:
            train, validation = hold_out(rest, validation_share)
            folds.append(Fold(test, train, validation, np.array(groups[test], dtype=np.int64)))
    return folds


def rotate_groups(clips: Sequence[Clip], order: Sequence[str] | None = None) -> list[Fold]:
    """Test on each group in turn, validate on the next one (wrapping), train on the others.

    Args:
        clips: of the dataset.
        order: the groups; by default those that occur, sorted.
    """
    groups = members(clips)
    order = sorted(groups) if order is None else order
    folds = []
    for position, test in enumerate(order):
        validation = order[(position + 1) % len(order)]
        train = [index for index, clip in enumerate(clips) if clip.group not in {test, validation}]
        parts = (train, groups.get(validation, []), groups.get(test, []))
        folds.append(Fold(test, *(np.array(part, dtype=np.int64) for part in parts)))
    return _usable(folds)


def random_test_and_validation(clips: Sequence[Clip]) -> list[Fold]:
    """20 % of all clips test, then 20 % of the rest validate."""
    if len(clips) < 3:
        return []
    rest, test = hold_out(range(len(clips)), 0.2)
    train, validation = hold_out(rest.tolist(), 0.2)
    return [Fold("random", train, validation, test)]


def _usable(folds: Sequence[Fold]) -> list[Fold]:
    return [fold for fold in folds if len(fold.train) and len(fold.test)]
