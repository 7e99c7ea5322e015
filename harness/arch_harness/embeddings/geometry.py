"""Measures of embeddings that several parts take: the directions that they use, and how alike two of a clip are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST_ROWS = 20_000  # for the rank: more rows hardly move it


def effective_rank(embeddings: NDArray[np.float32]) -> float:
    """How many directions embeddings FP32 [clips, dimensions] use about their mean, of 20,000 clips at most.

    The mean is taken off first, which alone fills one direction in most encoders.

    Roy and Vetterli, "The Effective Rank: A Measure of Effective Dimensionality" (2007): the exponential of the entropy
    of the singular values, as shares of their sum.

    Returns:
        From 1, where all clips lie on a line, to the smaller of dimensions and clips - 1; 0 where all are the same.
    """
    rows = np.unique(np.linspace(0, len(embeddings) - 1, min(len(embeddings), _MOST_ROWS)).round().astype(int))
    centred = embeddings[rows].astype(np.float64)
    centred -= centred.mean(axis=0)
    small = centred.T @ centred if centred.shape[1] <= len(rows) else centred @ centred.T
    values = np.sqrt(np.clip(np.linalg.eigvalsh(small), 0, None))
    # What is left of a constant by rounding is no direction.
    if values.max() <= 1e-6 * np.abs(embeddings[rows]).max(initial=0.0) * np.sqrt(centred.size):
        return 0.0
    shares = values / values.sum()
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def cosines_of(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of each row of FP32 [clips, dimensions] and the same row of another: FP64 [clips], from -1 to 1.

    Equal rows have exactly 1, zeros too; a row of zeros is like no other.
    """
    first, second = one.astype(np.float64), other.astype(np.float64)
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    found = (first * second).sum(axis=1) / np.where(lengths > 0, lengths, 1.0)
    found[np.equal(first, second).all(axis=1)] = 1.0
    clipped: NDArray[np.float64] = np.clip(found, -1, 1)
    return clipped
