"""Does the exported graph give what the original model gives? Measured on the finished file, in what will run it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from arch_export.verify.signals import synthesise

if TYPE_CHECKING:
    from arch_common.session import Session
    from numpy.typing import NDArray

    from arch_export.encoder.precision import Limits

Clips = list["NDArray[np.float32]"]
Reference = Callable[["NDArray[np.float32]", int], "NDArray[np.floating[Any]]"]
"""Embeds one unpadded clip FP32 [samples] that is to be padded to the given length, as the original model does: one
row [embedding size] for every embedding that the graph gives of a clip."""


@dataclass(frozen=True)
class Case:
    """One batch: clips of `valid` samples each, padded to `length` samples.

    `first` is the number of its first clip, by which `synthesise` chooses kind and level; 2 is far off-centre.
    """

    length: int
    valid: tuple[int, ...]
    first: int = 0


@dataclass(frozen=True)
class Parity:
    """What was measured over all clips of all cases, every layer's embedding counted where the graph gives them.

    Attributes:
        max_relative_error: largest |ours - reference| / |reference|, Euclidean norms.
        mean_cosine: between ours and the reference; where the graph gives every layer's, that of the worst layer.
        min_cosine: the worst clip's.
        max_batch_effect: |in its batch - alone| / |alone|: how far the others in its batch move a clip's embedding
            and, where padding is not to count, with its padding: alone is then without.
        mean_batch_effect: the same over all clips.
        clips: how many were embedded, each alone and in its batch.
    """

    max_relative_error: float
    mean_cosine: float
    min_cosine: float
    max_batch_effect: float
    mean_batch_effect: float
    clips: int

    def misses(self, limits: Limits, batched: bool = True) -> list[str]:
        """What is beyond the limits, a phrase each; NaN is beyond any. The batch effect counts if it is `batched`."""
        phrases = []
        if not self.max_relative_error <= limits.max_relative_error:
            phrases.append(
                f"its embeddings differ from the original model's by {self.max_relative_error:.1e} (relative), "
                f"allowed is {limits.max_relative_error:.0e}"
            )
        if not self.mean_cosine >= limits.mean_cosine:
            phrases.append(f"their mean cosine is {self.mean_cosine:.6f}, wanted is {limits.mean_cosine:g}")
        if not self.min_cosine >= limits.min_cosine:
            phrases.append(f"the worst clip's cosine is {self.min_cosine:.6f}, wanted is {limits.min_cosine:g}")
        if batched and not self.max_batch_effect <= limits.max_batch_effect:
            phrases.append(
                f"the others in its batch move an embedding by {self.max_batch_effect:.1e} (relative), "
                f"allowed is {limits.max_batch_effect:.0e}"
            )
        return phrases


def cases(sample_rate: int) -> list[Case]:
    """Short, odd and protocol-like lengths, with and without padding, in batches of 1 to 5."""
    second = sample_rate
    return [
        Case(second, (second,)),
        Case(second // 4, (second // 4, second // 5)),
        Case(second, (second, second // 2, second // 3, second - 1, second // 10)),
        Case(2 * second + 5123, (2 * second + 5123, second)),
        # More clips of 5 s would take more memory than everything before.
        Case(5 * second, (3 * second + 77, second // 2), first=1),
        Case(5 * second, (5 * second,) * 2, first=2),
    ]


def test_clips(case: Case, seed: int, sample_rate: int) -> Clips:
    """The seeded clips FP32 [valid] of a case."""
    return [synthesise(index, valid, sample_rate, seed) for index, valid in enumerate(case.valid, case.first)]


def batches(sample_rate: int) -> Iterator[tuple[Case, Clips, dict[str, NDArray[Any]]]]:
    """Every case with its clips and what a graph is fed for them."""
    for seed, case in enumerate(cases(sample_rate)):
        clips = test_clips(case, seed, sample_rate)
        waveform = np.stack([np.pad(clip, (0, case.length - len(clip))) for clip in clips])
        num_samples = np.array([[len(clip)] for clip in clips], dtype=np.int64)
        yield case, clips, {"waveform": waveform, "num_samples": num_samples}


def measure(session: Session, reference: Reference, sample_rate: int, exact: bool = False) -> Parity:
    """Compare what `session` gives with `reference` on every case; with `exact`, padding must not count."""
    errors, cosines, effects, count = [], [], [], 0
    for case, clips, feeds in batches(sample_rate):
        together = _run(session, feeds["waveform"], feeds["num_samples"])
        for row, clip in enumerate(clips):
            expected = np.asarray(reference(clip, case.length), dtype=np.float64)
            own = len(clip) if exact else case.length
            one = slice(row, row + 1)
            alone = _run(session, feeds["waveform"][one, :own], feeds["num_samples"][one])[0]
            norm = _norm(expected)
            for ours in (together[row], alone):
                errors += list(_norm(ours - expected) / norm)
                cosines.append(np.sum(ours * expected, axis=-1) / (_norm(ours) * norm))
            count += 1
            effects += list(_norm(together[row] - alone) / _norm(alone))
    # max() and min() would skip NaN.
    return Parity(
        max_relative_error=float(np.max(errors)),
        mean_cosine=float(np.mean(cosines, axis=0).min()),
        min_cosine=float(np.min(cosines)),
        max_batch_effect=float(np.max(effects)),
        mean_batch_effect=float(np.mean(effects)),
        clips=count,
    )


def _run(session: Session, waveform: NDArray[np.float32], num_samples: NDArray[np.int64]) -> NDArray[np.float64]:
    """All embeddings of all clips, FP64 [batch, embeddings of a clip, embedding size]."""
    outputs = session.run(None, {"waveform": waveform, "num_samples": num_samples})
    rows = [output.reshape(len(waveform), -1, output.shape[-1]) for output in outputs]
    return np.concatenate(rows, axis=1, dtype=np.float64)


def _norm(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    norms: NDArray[np.float64] = np.linalg.norm(rows, axis=-1)
    return norms
