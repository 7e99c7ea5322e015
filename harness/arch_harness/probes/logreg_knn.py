"""Probes that are not trained by gradient descent: scikit-learn's logistic regression, and nearest neighbours.

Both standardise each dimension by the training clips and choose one number by the score of the validation clips: the
regularisation C, or the number of neighbours. Both are deterministic.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from arch_harness.probes.score_functions import average_precision

if TYPE_CHECKING:
    from numpy.typing import NDArray

INVERSE_REGULARISATIONS = (0.001, 0.01, 0.1, 1.0, 10.0)
NEIGHBOURS = (1, 3, 5, 10, 20, 50)
_MAX_ITERATIONS = 500
_SMALL = 4_000_000  # numbers in the training embeddings
_BLOCK = 2048  # test clips whose similarities to all training clips are held at once


def _standardised(train: NDArray[np.float32], *others: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    deviation[deviation == 0] = 1
    return tuple((part - mean) / deviation for part in (train, *others))


def _quality(targets: NDArray[np.float32], scores: NDArray[np.float32], multi_label: bool) -> float:
    if multi_label:
        return float(average_precision(targets > 0, scores).mean())
    return float(np.mean(scores.argmax(axis=1) == targets.argmax(axis=1)))


def logistic_regression(
    train: tuple[NDArray[np.float32], NDArray[np.float32]],
    validation: tuple[NDArray[np.float32], NDArray[np.float32]],
    test: NDArray[np.float32],
    multi_label: bool,
) -> tuple[NDArray[np.float32], float]:
    """Multinomial logistic regression, or one binary regression per label, with C chosen on validation.

    Args:
        train: embeddings FP32 [clips, dimensions] and targets FP32 [clips, classes] of 0 and 1.
        validation: the same of the clips that choose C; where there are none, C is 1.
        test: embeddings to score.
        multi_label: whether a clip may have any number of labels.

    Returns:
        Scores FP32 [test clips, classes], and the C chosen.
    """
    x, held, x_test = _standardised(train[0], validation[0], test)
    regression = _Regression(x, train[1], multi_label)
    best, quality = (np.empty(0, dtype=np.float32), 1.0), -1.0
    # Small products gain nothing from several threads, and lose much where the cores are busy.
    with threadpool_limits(1 if x.size < _SMALL else None, "blas"):
        for c in INVERSE_REGULARISATIONS if len(held) else (1.0,):
            regression.fit(c)
            found = _quality(validation[1], regression.scores(held), multi_label) if len(held) else 0.0
            if found > quality:
                best, quality = (regression.scores(x_test), c), found
    return best


class _Regression:
    """scikit-learn's fits, as one weight matrix over all of the dataset's classes."""

    def __init__(self, x: NDArray[np.float32], targets: NDArray[np.float32], multi_label: bool) -> None:
        from sklearn.linear_model import LogisticRegression

        self._x = x
        self._tasks = list(targets.T) if multi_label else [targets.argmax(axis=1)]
        self._multi_label = multi_label
        self._models = [LogisticRegression(max_iter=_MAX_ITERATIONS) for _ in self._tasks]
        self._weights = np.zeros((x.shape[1], targets.shape[1]), dtype=np.float32)
        # A class without training clips is never named.
        self._bias = np.full(targets.shape[1], -np.inf, dtype=np.float32)

    def fit(self, c: float) -> None:
        from sklearn.exceptions import ConvergenceWarning

        with warnings.catch_warnings():
            # A last bit of loss may be left at the largest C; validation sees what comes of it.
            warnings.simplefilter("ignore", ConvergenceWarning)
            for index, (model, labels) in enumerate(zip(self._models, self._tasks, strict=True)):
                found = np.unique(labels).astype(np.int64)
                if len(found) > 1:
                    model.set_params(C=c).fit(self._x, labels)
                if self._multi_label:
                    if len(found) > 1:
                        self._weights[:, index], self._bias[index] = model.coef_[0], model.intercept_[0]
                elif len(found) == 1:
                    self._bias[found] = 0
                elif len(found) == 2:
                    self._weights[:, found[1]] = model.coef_[0]
                    self._bias[found] = 0, model.intercept_[0]
                else:
                    self._weights[:, found], self._bias[found] = model.coef_.T, model.intercept_

    def scores(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = inputs @ self._weights + self._bias
        return scores


def nearest_neighbours(
    train: tuple[NDArray[np.float32], NDArray[np.float32]],
    validation: tuple[NDArray[np.float32], NDArray[np.float32]],
    test: NDArray[np.float32],
    multi_label: bool,
) -> tuple[NDArray[np.float32], float]:
    """The nearest training clips by cosine similarity vote, each with its similarity; their number is chosen.

    Args:
        train: see `logistic_regression`.
        validation: see there; where there are none, 5 neighbours vote.
        test: see there.
        multi_label: see there.

    Returns:
        Scores FP32 [test clips, classes], and the number of neighbours chosen.
    """
    x, held, x_test = (_unit(part) for part in _standardised(train[0], validation[0], test))
    counts = [count for count in NEIGHBOURS if count <= len(x)]
    chosen = min(5, len(x))
    if len(held):
        votes = _votes(x, train[1], held, counts)
        quality = [_quality(validation[1], one, multi_label) for one in votes]
        chosen = counts[int(np.argmax(quality))]
    return _votes(x, train[1], x_test, [chosen])[0], float(chosen)


def _unit(part: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths: NDArray[np.float32] = np.linalg.norm(part, axis=1, keepdims=True)
    lengths[lengths == 0] = 1
    return part / lengths


def _votes(
    train: NDArray[np.float32], targets: NDArray[np.float32], test: NDArray[np.float32], counts: list[int]
) -> list[NDArray[np.float32]]:
    votes = [np.empty((len(test), targets.shape[1]), dtype=np.float32) for _ in counts]
    most = max(counts)
    for start in range(0, len(test), _BLOCK):
        similarity = test[start : start + _BLOCK] @ train.T
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
