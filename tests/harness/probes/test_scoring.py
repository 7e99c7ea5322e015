"""Properties that any honest probe has, over whole datasets, and what is stored and compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from arch_common.errors import ScoreError
from arch_harness.datasets import Clip, Dataset, Declaration, Fold, Listing
from arch_harness.probes import Scored, probe_dataset
from arch_harness.results.run import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from arch_harness.results.scores import ProbeName
    from numpy.typing import NDArray

PROBES: list[ProbeName] = ["linear", "logreg", "mlp", "knn"]


def dataset_of(targets: NDArray[Any], folds: list[Fold], tmp_path: Path) -> Dataset:
    declaration = Declaration(
        id="made",
        title="Made",
        domain="synthetic",
        task="single_label" if targets.ndim == 1 else "multi_label",
        licence="none",
        citation="none",
        max_seconds=1,
        files=(),
        find_clips=lambda _folder: Listing([]),
        split=lambda _clips: [],
    )
    classes = int(targets.max()) + 1 if targets.ndim == 1 else targets.shape[1]
    clips = [Clip(f"{index}.wav", ("x",), "all") for index in range(len(targets))]
    return Dataset(declaration, tmp_path, clips, [f"class {index}" for index in range(classes)], targets, folds)


def two_folds(clips: int) -> list[Fold]:
    half = np.arange(clips) % 2 == 0
    inside, outside = np.flatnonzero(half), np.flatnonzero(~half)
    return [Fold("a", inside[20:], inside[:20], outside), Fold("b", outside[20:], outside[:20], inside)]


def one_fold(clips: int) -> list[Fold]:
    order = np.arange(clips)
    return [Fold("only", order[: clips // 2], order[clips // 2 : clips // 2 + 20], order[clips // 2 + 20 :])]


def settings(seeds: int = 1, epochs: int = 200) -> Settings:
    return Settings(seed=0, seeds=seeds, epochs=epochs, concurrency=1, workers=1)


def probed(probe: ProbeName, dataset: Dataset, embeddings: NDArray[np.float32], **options: Any) -> Scored:
    everything = np.ones(len(embeddings), dtype=np.bool_)
    return probe_dataset(probe, dataset, embeddings, options.pop("succeeded", everything), settings(**options))


@pytest.mark.parametrize("probe", PROBES)
def test_a_leaked_label_gives_everything(probe: ProbeName, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    targets = random.integers(0, 5, 400)
    embeddings = (10 * np.eye(8)[targets] + 0.01 * random.standard_normal((400, 8))).astype(np.float32)
    found = probed(probe, dataset_of(targets, two_folds(400), tmp_path), embeddings)
    assert found.score.score == 1
    assert found.score.macro_f1 == found.score.balanced_accuracy == 1
    labels = np.eye(5, dtype=np.bool_)[targets]
    found = probed(probe, dataset_of(labels, two_folds(400), tmp_path), embeddings)
    assert found.metric == "map_macro"
    assert found.score.score == pytest.approx(1)
    assert found.score.map_weighted == pytest.approx(1)


@pytest.mark.parametrize("probe", PROBES)
def test_random_embeddings_give_chance_within_the_interval(probe: ProbeName, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    embeddings = random.standard_normal((600, 8)).astype(np.float32)
    inside = 0
    for _ in range(4):
        targets = random.permutation(np.arange(600) % 4)
        found = probed(probe, dataset_of(targets, one_fold(600), tmp_path), embeddings, epochs=20)
        inside += found.score.interval.low <= 0.25 <= found.score.interval.high
    assert inside >= 3  # of a hundred intervals, five may miss
    labels = random.random((600, 6)) < 0.3
    found = probed(probe, dataset_of(labels, one_fold(600), tmp_path), embeddings, epochs=20)
    assert found.chance == pytest.approx(labels[320:].mean())
    # Average precision of a random order is a little above the positive rate.
    assert found.chance - 0.05 < found.score.score < found.chance + 0.08


@pytest.mark.parametrize("probe", PROBES)
def test_a_constant_embedding_gives_the_majority_rate(probe: ProbeName, tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    targets = (random.random(400) < 0.2).astype(np.int64) + (random.random(400) < 0.1)
    dataset = dataset_of(targets, two_folds(400), tmp_path)
    found = probed(probe, dataset, np.ones((400, 4), dtype=np.float32))
    assert np.bincount(targets).argmax() == 0
    if probe != "knn":  # with all clips equally near, the neighbours that vote are arbitrary
        assert found.score.score == pytest.approx(found.chance)
    assert found.chance == pytest.approx(np.mean([np.mean(targets[fold.test] == 0) for fold in dataset.folds]))
    labels = random.random((400, 5)) < 0.2
    found = probed(probe, dataset_of(labels, two_folds(400), tmp_path), np.ones((400, 4), dtype=np.float32))
    # With all clips ranked equal, average precision is the share of clips that bear the class.
    assert found.score.score == pytest.approx(found.chance)


@pytest.mark.parametrize("probe", PROBES)
def test_the_order_of_the_clips_changes_nothing_but_seed_noise(probe: ProbeName, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    targets = random.integers(0, 4, 500)
    embeddings = (np.eye(6)[targets] + random.standard_normal((500, 6))).astype(np.float32)
    folds, order = two_folds(500), random.permutation(500)
    place = np.argsort(order)
    moved = [Fold(fold.name, place[fold.train], place[fold.validation], place[fold.test]) for fold in folds]
    before = probed(probe, dataset_of(targets, folds, tmp_path), embeddings, epochs=60)
    after = probed(probe, dataset_of(targets[order], moved, tmp_path), embeddings[order], epochs=60)
    assert after.score.score == pytest.approx(before.score.score, abs=0.02 if probe in ("linear", "mlp") else 1e-9)
    assert after.chance == before.chance


def test_seeds_give_mean_and_standard_deviation(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    targets = random.integers(0, 4, 300)
    embeddings = (np.eye(6)[targets] + random.standard_normal((300, 6))).astype(np.float32)
    dataset = dataset_of(targets, two_folds(300), tmp_path)
    found = probed("linear", dataset, embeddings, seeds=3, epochs=3).score
    assert len(found.seed_scores) == 3
    assert found.score == pytest.approx(np.mean(found.seed_scores))
    assert found.std == pytest.approx(np.std(found.seed_scores, ddof=1))
    assert found.std
    assert found.score == pytest.approx(np.mean([fold.score for fold in found.folds]))
    assert np.sum(found.confusion or []) == 3 * 300
    # The first of three seeds is what one seed alone gives.
    assert probed("linear", dataset, embeddings, epochs=3).score.score == pytest.approx(found.seed_scores[0])
    assert probed("linear", dataset, embeddings, epochs=3).score.std is None


@pytest.mark.parametrize("probe", PROBES)
def test_a_failed_clip_leaves_every_part_of_a_fold(probe: ProbeName, tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    targets = random.integers(0, 3, 600)
    embeddings = (10 * np.eye(16)[targets] + 0.01 * random.standard_normal((600, 16))).astype(np.float32)
    succeeded = random.random(600) < 0.8
    embeddings[~succeeded] = 0
    found = probed(probe, dataset_of(targets, two_folds(600), tmp_path), embeddings, succeeded=succeeded)
    assert found.score.score > 0.99
    assert sum(fold.test for fold in found.score.folds) == succeeded.sum()
    assert succeeded[found.predictions.clips].all()
    none = np.zeros(600, dtype=np.bool_)
    none[targets == 0] = True
    none[two_folds(600)[0].test] = False
    with pytest.raises(ScoreError, match="0 test clips left"):
        probed(probe, dataset_of(targets, two_folds(600), tmp_path), embeddings, succeeded=none)


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("multi_label", [False, True])
def test_a_class_without_test_clips_or_without_training_clips(
    probe: ProbeName, multi_label: bool, tmp_path: Path
) -> None:
    random = np.random.default_rng(6)
    targets = random.integers(0, 3, 300)
    targets[:20] = 3  # trained on, never tested
    targets[250:] = 4  # tested, never trained on
    embeddings = (10 * np.eye(5)[targets] + 0.01 * random.standard_normal((300, 5))).astype(np.float32)
    labels = np.eye(5, dtype=np.bool_)[targets]
    found = probed(probe, dataset_of(labels if multi_label else targets, one_fold(300), tmp_path), embeddings).score
    assert found.classes_without_test_clips == ["class 3"]
    assert found.classes[3].clips == 0
    assert found.classes[4].clips == 50
    if multi_label:
        assert found.classes[3].average_precision == 0
        assert found.map_macro is not None
        assert found.map_macro <= 4 / 5
    else:
        assert found.confusion is not None
        assert sum(found.confusion[3]) == 0
        assert found.classes[4].recall == 0
