"""Time and peak memory of the linear probe, with its scores and interval, on the two largest datasets' sizes.

SLURP-sized: 72,000 clips of 768 dimensions, 60 classes. FSD50K-sized: 51,000 clips, 200 labels, several a clip. The
embeddings are synthetic. With --epochs below 200 the training time is less than the protocol's in that proportion.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np
from arch_harness.datasets import Clip, Dataset, Declaration, Fold, Listing
from arch_harness.probes import EPOCHS, probe_dataset
from arch_harness.results.run import Settings
from numpy.typing import NDArray

DIMENSIONS = 768


def single_label(random: np.random.Generator) -> tuple[Dataset, NDArray[np.float32]]:
    """As many clips, classes and test clips as SLURP has, about."""
    labels = random.integers(0, 60, 72_000)
    embeddings = 0.15 * random.standard_normal((60, DIMENSIONS), dtype=np.float32)[labels]
    embeddings += random.standard_normal(embeddings.shape, dtype=np.float32)
    return _dataset(labels, (50_600, 8_700)), embeddings


def multi_label(random: np.random.Generator) -> tuple[Dataset, NDArray[np.float32]]:
    """As many clips, labels and test clips as FSD50K has, about; 1.5 % of all labels are set."""
    labels = random.random((51_000, 200)) < 0.015
    embeddings = labels.astype(np.float32) @ random.standard_normal((200, DIMENSIONS), dtype=np.float32)
    embeddings += random.standard_normal(embeddings.shape, dtype=np.float32) * 3
    return _dataset(labels, (36_800, 4_170)), embeddings


def _dataset(targets: NDArray[np.int64] | NDArray[np.bool_], sizes: tuple[int, int]) -> Dataset:
    several = targets.ndim == 2
    declaration = Declaration(
        id="synthetic",
        title="Synthetic",
        domain="synthetic",
        task="multi_label" if several else "single_label",
        licence="none",
        citation="none",
        max_seconds=1,
        files=(),
        find_clips=lambda _folder: Listing([]),
        split=lambda _clips: [],
    )
    clips = [Clip(f"{index}.wav", ("x",), "all") for index in range(len(targets))]
    classes = [str(index) for index in range(targets.shape[1] if several else int(targets.max()) + 1)]
    parts = np.split(np.arange(len(targets)), np.cumsum(sizes))
    return Dataset(declaration, Path(), clips, classes, targets, [Fold("official", *parts)])


def main() -> None:
    """Print the times, the extrapolation where one is needed, and the peak memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", choices=["slurp", "fsd50k"], default=None)
    options = parser.parse_args()
    makers = {"slurp": single_label, "fsd50k": multi_label}
    for name, make in makers.items():
        if options.only not in (None, name):
            continue
        dataset, embeddings = make(np.random.default_rng(0))
        settings = Settings(seed=0, seeds=options.seeds, epochs=options.epochs, concurrency=1, workers=1)
        ends: list[float] = []

        def on_epoch(into: list[float] = ends) -> None:
            into.append(time.perf_counter())

        started = time.perf_counter()
        everything = np.ones(len(embeddings), dtype=np.bool_)
        found = probe_dataset("linear", dataset, embeddings, everything, settings, on_epoch)
        total, training = time.perf_counter() - started, ends[-1] - started
        print(
            f"{name}-sized: {options.seeds} seeds x {options.epochs} epochs in {total:.0f} s, of which training "
            f"{training:.0f} s; score {100 * found.score.score:.1f} %"
        )
        if options.epochs < EPOCHS:
            whole = training * EPOCHS / options.epochs + total - training
            print(f"  extrapolated to {EPOCHS} epochs, not measured: {whole:.0f} s")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(f"  peak memory so far: {peak / 2**20:.2f} GiB; trained on {found.score.trained_on}")


if __name__ == "__main__":
    main()
