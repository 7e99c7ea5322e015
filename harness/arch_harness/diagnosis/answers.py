"""A few clips sent again, to see whether what shares a request with them moves their embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arch_harness.datasets.audio import DecodeError, load_clip, pad_clip
from arch_harness.diagnosis.embeddings import distance_from_mean, length_of
from arch_harness.embeddings.geometry import cosines_of
from arch_harness.results.checks.diagnoses import ResentFacts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arch_harness.datasets import Dataset
    from arch_harness.results.run import ModelFacts
    from arch_harness.triton.server import Server

_CLIPS = 4
_LEAST_SECONDS = 0.25  # exports are verified from there on
_PADDED = 0.99


def look_at_answers(
    server: Server,
    model: ModelFacts,
    dataset: Dataset,
    embeddings: NDArray[np.float32],
    succeeded: NDArray[np.bool_],
) -> ResentFacts | None:
    """Send a few clips alone, together as one batch, and where padding must not matter, without it.

    Requests of exactly these clips, rather than the embeddings that come back while the speed is measured: there, who
    shared a batch is chance, nothing is sent unpadded, and one model with a single measurement sends nothing twice.

    Args:
        server: asked directly, while nothing is measured.
        model: on it.
        dataset: whose clips are sent, as many as are long enough, spread evenly.
        embeddings: FP32 [clips, dimensions], as stored.
        succeeded: bool [clips], which of them are there.

    Returns:
        None where no clip can be sent.

    Raises:
        ArchError: if the server does not answer.
    """
    samples = round(dataset.declaration.max_seconds * model.sample_rate)
    clips = _some(dataset, model.sample_rate, np.flatnonzero(succeeded))
    if not clips:
        return None
    there = embeddings[succeeded]
    scale = distance_from_mean(there) or length_of(there) or 1.0
    padded = np.stack([pad_clip(clip, samples) for _, clip in clips])
    counts = [len(clip) for _, clip in clips]
    alone = np.concatenate([server.embed(model.name, padded[[row]], [counts[row]]) for row in range(len(clips))])
    batch_distance = batch_cosine = unpadded_distance = unpadded_cosine = None
    size = min(len(clips), model.max_batch_size)
    if size > 1:
        together = server.embed(model.name, padded[:size], counts[:size])
        stored = embeddings[[index for index, _ in clips]]
        others, alike = np.concatenate([together, stored]), np.concatenate([alone[:size], alone])
        batch_distance, batch_cosine = _difference(others, alike, scale)
    short = [row for row, count in enumerate(counts) if count < _PADDED * samples] if model.lengths == "exact" else []
    if short:
        unpadded = [server.embed(model.name, clips[row][1][None], [counts[row]]) for row in short]
        unpadded_distance, unpadded_cosine = _difference(np.concatenate(unpadded), alone[short], scale)
    return ResentFacts(
        clips=len(clips),
        batch_distance=batch_distance,
        batch_cosine=batch_cosine,
        unpadded_clips=len(short),
        unpadded_distance=unpadded_distance,
        unpadded_cosine=unpadded_cosine,
    )


def _some(dataset: Dataset, sample_rate: int, indices: NDArray[np.int64]) -> list[tuple[int, NDArray[np.float32]]]:
    places = np.unique(np.linspace(0, len(indices) - 1, min(len(indices), _CLIPS)).round().astype(int))
    found = []
    for index in indices[places].tolist():
        try:
            clip = load_clip(dataset.folder / dataset.clips[index].path, sample_rate, dataset.declaration.max_seconds)
        except DecodeError:  # stored by an earlier run, and changed since
            continue
        if len(clip) >= _LEAST_SECONDS * sample_rate:
            found.append((index, clip))
    return found


def _difference(one: NDArray[np.float32], other: NDArray[np.float32], scale: float) -> tuple[float, float]:
    """The largest distance of two rows, divided by `scale`, and the smallest cosine."""
    moved = np.linalg.norm(one.astype(np.float64) - other.astype(np.float64), axis=1)
    return float(moved.max() / scale), float(cosines_of(one, other).min())
