"""What a GPU gets right: the embeddings of the CPU, on the same weights."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from gpu_engines import Array, Feeds, open_graph, reason_of
from gpu_models import SAMPLE_RATE, Skeleton

CLASSES = 4


def clip(index: int, seconds: float) -> Array:
    """Tones in noise, another mixture for each index: FP32 [samples]."""
    random = np.random.default_rng(index)
    moments = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tones = sum(np.sin(2 * np.pi * hertz * moments) for hertz in random.uniform(80 * (1 + index % CLASSES), 1500, 4))
    mixed: Array = (0.1 * tones + 0.05 * random.standard_normal(len(moments))).astype(np.float32)
    return mixed


def batches() -> list[Feeds]:
    """A clip alone, two of which one is padded, and three of which two are; 8 s in all."""
    found: list[Feeds] = []
    index = 0
    for seconds, lengths in ((1, (1.0,)), (2, (2.0, 1.3)), (1, (1.0, 0.6, 0.25))):
        waveform = np.zeros((len(lengths), seconds * SAMPLE_RATE), np.float32)
        for row, length in enumerate(lengths):
            one = clip(index, length)
            waveform[row, : len(one)] = one
            index += 1
        samples = np.array([[round(length * SAMPLE_RATE)] for length in lengths], np.int64)
        found.append({"waveform": waveform, "num_samples": samples})
    return found


def parity(ours: Any, reference: Any) -> dict[str, float]:
    """How close one session's embeddings are to another's, over `batches`.

    Raises:
        ValueError: if an embedding is not finite.
    """
    pairs = [(ours.run(["embedding"], feeds)[0], reference.run(["embedding"], feeds)[0]) for feeds in batches()]
    found, wanted = (np.concatenate(each).astype(np.float64) for each in zip(*pairs, strict=True))
    for name, values in (("device", found), ("CPU", wanted)):
        if not np.isfinite(values).all():
            raise ValueError(f"embeddings of the {name} are not finite")
    norms = np.linalg.norm(wanted, axis=1)
    cosines = (found * wanted).sum(axis=1) / np.linalg.norm(found, axis=1) / norms
    return {
        "clips": len(found),
        "mean_cosine": float(cosines.mean()),
        "min_cosine": float(cosines.min()),
        "relative_error": float((np.linalg.norm(found - wanted, axis=1) / norms).max()),
    }


def check(folder: Path, skeleton: Skeleton, device: str) -> dict[str, float]:
    """Load a model on the device, ask it, and compare with the CPU on the same weights: `parity`, and `load_s`.

    Raises:
        RuntimeError: if either does not load or run, or answers with no number; in one line.
    """
    where = device
    try:
        started = time.perf_counter()
        ours = open_graph(skeleton.graph(folder, device), skeleton, device)
        load_s = time.perf_counter() - started
        for feeds in batches():
            ours.run(["embedding"], feeds)
        where = "cpu"
        return parity(ours, open_graph(skeleton.graph(folder, "cpu"), skeleton, "cpu")) | {"load_s": load_s}
    except Exception as error:  # ONNX Runtime's own errors have no common base
        raise RuntimeError(f"on {where}: {reason_of(error)}") from error
