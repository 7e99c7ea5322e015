"""Does the exported graph give what the original model gives? Measured on the finished file, in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

# fp32: beyond rounding, which measures below 1e-5 on this family.
MAX_RELATIVE_ERROR = 1e-4

Clips = list["NDArray[np.float32]"]
Reference = Callable[["NDArray[np.float32]", int], "NDArray[np.floating[Any]]"]
"""Embeds one unpadded clip FP32 [samples] that is to be padded to the given length, as the original model does: one
row [embedding size] for every embedding that the graph gives of a clip."""


@dataclass(frozen=True)
class Case:
    """One batch: clips of `valid` samples each, padded to `length` samples."""

    length: int
    valid: tuple[int, ...]


@dataclass(frozen=True)
class Parity:
    """Worst figures over all clips of all cases.

    Attributes:
        max_relative_error: |ours - reference| / |reference|, Euclidean norms.
        min_cosine: between ours and the reference.
        max_batch_effect: |in its batch - alone| / |alone|: how much a clip's embedding moves with its batch mates
            and, where padding is not to count, with its padding: alone is then without.
        clips: how many embeddings were compared.
    """

    max_relative_error: float
    min_cosine: float
    max_batch_effect: float
    clips: int


def cases(sample_rate: int) -> list[Case]:
    """Short, odd and protocol-like lengths, with and without padding, in batches of 1, 2, 3 and 5."""
    second = sample_rate
    return [
        Case(second, (second,)),
        Case(second // 4, (second // 4, second // 5)),
        Case(second, (second, second // 2, second // 3, second - 1, second // 10)),
        Case(2 * second + 5123, (2 * second + 5123, second)),
        Case(5 * second, (5 * second, 3 * second + 77, second // 2)),
    ]


def test_clips(case: Case, seed: int, sample_rate: int) -> Clips:
    """Seeded clips FP32 [valid] of tones in noise; loud, very quiet and off-centre ones alternate."""
    random = np.random.default_rng(seed)
    clips: Clips = []
    for index, valid in enumerate(case.valid):
        time = np.arange(valid) / sample_rate
        tone = np.sin(2 * np.pi * random.uniform(80, 3000) * time) * np.hanning(valid)
        clip = 0.6 * tone + 0.2 * random.standard_normal(valid)
        level, offset = [(0.5, 0.0), (0.003, 0.0), (0.3, 0.1)][index % 3]
        clips.append((level * np.clip(clip, -1, 1) + offset).astype(np.float32))
    return clips


def measure(path: Path, reference: Reference, sample_rate: int, exact: bool = False) -> Parity:
    """Compare the graph at `path` with `reference` on every case; with `exact`, padding must not count."""
    options = onnxruntime.SessionOptions()
    # The arena keeps what the largest batch needed, and grows by doubling: more than the weights of a base encoder.
    options.enable_cpu_mem_arena = False
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    errors, cosines, effects = [], [], []
    for seed, case in enumerate(cases(sample_rate)):
        clips = test_clips(case, seed, sample_rate)
        waveform = np.stack([np.pad(clip, (0, case.length - len(clip))) for clip in clips])
        num_samples = np.array([[len(clip)] for clip in clips], dtype=np.int64)
        together = _run(session, waveform, num_samples)
        for row, clip in enumerate(clips):
            expected = np.asarray(reference(clip, case.length), dtype=np.float64)
            own = len(clip) if exact else case.length
            alone = _run(session, waveform[row : row + 1, :own], num_samples[row : row + 1])[0]
            norm = _norm(expected)
            for ours in (together[row], alone):
                errors += list(_norm(ours - expected) / norm)
                cosines += list(np.sum(ours * expected, axis=-1) / (_norm(ours) * norm))
            effects += list(_norm(together[row] - alone) / _norm(alone))
    # max() and min() would skip NaN.
    return Parity(float(np.max(errors)), float(np.min(cosines)), float(np.max(effects)), len(errors))


def _run(
    session: onnxruntime.InferenceSession, waveform: NDArray[np.float32], num_samples: NDArray[np.int64]
) -> NDArray[np.float64]:
    """All embeddings of all clips, FP64 [batch, embeddings of a clip, embedding size]."""
    outputs = session.run(None, {"waveform": waveform, "num_samples": num_samples})
    rows = [output.reshape(len(waveform), -1, output.shape[-1]) for output in outputs]
    return np.concatenate(rows, axis=1, dtype=np.float64)


def _norm(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    norms: NDArray[np.float64] = np.linalg.norm(rows, axis=-1)
    return norms
