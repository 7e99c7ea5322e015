"""Probes that are not trained by gradient descent: scikit-learn's logistic regression, and nearest neighbours.

Both standardise each dimension by the training clips and choose one number by the score of other clips: the
regularisation C, or the number of neighbours. Both are deterministic.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from arch_harness.probes.score_functions import average_precision

if TYPE_CHECKING:
    from numpy.typing import NDArray

Part = tuple["NDArray[np.float32]", "NDArray[np.float32]"]
"""Embeddings and targets of the same clips."""

INVERSE_REGULARISATIONS = (0.001, 0.01, 0.1, 1.0, 10.0)
NEIGHBOURS = (1, 3, 5, 10, 20, 50)
_MAX_ITERATIONS = 500
_SMALL = 4_000_000  # numbers in the training embeddings
_BLOCK = 2048  # test clips whose similarities to all training clips are held at once


def _quality(targets: NDArray[np.float32], scores: NDArray[np.float32], multi_label: bool) -> float:
    if multi_label:
        return float(average_precision(targets > 0, scores).mean())
    return float(np.mean(scores.argmax(axis=1) == targets.argmax(axis=1)))


def logistic_regression(
    train: Part, choosing: Sequence[tuple[Part, Part]], test: NDArray[np.float32], multi_label: bool
) -> tuple[NDArray[np.float32], float]:
    """Multinomial logistic regression, or one binary regression per label, with C chosen.

    Args:
        train: embeddings FP32 [clips, dimensions] and targets FP32 [clips, classes] of 0 and 1.
        choosing: pairs of the same, one to train on and one whose score chooses C; without any, C is 1.
        test: embeddings to score.
        multi_label: whether a clip may have any number of labels.

    Returns:
        Scores FP32 [test clips, classes], and the C chosen.
    """
    # Small products gain nothing from several threads, and lose much where the cores are busy.
    with threadpool_limits(1 if train[0].size < _SMALL else None, "blas"):
        if not choosing:
            return _Regression(train, 1.0, multi_label).scores(test), 1.0
        fitted = [[_Regression(part, c, multi_label) for c in INVERSE_REGULARISATIONS] for part, _ in choosing]
        best = _best(
            [[one.scores(held[0]) for one in row] for row, (_, held) in zip(fitted, choosing, strict=True)],
            [held[1] for _, held in choosing],
            multi_label,
        )
        c = INVERSE_REGULARISATIONS[best]
        whole = fitted[0][best] if choosing[0][0] is train else _Regression(train, c, multi_label)
        return whole.scores(test), c


def _best(scores: list[list[NDArray[np.float32]]], targets: list[NDArray[np.float32]], multi_label: bool) -> int:
    """The place of the setting with the best score, the mean over all clips compared by; the first of equals."""
    quality = [[_quality(truth, one, multi_label) for one in row] for row, truth in zip(scores, targets, strict=True)]
    return int(np.argmax(np.average(quality, axis=0, weights=[len(truth) for truth in targets])))


class _Regression:
    """scikit-learn's fit, as one weight matrix over all of the dataset's classes."""

    def __init__(self, train: Part, c: float, multi_label: bool) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        embeddings, targets = train
        self._scale = _Scale(embeddings)
        x = self._scale.apply(embeddings)
        self._weights = np.zeros((x.shape[1], targets.shape[1]), dtype=np.float32)
        # A class without training clips is never named.
        self._bias = np.full(targets.shape[1], -np.inf, dtype=np.float32)
        model = LogisticRegression(max_iter=_MAX_ITERATIONS, C=c)
        with warnings.catch_warnings():
            # A last bit of loss may be left at the largest C; the clips that choose see what comes of it.
            warnings.simplefilter("ignore", ConvergenceWarning)
            for index, labels in enumerate(targets.T if multi_label else [targets.argmax(axis=1)]):
                found = np.unique(labels).astype(np.int64)
                if len(found) > 1:
                    model.fit(x, labels)
                if multi_label:
                    if len(found) > 1:
                        self._weights[:, index], self._bias[index] = model.coef_[0], model.intercept_[0]
                elif len(found) == 1:
                    self._bias[found] = 0
                elif len(found) == 2:
                    self._weights[:, found[1]] = model.coef_[0]
                    self._bias[found] = 0, model.intercept_[0]
                else:
                    self._weights[:, found], self._bias[found] = model.coef_.T, model.intercept_

    def scores(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = self._scale.apply(embeddings) @ self._weights + self._bias
        return scores


class _Scale:
    """Each dimension less its mean over the training clips, over its standard deviation."""

    def __init__(self, train: NDArray[np.float32]) -> None:
        self._mean, self._deviation = train.mean(axis=0), train.std(axis=0)
        self._deviation[self._deviation == 0] = 1

    def apply(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        scaled: NDArray[np.float32] = (embeddings - self._mean) / self._deviation
        return scaled

    def unit(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same, each clip's of length 1."""
        scaled = self.apply(embeddings)
        lengths: NDArray[np.float32] = np.linalg.norm(scaled, axis=1, keepdims=True)
        lengths[lengths == 0] = 1
        return scaled / lengths


def nearest_neighbours(
    train: Part, choosing: Sequence[tuple[Part, Part]], test: NDArray[np.float32], multi_label: bool
) -> tuple[NDArray[np.float32], float]:
    """The nearest training clips by cosine similarity vote, each with its similarity; their number is chosen.

    Args:
        train: see `logistic_regression`.
        choosing: see there; without any, 5 neighbours vote.
        test: see there.
        multi_label: see there.

    Returns:
        Scores FP32 [test clips, classes], and the number of neighbours chosen.
    """
    chosen = min(5, len(train[0]))
    if choosing:
        fewest = min(len(part[0]) for part, _ in choosing)
        counts = [count for count in NEIGHBOURS if count <= fewest]
        votes = [_votes(part, held[0], counts) for part, held in choosing]
        chosen = counts[_best(votes, [held[1] for _, held in choosing], multi_label)]
    return _votes(train, test, [chosen])[0], float(chosen)


def _votes(train: Part, test: NDArray[np.float32], counts: list[int]) -> list[NDArray[np.float32]]:
    """The votes of so many neighbours, for each of `counts`: FP32 [test clips, classes]."""
    scale, targets = _Scale(train[0]), train[1]
    x, x_test = scale.unit(train[0]), scale.unit(test)
    votes = [np.empty((len(test), targets.shape[1]), dtype=np.float32) for _ in counts]
    most = max(counts)
    for start in range(0, len(test), _BLOCK):
        similarity = x_test[start : start + _BLOCK] @ x.T
        nearest = np.argpartition(-similarity, most - 1, axis=1)[:, :most]
        values = np.take_along_axis(similarity, nearest, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        nearest, values = np.take_along_axis(nearest, order, axis=1), np.take_along_axis(values, order, axis=1)
        # Similarities lie in [-1, 1]; shifted, a far neighbour's vote is small but never against its class.
        weights = values + 1
        for count, into in zip(counts, votes, strict=True):
            chosen = targets[nearest[:, :count]]
            into[start : start + _BLOCK] = np.einsum("ij,ijk->ik", weights[:, :count], chosen) / count
    return votes
