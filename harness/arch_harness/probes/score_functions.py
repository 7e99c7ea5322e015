"""Scores of a probe's outputs, vectorised over classes; each agrees with scikit-learn's function of the same name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class ClassTable:
    """Per class: clips that bear it (support), and precision, recall and F1, each FP64 [classes]; 0 where undefined."""

    support: NDArray[np.int64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]


def confusion_matrix(truth: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Counts, int64 [true class, predicted class]."""
    return np.bincount(truth * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def class_table(confusion: NDArray[np.int64]) -> ClassTable:
    """Precision, recall and F1 of each class of a single-label task."""
    hits, support, named = np.diagonal(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    return ClassTable(support, _ratio(hits, named), _ratio(hits, support), _ratio(2 * hits, named + support))


def accuracy(confusion: NDArray[np.int64]) -> float:
    """Share of clips that were given their class."""
    return float(np.trace(confusion) / confusion.sum())


def macro_f1(confusion: NDArray[np.int64]) -> float:
    """Mean F1 of the classes that occur in truth or prediction."""
    occurs = (confusion.sum(axis=0) + confusion.sum(axis=1)) > 0
    return float(class_table(confusion).f1[occurs].mean())


def balanced_accuracy(confusion: NDArray[np.int64]) -> float:
    """Mean recall of the classes that occur in the truth."""
    occurs = confusion.sum(axis=1) > 0
    return float(class_table(confusion).recall[occurs].mean())


def average_precision(truth: NDArray[np.bool_], scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Average precision of each class: the sum of precision over the steps of recall, without interpolation.

    Args:
        truth: bool [clips, classes].
        scores: [clips, classes]; the higher, the likelier.

    Returns:
        FP64 [classes]; 0 for a class that no clip bears.
    """
    weights = np.ones((1, len(truth)), dtype=np.float32)
    return resampled_average_precision(truth, scores, weights)[:, 0]


def resampled_average_precision(
    truth: NDArray[np.bool_], scores: NDArray[np.float32], counts: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Average precision of each class where every clip stands in the sample a given number of times.

    Args:
        truth: bool [clips, classes].
        scores: [clips, classes].
        counts: FP32 [samples, clips].

    Returns:
        FP64 [classes, samples]; 0 where no clip of the sample bears the class.
    """
    clips, classes = truth.shape
    result = np.zeros((classes, len(counts)))
    by_clip = np.ascontiguousarray(counts.T)
    for index in range(classes):
        if not truth[:, index].any():
            continue
        order = np.argsort(-scores[:, index], kind="stable")
        ranked, positive = scores[order, index], truth[order, index]
        # Clips of one score share the threshold: each counts with the last of them.
        ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), clips - 1)
        places = np.flatnonzero(positive)
        thresholds = ends[np.searchsorted(ends, places)]
        weights = by_clip[order]
        positives = weights[places]
        found = np.cumsum(positives, axis=0)[np.searchsorted(places, thresholds, side="right") - 1]
        seen = np.cumsum(weights, axis=0, out=weights)[thresholds]
        precision = np.divide(found, seen, out=np.zeros_like(found), where=seen > 0)
        total = positives.sum(axis=0, dtype=np.float64)
        gained = np.einsum("ij,ij->j", positives, precision, dtype=np.float64)
        result[index] = np.divide(gained, total, out=np.zeros_like(total), where=total > 0)
    return result


def map_macro(precision: NDArray[np.float64]) -> float:
    """Mean average precision over the classes; one without a positive clip counts as 0, as in scikit-learn."""
    return float(precision.mean())


def map_weighted(precision: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """Average precision weighted by the clips that bear the class."""
    support = truth.sum(axis=0)
    return float(precision @ support / max(1, support.sum()))
