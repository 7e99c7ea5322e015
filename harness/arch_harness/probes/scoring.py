"""A dataset's embeddings scored by one probe: every fold and seed trained, every metric, the interval."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from arch_common.errors import ScoreError

from arch_harness.probes import bootstrap, score_functions
from arch_harness.probes.choosing import choosing_parts
from arch_harness.probes.logreg_knn import Part, logistic_regression, nearest_neighbours
from arch_harness.probes.training.networks import Network
from arch_harness.probes.training.schedule import Problem
from arch_harness.probes.training.trainer import CPU, train
from arch_harness.results.predictions import Predictions
from arch_harness.results.scores import ClassScore, FoldScore, Interval, ProbeScore

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arch_harness.datasets import Dataset, Fold
    from arch_harness.results.run import Settings
    from arch_harness.results.scores import ProbeName, ScoreMetric

_NETWORKS = ("linear", "mlp")
_WITHOUT_SEED = {"logreg": logistic_regression, "knn": nearest_neighbours}


@dataclass(frozen=True)
class Scored:
    """A probe's scores, what it made of each test clip, and the score of knowing nothing."""

    score: ProbeScore
    metric: ScoreMetric
    chance: float
    predictions: Predictions


@dataclass(frozen=True)
class _Tested:
    """The outputs for one fold's test clips, FP32 [seeds, clips, classes], and what was chosen."""

    fold: Fold
    outputs: NDArray[np.float32]
    chosen: float | None = None


def probe_dataset(
    probe: ProbeName,
    dataset: Dataset,
    embeddings: NDArray[np.float32],
    succeeded: NDArray[np.bool_],
    settings: Settings,
    on_epoch: Callable[[], None] = lambda: None,
) -> Scored:
    """Train a probe on every fold with every seed, and score it.

    Args:
        probe: which one.
        dataset: labels and folds.
        embeddings: FP32 [clips, dimensions].
        succeeded: bool [clips]; a clip without embedding leaves every part of a fold, and its label with it.
        settings: seed, number of seeds, epochs.
        on_epoch: called `epochs_of` times: after each epoch of each fold and seed.

    Raises:
        ScoreError: if a fold has no clips left to train or to test on.
    """
    if probe in _NETWORKS:
        network = Network(embeddings.shape[1], len(dataset.classes), hidden=probe == "mlp")
        return probe_network(probe, network, dataset, embeddings, succeeded, settings, on_epoch)[0]
    clock = time.perf_counter()
    targets = _as_matrix(dataset)
    multi_label = dataset.targets.ndim == 2
    tested = list(_without_seed(probe, dataset, _folds(dataset, succeeded), embeddings, targets, on_epoch))
    score = _multi_label if multi_label else _single_label
    return score(probe, dataset, tested, settings, clock, CPU)


def probe_network(
    probe: ProbeName,
    network: Network,
    dataset: Dataset,
    embeddings: NDArray[np.float32],
    succeeded: NDArray[np.bool_],
    settings: Settings,
    on_epoch: Callable[[], None] = lambda: None,
) -> tuple[Scored, NDArray[np.float32]]:
    """Train a network on every fold with every seed, and score it.

    Args:
        probe: what the scores are filed under.
        network: takes rows of `embeddings`.
        dataset: see `probe_dataset`, and so are the others.
        embeddings: FP32 [clips, network.inputs].
        succeeded: see there.
        settings: see there.
        on_epoch: see there.

    Returns:
        The scores, and the trained parameters FP32 [folds * seeds, network.size].

    Raises:
        ScoreError: if a fold has no clips left to train or to test on.
    """
    clock = time.perf_counter()
    folds = _folds(dataset, succeeded)
    multi_label = dataset.targets.ndim == 2
    # The fold's name joins the seed, so that a fold's score does not depend on which other folds exist.
    problems = [
        Problem(fold.train, (settings.seed + offset, *fold.name.encode()))
        for fold in folds
        for offset in range(settings.seeds)
    ]
    parameters, trained_on = train(
        network, embeddings, _as_matrix(dataset), multi_label, problems, settings.epochs, on_epoch
    )
    of_fold = parameters.reshape(len(folds), settings.seeds, network.size)
    tested = [
        _Tested(fold, np.stack([network.logits(row, embeddings[fold.test]) for row in rows]))
        for fold, rows in zip(folds, of_fold, strict=True)
    ]
    score = _multi_label if multi_label else _single_label
    return score(probe, dataset, tested, settings, clock, trained_on), parameters


def _folds(dataset: Dataset, succeeded: NDArray[np.bool_]) -> list[Fold]:
    folds = [without_failed(fold, succeeded) for fold in dataset.folds]
    for fold in folds:
        if not len(fold.train) or not len(fold.test):
            raise ScoreError(f"fold {fold.name} has {len(fold.train)} training and {len(fold.test)} test clips left")
    return folds


def epochs_of(probe: ProbeName, folds: int, settings: Settings) -> int:
    """How often `probe_dataset` calls `on_epoch`."""
    return folds * settings.seeds * settings.epochs if probe in _NETWORKS else folds


def without_failed(fold: Fold, succeeded: NDArray[np.bool_]) -> Fold:
    """The fold without the clips that have no embedding."""
    return type(fold)(fold.name, *(part[succeeded[part]] for part in (fold.train, fold.validation, fold.test)))


def _as_matrix(dataset: Dataset) -> NDArray[np.float32]:
    if dataset.targets.ndim == 2:
        return dataset.targets.astype(np.float32)
    targets = np.zeros((len(dataset.targets), len(dataset.classes)), dtype=np.float32)
    targets[np.arange(len(targets)), dataset.targets.astype(np.int64)] = 1
    return targets


def _without_seed(
    probe: ProbeName,
    dataset: Dataset,
    folds: Sequence[Fold],
    embeddings: NDArray[np.float32],
    targets: NDArray[np.float32],
    on_fold: Callable[[], None],
) -> Iterator[_Tested]:
    def part(clips: NDArray[np.int64]) -> Part:
        return embeddings[clips], targets[clips]

    for fold in folds:
        trained = part(fold.train)
        choosing = [
            (trained if clips is fold.train else part(clips), part(held))
            for clips, held in choosing_parts(fold, dataset.clips)
        ]
        multi_label = dataset.targets.ndim == 2
        outputs, chosen = _WITHOUT_SEED[probe](trained, choosing, embeddings[fold.test], multi_label)
        on_fold()
        yield _Tested(fold, outputs[None], chosen)


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _predictions(
    dataset: Dataset, tested: Sequence[_Tested], metric: ScoreMetric, values: NDArray[np.float32]
) -> Predictions:
    clips = np.concatenate([one.fold.test for one in tested])
    names: dict[str, int] = {}
    groups = [names.setdefault(dataset.clips[clip].group, len(names)) for clip in clips.tolist()]
    return Predictions(
        metric=metric,
        clips=clips,
        folds=np.repeat(np.arange(len(tested)), [len(one.fold.test) for one in tested]),
        groups=np.array(groups, dtype=np.int64),
        values=values,
        truth=dataset.targets[clips].astype(np.bool_) if dataset.targets.ndim == 2 else np.zeros((len(clips), 0), bool),
    )


def _finish(
    probe: ProbeName,
    settings: Settings,
    clock: float,
    trained_on: str,
    chance: float,
    predictions: Predictions,
    seed_scores: list[float],
    folds: list[FoldScore],
    classes: list[ClassScore],
    confusion: list[list[int]] | None = None,
) -> Scored:
    low, high = bootstrap.interval(bootstrap.resampled_scores(predictions, settings.seed))

    def over_folds(name: str) -> float | None:
        values = [getattr(fold, name) for fold in folds]
        return None if None in values else _mean(values)

    score = ProbeScore(
        probe=probe,
        score=_mean(seed_scores),
        std=float(np.std(seed_scores, ddof=1)) if len(seed_scores) > 1 else None,
        seed_scores=seed_scores,
        interval=Interval(
            low=low, high=high, unit=predictions.unit, units=predictions.units, resamples=bootstrap.RESAMPLES
        ),
        macro_f1=over_folds("macro_f1"),
        balanced_accuracy=over_folds("balanced_accuracy"),
        map_macro=over_folds("map_macro"),
        map_weighted=over_folds("map_weighted"),
        folds=folds,
        classes=classes,
        classes_without_test_clips=[one.name for one in classes if not one.clips],
        confusion=confusion,
        trained_on=trained_on,
        seconds=time.perf_counter() - clock,
    )
    return Scored(score, predictions.metric, chance, predictions)


def _sizes(fold: Fold) -> dict[str, int]:
    return {"train": len(fold.train), "validation": len(fold.validation), "test": len(fold.test)}


def _single_label(
    probe: ProbeName, dataset: Dataset, tested: Sequence[_Tested], settings: Settings, clock: float, trained_on: str
) -> Scored:
    targets, classes = dataset.targets.astype(np.int64), len(dataset.classes)
    folds, correct, seed_scores, chance = [], [], [], []
    total = np.zeros((len(tested[0].outputs), classes, classes), dtype=np.int64)
    for one in tested:
        truth, predicted = targets[one.fold.test], one.outputs.argmax(axis=2)
        matrices = np.stack([score_functions.confusion_matrix(truth, row, classes) for row in predicted])
        total += matrices
        seed_scores.append([score_functions.accuracy(matrix) for matrix in matrices])
        correct.append((predicted == truth).mean(axis=0, dtype=np.float32))
        chance.append(np.bincount(truth).max() / len(truth))
        folds.append(
            FoldScore(
                fold=one.fold.name,
                **_sizes(one.fold),
                accuracy=_mean(seed_scores[-1]),
                macro_f1=_mean([score_functions.macro_f1(matrix) for matrix in matrices]),
                balanced_accuracy=_mean([score_functions.balanced_accuracy(matrix) for matrix in matrices]),
                chosen=one.chosen,
            )
        )
    tables = [score_functions.class_table(matrix) for matrix in total]
    class_scores = [
        ClassScore(
            name=name,
            clips=int(tables[0].support[index]),
            precision=_mean([table.precision[index] for table in tables]),
            recall=_mean([table.recall[index] for table in tables]),
            f1=_mean([table.f1[index] for table in tables]),
        )
        for index, name in enumerate(dataset.classes)
    ]
    predictions = _predictions(dataset, tested, "accuracy", np.concatenate(correct))
    return _finish(
        probe,
        settings,
        clock,
        trained_on,
        _mean(chance),
        predictions,
        np.mean(seed_scores, axis=0).tolist(),
        folds,
        class_scores,
        total.sum(axis=0).tolist(),
    )


def _multi_label(
    probe: ProbeName, dataset: Dataset, tested: Sequence[_Tested], settings: Settings, clock: float, trained_on: str
) -> Scored:
    targets = dataset.targets.astype(np.bool_)
    folds, seed_scores, chance = [], [], []
    precision = np.zeros((len(tested), len(dataset.classes)))
    for row, one in enumerate(tested):
        truth = targets[one.fold.test]
        of_seeds = [score_functions.average_precision(truth, outputs) for outputs in one.outputs]
        precision[row] = np.mean(of_seeds, axis=0)
        seed_scores.append([score_functions.map_macro(found) for found in of_seeds])
        chance.append(float(truth.mean()))
        folds.append(
            FoldScore(
                fold=one.fold.name,
                **_sizes(one.fold),
                map_macro=_mean(seed_scores[-1]),
                map_weighted=_mean([score_functions.map_weighted(found, truth) for found in of_seeds]),
                chosen=one.chosen,
            )
        )
    support = targets[np.concatenate([one.fold.test for one in tested])].sum(axis=0)
    class_scores = [
        ClassScore(name=name, clips=int(support[index]), average_precision=float(precision[:, index].mean()))
        for index, name in enumerate(dataset.classes)
    ]
    predictions = _predictions(dataset, tested, "map_macro", np.concatenate([one.outputs for one in tested], axis=1))
    return _finish(
        probe,
        settings,
        clock,
        trained_on,
        _mean(chance),
        predictions,
        np.mean(seed_scores, axis=0).tolist(),
        folds,
        class_scores,
    )
