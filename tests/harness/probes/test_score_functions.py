"""Metrics against scikit-learn's, intervals against simulation."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from arch_harness.probes import bootstrap, score_functions
from arch_harness.results.predictions import Predictions
from sklearn import metrics as reference

if TYPE_CHECKING:
    from numpy.typing import NDArray


@pytest.mark.parametrize("seed", range(5))
def test_single_label_metrics_are_scikit_learn_s(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth, predicted = (
        random.integers(0, 9, 60),
        random.integers(0, 10, 60),
    )  # 9 is predicted and never true; 10 neither
    confusion = score_functions.confusion_matrix(truth, predicted, 11)
    assert (confusion == reference.confusion_matrix(truth, predicted, labels=range(11))).all()
    assert score_functions.accuracy(confusion) == pytest.approx(reference.accuracy_score(truth, predicted))
    expected = reference.f1_score(truth, predicted, average="macro", zero_division=0)
    assert score_functions.macro_f1(confusion) == pytest.approx(expected)
    table = score_functions.class_table(confusion)
    of_classes = reference.precision_recall_fscore_support(truth, predicted, labels=range(11), zero_division=0)
    for mine, theirs in zip((table.precision, table.recall, table.f1, table.support), of_classes, strict=True):
        np.testing.assert_allclose(mine, theirs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns that a predicted class is not in the truth
        expected = reference.balanced_accuracy_score(truth, predicted)
    assert score_functions.balanced_accuracy(confusion) == pytest.approx(expected)


@pytest.mark.parametrize("ties", [False, True])
def test_average_precision_is_scikit_learn_s(ties: bool) -> None:
    random = np.random.default_rng(0)
    truth = random.random((80, 6)) < 0.2
    truth[:, 3] = False  # a class that no clip bears
    truth[:, 4] = True
    scores = random.standard_normal((80, 6)).astype(np.float32)
    if ties:
        scores = scores.round()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of the class without positives, and takes 0
        expected = reference.average_precision_score(truth, scores, average=None)
        macro = reference.average_precision_score(truth, scores, average="macro")
        weighted = reference.average_precision_score(truth, scores, average="weighted")
    found = score_functions.average_precision(truth, scores)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found[3] == 0
    assert score_functions.map_macro(found) == pytest.approx(macro)
    assert score_functions.map_weighted(found, truth) == pytest.approx(weighted)


def test_resampled_average_precision_is_that_of_the_sample_written_out() -> None:
    random = np.random.default_rng(1)
    truth, scores = random.random((50, 4)) < 0.3, random.standard_normal((50, 4)).astype(np.float32).round(1)
    counts = np.stack([np.bincount(random.integers(0, 50, 50), minlength=50) for _ in range(3)]).astype(np.float32)
    found = score_functions.resampled_average_precision(truth, scores, counts)
    for sample in range(3):
        rows = np.repeat(np.arange(50), counts[sample].astype(int))
        np.testing.assert_allclose(
            found[:, sample], score_functions.average_precision(truth[rows], scores[rows]), rtol=1e-5
        )


def right_or_wrong(
    values: NDArray[Any], folds: NDArray[np.int64] | None = None, groups: NDArray[np.int64] | None = None
) -> Predictions:
    count = len(values)
    none = np.zeros(count, dtype=np.int64)
    return Predictions(
        metric="accuracy",
        clips=np.arange(count),
        folds=none if folds is None else folds,
        groups=none if groups is None else groups,
        values=values.astype(np.float32),
        truth=np.zeros((count, 0), dtype=np.bool_),
    )


def test_the_interval_covers_the_truth_about_95_percent_of_the_time() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        predictions = right_or_wrong(random.random(200) < 0.7)
        low, high = bootstrap.interval(bootstrap.resampled_scores(predictions, trial, 400))
        covered += low <= 0.7 <= high
    assert 0.91 <= covered / 300 <= 0.98  # 3 standard errors of 0.95, and what the method itself is known to lack


@pytest.mark.slow
def test_the_map_interval_covers_what_such_test_sets_score_on_average() -> None:
    random = np.random.default_rng(0)

    def predictions() -> Predictions:
        truth = random.random((400, 20)) < 0.02
        outputs = (1.5 * truth + random.standard_normal((1, 400, 20))).astype(np.float32)
        plain = right_or_wrong(np.zeros(400))
        return Predictions("map_macro", plain.clips, plain.folds, plain.groups, outputs, truth)

    expected = np.mean([bootstrap.score(predictions()) for _ in range(400)])
    covered = 0
    for trial in range(100):
        low, high = bootstrap.interval(bootstrap.resampled_scores(predictions(), trial, 200))
        covered += bool(low <= expected <= high)
    assert 0.9 <= covered / 100 <= 0.99  # rare classes are the hard case: uncentred samples cover it in 87 %


def test_the_interval_over_speakers_covers_a_truth_that_varies_from_speaker_to_speaker() -> None:
    random = np.random.default_rng(0)
    speakers = np.repeat(np.arange(20), 20)
    covered = 0
    for trial in range(200):
        rate = np.clip(0.6 + 0.15 * random.standard_normal(20), 0, 1)[speakers]
        predictions = right_or_wrong(random.random(400) < rate, groups=speakers)
        low, high = bootstrap.interval(bootstrap.resampled_scores(predictions, trial, 300))
        covered += low <= 0.6 <= high
    assert 0.91 <= covered / 200 <= 0.99


@pytest.mark.parametrize("spread", [0.0, 0.1])
def test_the_interval_over_folds_covers_a_truth_that_varies_from_fold_to_fold(spread: float) -> None:
    random = np.random.default_rng(0)
    folds = np.repeat(np.arange(10), 40)
    covered = 0
    for trial in range(200):
        rate = np.clip(0.6 + spread * random.standard_normal(10), 0, 1)[folds]
        predictions = right_or_wrong(random.random(400) < rate, folds)
        assert predictions.unit == "fold"
        low, high = bootstrap.interval(bootstrap.resampled_scores(predictions, trial, 300))
        covered += low <= 0.6 <= high
    # Without a difference between folds the interval is wide; with one, ten folds are few.
    assert covered / 200 >= (0.95 if spread == 0 else 0.89)


def test_the_map_interval_holds_the_score() -> None:
    random = np.random.default_rng(0)
    truth = random.random((150, 5)) < 0.2
    truth[:, 2] = False
    outputs = (2 * truth + random.standard_normal((2, 150, 5))).astype(np.float32)
    plain = right_or_wrong(np.zeros(150))
    predictions = Predictions("map_macro", plain.clips, plain.folds, plain.groups, outputs, truth)
    low, high = bootstrap.interval(bootstrap.resampled_scores(predictions, 0, 200))
    of_seeds = [score_functions.map_macro(score_functions.average_precision(truth, one)) for one in outputs]
    assert bootstrap.score(predictions) == pytest.approx(np.mean(of_seeds))
    assert low < np.mean(of_seeds) < high


def test_speakers_are_drawn_whole_and_the_unit_is_named() -> None:
    random = np.random.default_rng(0)
    speakers = np.repeat(np.arange(12), 50)
    by_speaker = right_or_wrong(random.random(600) < np.linspace(0.2, 0.9, 12)[speakers], groups=speakers)
    by_clip = right_or_wrong(by_speaker.values)
    assert (by_speaker.unit, by_speaker.units) == ("group", 12)
    assert (by_clip.unit, by_clip.units) == ("clip", 600)
    widths = [np.ptp(bootstrap.interval(bootstrap.resampled_scores(one, 0))) for one in (by_speaker, by_clip)]
    assert widths[0] > 2 * widths[1]


def test_the_same_seed_gives_the_same_interval() -> None:
    predictions = right_or_wrong(np.arange(100) % 3 > 0)
    first, again, other = (bootstrap.resampled_scores(predictions, seed) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


def test_a_paired_comparison_tells_a_small_difference_on_the_same_clips() -> None:
    random = np.random.default_rng(0)
    base = random.random(1000) < 0.6
    better = base | (random.random(1000) < 0.05)
    found = bootstrap.compare(right_or_wrong(better), right_or_wrong(base), 0)
    assert found is not None
    assert found.more_than_noise
    assert found.low <= found.difference <= found.high
    assert found.difference == pytest.approx(better.mean() - base.mean())
    # Two independent samples of one rate differ by noise, and a model does not differ from itself.
    same = bootstrap.compare(right_or_wrong(base), right_or_wrong(random.permutation(base)), 0)
    assert same is not None
    assert not same.more_than_noise
    itself = bootstrap.compare(right_or_wrong(base), right_or_wrong(base), 0)
    assert itself is not None
    assert (itself.difference, itself.low, itself.high) == (0, 0, 0)


def test_a_comparison_draws_the_same_groups_whatever_their_numbers() -> None:
    """Groups are numbered as they come among the clips that did not fail, and so otherwise for each model."""
    random = np.random.default_rng(0)
    speakers = np.tile(np.arange(12), 30)
    values = random.random(360) < np.linspace(0.2, 0.9, 12)[speakers]
    whole = right_or_wrong(values, groups=speakers)
    keep = np.arange(360) > 0  # the first clip of the first speaker failed
    names: dict[int, int] = {}
    numbers = np.array([names.setdefault(one, len(names)) for one in speakers[keep].tolist()])
    assert (numbers != speakers[keep]).any()
    lacking = right_or_wrong(values, groups=speakers).only(keep)
    lacking = replace(lacking, groups=numbers)
    for found in (bootstrap.compare(whole, lacking, 0), bootstrap.compare(lacking, whole, 0)):
        assert found is not None
        assert (found.clips, found.differing) == (359, 0)
        assert (found.difference, found.low, found.high, found.error) == (0, 0, 0, 0)


def test_a_comparison_takes_only_the_clips_that_both_have() -> None:
    folds = np.repeat([0, 1], 50)
    one, other = right_or_wrong(np.ones(100), folds), right_or_wrong(np.zeros(100), folds)
    keep = np.arange(100) % 5 > 0
    found = bootstrap.compare(one.only(keep), other, 0)
    assert found is not None
    assert found.clips == 80
    assert found.difference == 1
    assert bootstrap.compare(one.only(keep), other.only(~keep), 0) is None
