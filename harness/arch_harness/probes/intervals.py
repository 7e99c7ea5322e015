"""How sure a score is: bootstrap intervals over test clips or over folds, and paired comparison of two models.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap", chapters 8 and 13 (percentile interval); for the
resampling of folds and of clips within them, Davison and Hinkley, "Bootstrap Methods and their Application", 3.8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from arch_harness.probes.metrics import resampled_average_precision

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

RESAMPLES = 1000
LEVEL = 0.95
_CHUNK = 20_000_000  # counts held at once

Unit = Literal["clip", "group", "fold"]


@dataclass(frozen=True)
class Outcomes:
    """What a probe made of every test clip, from which its score can be computed over any sample of the clips.

    Attributes:
        metric: "accuracy", or "map_macro".
        clips: int64 [tests], each clip's position in the dataset.
        folds: int64 [tests], the fold that tested it.
        groups: int64 [tests], the clip's group in the dataset.
        values: for accuracy FP32 [tests], the share of seeds that were right; for mAP FP32 [seeds, tests, classes],
            the outputs.
        truth: for mAP bool [tests, classes]; for accuracy of no columns.
    """

    metric: Literal["accuracy", "map_macro"]
    clips: NDArray[np.int64]
    folds: NDArray[np.int64]
    groups: NDArray[np.int64]
    values: NDArray[np.float32]
    truth: NDArray[np.bool_]

    @property
    def unit(self) -> Unit:
        """What is drawn: folds where there are several, otherwise groups of the test clips, otherwise clips."""
        if len(np.unique(self.folds)) > 1:
            return "fold"
        return "group" if len(np.unique(self.groups)) > 1 else "clip"

    @property
    def units(self) -> int:
        """How many there are to draw from."""
        names = {"fold": self.folds, "group": self.groups, "clip": self.clips}[self.unit]
        return len(np.unique(names))

    def only(self, keep: NDArray[np.bool_]) -> Outcomes:
        """Those of the test clips where `keep` (bool [tests]) is true."""
        values = self.values[keep] if self.metric == "accuracy" else self.values[:, keep]
        return Outcomes(self.metric, self.clips[keep], self.folds[keep], self.groups[keep], values, self.truth[keep])


def score(outcomes: Outcomes) -> float:
    """The score itself: the mean over folds of the score of all their test clips."""
    once = np.ones((1, len(outcomes.clips)), dtype=np.float32)
    return float(_scores(outcomes, once, np.ones((1, len(np.unique(outcomes.folds)))))[0])


def resampled_scores(outcomes: Outcomes, seed: int, resamples: int = RESAMPLES) -> NDArray[np.float64]:
    """The score, the mean over folds, of `resamples` samples drawn with replacement, FP64 [resamples].

    Clips are drawn where they are the unit. Folds or groups are drawn whole, and then clips within each drawn one.
    The same seed draws the same clips, whatever the outcomes.

    Clips that are drawn twice raise average precision, the more the rarer the classes; so samples' mAP are moved until
    their mean is the score. The mean of samples' accuracy is that without help.
    """
    found = [_scores(outcomes, counts, drawn) for counts, drawn in _samples(outcomes, seed, resamples)]
    scores = np.concatenate(found)
    if outcomes.metric == "map_macro":
        scores = np.clip(scores + score(outcomes) - scores.mean(), 0, 1)
    return scores


def _samples(
    outcomes: Outcomes, seed: int, resamples: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float64]]]:
    """How often each clip is in each sample, FP32 [samples, tests], and how often each fold, FP64 [samples, folds]."""
    random = np.random.default_rng([seed, 95])
    tests, folds = len(outcomes.clips), np.unique(outcomes.folds)
    strata = outcomes.groups if outcomes.unit == "group" else outcomes.folds
    members = [np.flatnonzero(strata == name) for name in np.unique(strata)]
    chunk = max(1, min(resamples, _CHUNK // tests))
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        counts = np.zeros((size, tests), dtype=np.float32)
        drawn = np.ones((size, len(folds)))
        times = np.ones((size, len(members)), dtype=np.int64)
        if outcomes.unit != "clip":
            times = random.multinomial(len(members), [1 / len(members)] * len(members), size)
        for column, clips in enumerate(members):
            # A group that is drawn twice gives twice as many clips; folds are weighted below instead.
            repeats = times[:, column] if outcomes.unit == "group" else np.ones(size, dtype=np.int64)
            rows = np.repeat(np.arange(size), repeats * len(clips))
            picked = random.integers(0, len(clips), len(rows))
            drawn_clips = np.bincount(rows * len(clips) + picked, minlength=size * len(clips))
            counts[:, clips] = drawn_clips.reshape(size, len(clips))
        if outcomes.unit == "fold":
            drawn = times.astype(np.float64)
        yield counts, drawn


def _scores(outcomes: Outcomes, counts: NDArray[np.float32], drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    folds = np.unique(outcomes.folds)
    by_fold = np.empty((len(counts), len(folds)))
    for column, fold in enumerate(folds):
        inside = outcomes.folds == fold
        weights = counts[:, inside]
        if outcomes.metric == "accuracy":
            by_fold[:, column] = weights @ outcomes.values[inside] / weights.sum(axis=1)
        else:
            truth = outcomes.truth[inside]
            # A class that no test clip bears counts as 0 in the score; one that a sample misses is left out of it.
            missed = (weights @ truth.astype(np.float32) == 0) & truth.any(axis=0)
            present = truth.shape[1] - missed.sum(axis=1)
            of_seeds = [resampled_average_precision(truth, one[inside], weights) for one in outcomes.values]
            by_fold[:, column] = np.mean(of_seeds, axis=0).sum(axis=0) / np.maximum(1, present)
    scores: NDArray[np.float64] = (by_fold * drawn).sum(axis=1) / drawn.sum(axis=1)
    return scores


def interval(scores: NDArray[np.float64]) -> tuple[float, float]:
    """The percentile interval that holds `LEVEL` of the resampled scores."""
    low, high = np.percentile(scores, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)


@dataclass(frozen=True)
class Difference:
    """The score of one model less that of another on the same clips, and its interval."""

    clips: int
    difference: float
    low: float
    high: float

    @property
    def more_than_noise(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def compare(one: Outcomes, other: Outcomes, seed: int) -> Difference | None:
    """Compare two probes' outcomes on the test clips that both have; None if there are none.

    Both are scored over the same samples of clips, so what makes a sample easy or hard for both cancels out.
    """
    key = [outcomes.folds * (max(one.clips.max(), other.clips.max()) + 1) + outcomes.clips for outcomes in (one, other)]
    one = one.only(np.isin(key[0], key[1]))
    other = other.only(np.isin(key[1], key[0]))
    if not len(one.clips):
        return None
    scores = [resampled_scores(outcomes, seed) for outcomes in (one, other)]
    low, high = interval(scores[0] - scores[1])
    return Difference(len(one.clips), score(one) - score(other), low, high)
