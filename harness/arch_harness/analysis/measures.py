"""Measures of representations: how alike two are, how many dimensions one uses, whose neighbours are whose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_CLIPS = 4
"""That the unbiased estimate needs."""


@dataclass(frozen=True)
class Centred:
    """A representation made ready to be compared with others.

    Attributes:
        features: FP32 [clips, dimensions], of mean 0 over the clips and of mean squared length 1.
        norms: FP64 [clips], the squared length of each row.
        own: the unbiased HSIC of the representation with itself, times clips * (clips - 3).
    """

    features: NDArray[np.float32]
    norms: NDArray[np.float64]
    own: float

    @classmethod
    def of(cls, representation: NDArray[np.float32]) -> Centred:
        """Of FP32 [clips, dimensions], at least `LEAST_CLIPS` clips."""
        centred = representation.astype(np.float64)
        centred -= centred.mean(axis=0)
        centred /= np.sqrt((centred**2).sum(axis=1).mean()) or 1.0
        features, norms = centred.astype(np.float32), (centred**2).sum(axis=1)
        return cls(features, norms, _hsic(features, norms, features, norms))


def linear_cka(one: Centred, other: Centred) -> float:
    """How alike two representations of the same clips are: linear centred kernel alignment.

    Kornblith et al., "Similarity of Neural Network Representations Revisited" (2019), with the unbiased estimate of
    HSIC of Song et al., "Feature Selection via Dependence Maximization" (2012), as Nguyen et al. (2021) use it: the
    biased one is near 1 for unrelated representations where there are not many more clips than dimensions.

    Returns:
        1 for the same up to rotation and scale, about 0 for unrelated ones, of which it may be a little below; 0 where
        one is constant.
    """
    product = one.own * other.own
    if one.own <= 0 or other.own <= 0:
        return 0.0
    return float(_hsic(one.features, one.norms, other.features, other.norms) / np.sqrt(product))


def _hsic(
    one: NDArray[np.float32], norms: NDArray[np.float64], other: NDArray[np.float32], other_norms: NDArray[np.float64]
) -> float:
    """The unbiased HSIC of centred features, times clips * (clips - 3).

    In the space of features, so that memory grows with dimensions and not with clips squared. With K the products of
    rows without its diagonal, and columns of features that sum to 0: tr(KL) is the squared norm of `one.T @ other` less
    the products of the diagonals, and the rows of K sum to minus the diagonal.
    """
    clips = len(one)
    shared = float(np.square(one.T @ other, dtype=np.float64).sum())
    diagonal = float(norms @ other_norms)
    return (
        shared - diagonal * clips / (clips - 2) + float(norms.sum() * other_norms.sum()) / ((clips - 1) * (clips - 2))
    )


def neighbour_shares(
    embeddings: NDArray[np.float32], groups: NDArray[np.int64], neighbours: int
) -> NDArray[np.float64]:
    """Of which group the nearest neighbours of each group's clips are.

    Nearest by the cosine of embeddings less their mean, without which all of an encoder's point one way.

    Args:
        embeddings: FP32 [clips, dimensions].
        groups: int64 [clips], from 0; each has a clip.
        neighbours: of each clip, itself left out; fewer than there are clips.

    Returns:
        FP64 [groups, groups], each row summing to 1.
    """
    centred = embeddings.astype(np.float64)
    centred -= centred.mean(axis=0)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = centred / np.where(lengths > 0, lengths, 1.0)
    likeness = unit @ unit.T
    np.fill_diagonal(likeness, -np.inf)
    nearest = np.argpartition(-likeness, neighbours - 1, axis=1)[:, :neighbours]
    counts = np.zeros((groups.max() + 1, groups.max() + 1))
    np.add.at(counts, (np.repeat(groups, neighbours), groups[nearest].ravel()), 1)
    shares: NDArray[np.float64] = counts / counts.sum(axis=1, keepdims=True)
    return shares
