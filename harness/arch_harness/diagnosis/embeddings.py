"""Embeddings looked at, whatever the labels: how many directions they use, how far they spread, which are copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from arch_harness.datasets.audio import DecodeError, load_clip
from arch_harness.diagnosis.files import MOST_EXAMPLES
from arch_harness.diagnosis.names import Neighbour, look_at_names
from arch_harness.embeddings.geometry import effective_rank
from arch_harness.probes import bootstrap
from arch_harness.results.checks.diagnoses import ClipPair, EmbeddingFacts

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from arch_harness.datasets import Dataset
    from arch_harness.results.predictions import Predictions

CONSTANT = 1e-3
"""Of the spread: below it, what differs is what numbers of 16 bits are rounded by."""

NEAR = 0.999
"""Cosine of two embeddings less the mean of all, from which on two clips may be one sound."""

_TEST_BLOCK, _TRAIN_BLOCK = 1024, 8192
_HEARD_FIRST, _HEARD_OF_REST = 16, 16
_LISTEN_RATE = 8000
_SAME_SOUND = 0.95


def distance_from_mean(embeddings: NDArray[np.float32]) -> float:
    """Root mean square distance of embeddings FP32 [clips, dimensions] from their mean."""
    return _root_mean_square(embeddings, embeddings.mean(axis=0, dtype=np.float64))


def length_of(embeddings: NDArray[np.float32]) -> float:
    """Root mean square length of embeddings FP32 [clips, dimensions]."""
    return _root_mean_square(embeddings, np.zeros(embeddings.shape[1]))


def _root_mean_square(embeddings: NDArray[np.float32], origin: NDArray[np.float64]) -> float:
    blocks = (embeddings[start : start + _TRAIN_BLOCK] - origin for start in range(0, len(embeddings), _TRAIN_BLOCK))
    return float(np.sqrt(sum(float(np.square(block).sum()) for block in blocks) / len(embeddings)))


def look_at_embeddings(
    dataset: Dataset,
    embeddings: NDArray[np.float32],
    succeeded: NDArray[np.bool_],
    copies: Sequence[frozenset[int]],
    predictions: Predictions,
) -> EmbeddingFacts:
    """Look at the embeddings of a model on a dataset.

    Args:
        dataset: whose folds say what trains and what tests.
        embeddings: FP32 [clips, dimensions].
        succeeded: bool [clips], which of them are there; at least one.
        copies: of each fold, the test clips (indices) whose file a training clip has too.
        predictions: what the first probe made of the test clips.
    """
    there = embeddings[succeeded]
    length = length_of(there)
    spread = distance_from_mean(there) / length if length else 0.0
    nearest = _neighbours(dataset, embeddings, succeeded) if spread > CONSTANT else []
    alike_by_embedding = (one for one in nearest if one.cosine > NEAR and one.test not in copies[one.fold])
    near = sorted(alike_by_embedding, key=lambda one: -one.cosine)
    heard = near[:_HEARD_FIRST]
    rest = near[_HEARD_FIRST:]
    if rest:
        places = np.linspace(0, len(rest) - 1, min(len(rest), _HEARD_OF_REST)).round().astype(int)
        heard = [*heard, *(rest[place] for place in np.unique(places).tolist())]
    seconds = dataset.declaration.max_seconds
    sounds = [
        one
        for one in heard
        if is_same_sound(
            dataset.folder / dataset.clips[one.train].path, dataset.folder / dataset.clips[one.test].path, seconds
        )
    ]
    # Where all that were heard are the same sound, so are those that were not.
    alike = near if sounds and len(sounds) == len(heard) else sounds
    return EmbeddingFacts(
        clips=len(there),
        dimensions=there.shape[1],
        effective_rank=effective_rank(there) if spread > CONSTANT else 0.0,
        spread=spread,
        near=len(near),
        near_heard=len(heard),
        near_same=len(sounds),
        near_examples=[
            ClipPair(train=dataset.clips[one.train].path, test=dataset.clips[one.test].path)
            for one in sounds[:MOST_EXAMPLES]
        ],
        names=look_at_names(dataset, nearest),
        score_without_copies=_score_without(
            predictions,
            {(fold, index) for fold, copied in enumerate(copies) for index in copied}
            | {(one.fold, one.test) for one in alike},
        ),
    )


def _score_without(predictions: Predictions, copies: set[tuple[int, int]]) -> float | None:
    pairs = zip(predictions.folds.tolist(), predictions.clips.tolist(), strict=True)
    keep = np.array([pair not in copies for pair in pairs], dtype=np.bool_)
    return bootstrap.score(predictions.only(keep)) if keep.any() and not keep.all() else None


def _neighbours(dataset: Dataset, embeddings: NDArray[np.float32], succeeded: NDArray[np.bool_]) -> list[Neighbour]:
    """Of each test clip of each fold."""
    units = embeddings - embeddings[succeeded].mean(axis=0)
    lengths = np.linalg.norm(units, axis=1, keepdims=True)
    units /= np.where(lengths > 0, lengths, 1)
    found = []
    for number, fold in enumerate(dataset.folds):
        train, test = fold.train[succeeded[fold.train]], fold.test[succeeded[fold.test]]
        for start in range(0, len(test), _TEST_BLOCK):
            block = test[start : start + _TEST_BLOCK]
            best, nearest = _nearest(units, train, block)
            rows = zip(best.tolist(), nearest.tolist(), block.tolist(), strict=True)
            found += [Neighbour(cosine, number, one, other) for cosine, one, other in rows]
    return found


def _nearest(
    units: NDArray[np.float32], train: NDArray[np.int64], test: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The highest cosine of each test clip to a training clip, and that clip."""
    best = np.full(len(test), -2.0, dtype=np.float32)
    nearest = np.zeros(len(test), dtype=np.int64)
    for start in range(0, len(train), _TRAIN_BLOCK):
        block = train[start : start + _TRAIN_BLOCK]
        cosines = units[test] @ units[block].T
        column = cosines.argmax(axis=1)
        highest = cosines[np.arange(len(test)), column]
        better = highest > best
        best[better], nearest[better] = highest[better], block[column[better]]
    return best, nearest


def is_same_sound(one: Path, other: Path, max_seconds: float) -> bool:
    """Whether two files are one recording, be it louder, turned over, shifted or coded again: by cross-correlation.

    What is heard is up to 4 kHz. Two files without a sound are the same; one that cannot be decoded is like no other.
    """
    try:
        first, second = (load_clip(path, _LISTEN_RATE, max_seconds).astype(np.float64) for path in (one, other))
    except DecodeError:
        return False
    lengths = np.linalg.norm(first), np.linalg.norm(second)
    if not all(lengths):
        return not any(lengths)
    size = 1 << (len(first) + len(second) - 2).bit_length()
    spectrum = np.fft.rfft(first, size) * np.fft.rfft(second, size).conj()
    highest = np.abs(np.fft.irfft(spectrum, size)).max()
    return bool(highest >= _SAME_SOUND * lengths[0] * lengths[1])
