"""Which clips choose a setting, by hand for each kind of split, and what that is worth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from arch_harness.datasets import Dataset, splits
from arch_harness.datasets.declaration import Clip, Fold
from arch_harness.probes import probe_dataset
from arch_harness.probes.choosing import choosing_parts
from arch_harness.results.run import Settings
from support.made_data import made_declaration

if TYPE_CHECKING:
    from arch_harness.results.scores import ProbeName
    from numpy.typing import NDArray


def clips_of(groups: str, sources: str = "") -> list[Clip]:
    """A clip for each letter; `-` is no source."""
    found = sources or "-" * len(groups)
    return [
        Clip(f"{index}.wav", ("x",), group, source.replace("-", ""))
        for index, (group, source) in enumerate(zip(groups, found, strict=True))
    ]


def fold_of(train: list[int], validation: list[int], test: list[int]) -> Fold:
    return Fold("only", *(np.array(part, dtype=np.int64) for part in (train, validation, test)))


def as_lists(pairs: list[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> list[tuple[list[int], list[int]]]:
    return [(trained.tolist(), compared.tolist()) for trained, compared in pairs]


def test_folds_are_held_out_in_turns_where_validation_is_drawn_from_those_that_train() -> None:
    clips = clips_of("aabbccdd")
    found = choosing_parts(fold_of([0, 2, 4, 5], [1, 3], [6, 7]), clips)
    assert as_lists(found) == [([2, 4, 5], [0, 1]), ([0, 4, 5], [2, 3]), ([0, 2], [4, 5])]


def test_recordings_are_held_out_where_the_group_is_the_official_split() -> None:
    clips = clips_of("ttttttttee", "abcdefag--")
    found = choosing_parts(fold_of([0, 1, 2, 3, 4, 5], [6, 7], [8, 9]), clips)
    # a and f in the first turn, b and g in the second, c, d and e alone; a turn trains on what it does not compare by.
    assert as_lists(found) == [
        ([1, 2, 3, 4], [0, 5, 6]),
        ([0, 2, 3, 4, 5], [1, 7]),
        ([0, 1, 3, 4, 5], [2]),
        ([0, 1, 2, 4, 5], [3]),
        ([0, 1, 2, 3, 5], [4]),
    ]


@pytest.mark.parametrize(
    ("groups", "sources", "train", "validation", "test"),
    [
        pytest.param("aabbcc", "", [0, 1], [2, 3], [4, 5], id="validation is another speaker already"),
        pytest.param("ttvvee", "", [0, 1], [2, 3], [4, 5], id="official split"),
        pytest.param("abcabc", "", [0, 1], [2, 3], [4, 5], id="speakers of the test are trained on too"),
        pytest.param("tttee", "abc--", [0, 1], [2], [3, 4], id="recordings of validation are others already"),
        pytest.param("aaabb", "", [0, 1], [2], [3, 4], id="one fold is all there is to train on"),
        pytest.param("aaabb", "x-x--", [0, 1], [2], [3, 4], id="some recordings are not known"),
    ],
)
def test_validation_chooses_where_it_is_as_far_from_training_as_the_test_is(
    groups: str, sources: str, train: list[int], validation: list[int], test: list[int]
) -> None:
    found = choosing_parts(fold_of(train, validation, test), clips_of(groups, sources))
    assert as_lists(found) == [(train, validation)]


def test_nothing_chooses_where_no_clip_is_left() -> None:
    assert choosing_parts(fold_of([0, 1], [], [2]), clips_of("aab")) == []
    # A turn that would train on nothing is left out: group b has validation clips only.
    assert as_lists(choosing_parts(fold_of([0, 1], [2, 3], [4]), clips_of("aaabc"))) == [([0, 1], [3])]


def test_settings_that_recognise_recordings_are_not_chosen(tmp_path: Path) -> None:
    """Ten recordings of a class in each of five folds, four clips each: another fold is told by many neighbours.

    With the folds hidden, a random validation clip finds its own recording among the training clips.
    """
    random = np.random.default_rng(0)
    classes, size = 6, 64
    means = 0.35 * random.standard_normal((classes, size))
    embeddings, targets, groups = [], [], []
    for fold in range(5):
        for label in range(classes):
            for _ in range(10):
                recording = means[label] + random.standard_normal(size)
                embeddings.append(recording + 0.2 * random.standard_normal((4, size)))
                targets += [label] * 4
                groups += [str(fold)] * 4
    scores: dict[tuple[ProbeName, bool], float] = {}
    chosen: dict[tuple[ProbeName, bool], list[float]] = {}
    names: tuple[ProbeName, ...] = ("knn", "logreg")
    for hidden in (False, True):
        clips = [Clip(f"{index}.wav", ("x",), group) for index, group in enumerate(groups)]
        folds = splits.leave_one_group_out(clips, 0.2)
        shown = [Clip(clip.path, clip.labels, "all") for clip in clips] if hidden else clips
        dataset = Dataset(
            declaration=made_declaration(),
            folder=tmp_path,
            clips=shown,
            classes=[str(label) for label in range(classes)],
            targets=np.array(targets),
            folds=folds,
        )
        for name in names:
            found = probe_dataset(
                name,
                dataset,
                np.concatenate(embeddings).astype(np.float32),
                np.ones(len(clips), dtype=np.bool_),
                Settings(seed=0, seeds=1, epochs=1, concurrency=1, workers=1),
            )
            scores[name, hidden] = found.score.score
            chosen[name, hidden] = [fold.chosen or 0 for fold in found.score.folds]
    assert max(chosen["knn", True]) <= 3
    assert min(chosen["knn", False]) >= 20
    assert scores["knn", False] > scores["knn", True] + 0.1
    assert np.mean(chosen["logreg", False]) < np.mean(chosen["logreg", True])
    assert scores["logreg", False] >= scores["logreg", True]
