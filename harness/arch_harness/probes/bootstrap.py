"""How sure a score is: bootstrap intervals over test clips or over folds, and paired comparison of two models.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap", chapters 8 and 13 (percentile interval); for the
resampling of folds and of clips within them, Davison and Hinkley, "Bootstrap Methods and their Application", 3.8.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from arch_harness.probes.score_functions import resampled_average_precision
from arch_harness.results.predictions import Predictions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

RESAMPLES = 1000
LEVEL = 0.95
_CHUNK = 20_000_000  # counts held at once


def score(predictions: Predictions) -> float:
    """The score itself: the mean over folds of the score of all their test clips."""
    once = np.ones((1, len(predictions.clips)), dtype=np.float32)
    return float(_scores(predictions, once, np.ones((1, len(np.unique(predictions.folds)))))[0])


def resampled_scores(predictions: Predictions, seed: int, resamples: int = RESAMPLES) -> NDArray[np.float64]:
    """The score, the mean over folds, of `resamples` samples drawn with replacement, FP64 [resamples].

    Clips are drawn where they are the unit. Folds or groups are drawn whole, and then clips within each drawn one.
    The same seed draws the same clips, whatever the predictions.

    Clips that are drawn twice raise average precision, the more the rarer the classes; so samples' mAP are moved until
    their mean is the score. The mean of samples' accuracy is that without help.
    """
    found = [_scores(predictions, counts, drawn) for counts, drawn in _samples(predictions, seed, resamples)]
    scores = np.concatenate(found)
    if predictions.metric == "map_macro":
        scores = np.clip(scores + score(predictions) - scores.mean(), 0, 1)
    return scores


def _samples(
    predictions: Predictions, seed: int, resamples: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float64]]]:
    """How often each clip is in each sample, FP32 [samples, tests], and how often each fold, FP64 [samples, folds]."""
    random = np.random.default_rng([seed, 95])
    tests, folds = len(predictions.clips), np.unique(predictions.folds)
    strata = predictions.groups if predictions.unit == "group" else predictions.folds
    members = [np.flatnonzero(strata == name) for name in np.unique(strata)]
    chunk = max(1, min(resamples, _CHUNK // tests))
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        counts = np.zeros((size, tests), dtype=np.float32)
        drawn = np.ones((size, len(folds)))
        times = np.ones((size, len(members)), dtype=np.int64)
        if predictions.unit != "clip":
            times = random.multinomial(len(members), [1 / len(members)] * len(members), size)
        for column, clips in enumerate(members):
            # A group that is drawn twice gives twice as many clips; folds are weighted below instead.
            repeats = times[:, column] if predictions.unit == "group" else np.ones(size, dtype=np.int64)
            rows = np.repeat(np.arange(size), repeats * len(clips))
            picked = random.integers(0, len(clips), len(rows))
            drawn_clips = np.bincount(rows * len(clips) + picked, minlength=size * len(clips))
            counts[:, clips] = drawn_clips.reshape(size, len(clips))
        if predictions.unit == "fold":
            drawn = times.astype(np.float64)
        yield counts, drawn


def _scores(predictions: Predictions, counts: NDArray[np.float32], drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    folds = np.unique(predictions.folds)
    by_fold = np.empty((len(counts), len(folds)))
    for column, fold in enumerate(folds):
        inside = predictions.folds == fold
        weights = counts[:, inside]
        if predictions.metric == "accuracy":
            by_fold[:, column] = weights @ predictions.values[inside] / weights.sum(axis=1)
        else:
            truth = predictions.truth[inside]
            # A class that no test clip bears counts as 0 in the score; one that a sample misses is left out of it.
            missed = (weights @ truth.astype(np.float32) == 0) & truth.any(axis=0)
            present = truth.shape[1] - missed.sum(axis=1)
            of_seeds = [resampled_average_precision(truth, one[inside], weights) for one in predictions.values]
            by_fold[:, column] = np.mean(of_seeds, axis=0).sum(axis=0) / np.maximum(1, present)
    scores: NDArray[np.float64] = (by_fold * drawn).sum(axis=1) / drawn.sum(axis=1)
    return scores


def interval(scores: NDArray[np.float64]) -> tuple[float, float]:
    """The percentile interval that holds `LEVEL` of the resampled scores."""
    low, high = np.percentile(scores, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)


@dataclass(frozen=True)
class Difference:
    """The score of one model less that of another on the same clips, and its interval.

    Attributes:
        clips: test clips that both have.
        difference: a share.
        low: end of its 95 % interval.
        high: the other end.
        error: standard deviation of the difference over the samples.
        differing: test clips of which the two made different things; the others say nothing about the difference.
    """

    clips: int
    difference: float
    low: float
    high: float
    error: float
    differing: int

    @property
    def more_than_noise(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def compare(one: Predictions, other: Predictions, seed: int) -> Difference | None:
    """Compare two probes' predictions on the test clips that both have; None if there are none.

    Both are scored over the same samples of clips, so what makes a sample easy or hard for both cancels out.
    """
    key = [
        predictions.folds * (max(one.clips.max(), other.clips.max()) + 1) + predictions.clips
        for predictions in (one, other)
    ]
    one = one.only(np.isin(key[0], key[1]))
    other = other.only(np.isin(key[1], key[0]))
    if not len(one.clips):
        return None
    # Groups are numbered as each model's test clips came, so where one failed a clip the numbers may differ; only
    # equal ones are drawn alike.
    other = replace(other, groups=one.groups)
    scores = [resampled_scores(predictions, seed) for predictions in (one, other)]
    low, high = interval(scores[0] - scores[1])
    error = float(np.std(scores[0] - scores[1]))
    return Difference(len(one.clips), score(one) - score(other), low, high, error, _differing(one, other))


def _differing(one: Predictions, other: Predictions) -> int:
    """Test clips, the same in both, whose share of right seeds differs; all of them where the score ranks clips."""
    if one.metric != "accuracy":
        return len(one.clips)
    return int(np.count_nonzero(one.values != other.values))
