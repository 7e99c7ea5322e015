"""The probe of all folds at once against the plain loop, on one ESC-50-sized synthetic dataset and the same cores.

2,000 clips, 768 dimensions, 50 classes, 5 folds (a fifth of the other four folds held out), 200 epochs. The plain loop
is an ordinary torch one: nn.Linear, AdamW, a DataLoader with batches of 32, one fold after the other, no validation
pass. Both take turns and report wall time; the medians are compared. What the first run on a machine waits for the
compiler is timed apart, in a process that finds nothing compiled. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
from arch_harness.probes.training.networks import Network
from arch_harness.probes.training.schedule import Problem
from arch_harness.probes.training.trainer import train
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader, TensorDataset

CLIPS, DIMENSIONS, CLASSES, FOLDS = 2000, 768, 50, 5


def synthetic(seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Embeddings FP32 [clips, dimensions] that a linear probe labels well, not perfectly, and labels int64 [clips]."""
    random = np.random.default_rng(seed)
    labels = np.arange(CLIPS) % CLASSES
    centres = random.standard_normal((CLASSES, DIMENSIONS))
    embeddings = 0.2 * centres[labels] + random.standard_normal((CLIPS, DIMENSIONS))
    return embeddings.astype(np.float32), labels


def plain(
    embeddings: NDArray[np.float32], labels: NDArray[np.int64], clips: NDArray[np.int64], epochs: int
) -> NDArray[np.float32]:
    """One fold, as it would be written down; logits FP32 [all clips, classes]."""
    layer = torch.nn.Linear(DIMENSIONS, CLASSES)
    optimiser = torch.optim.AdamW(layer.parameters(), lr=1e-3)
    data = TensorDataset(torch.from_numpy(embeddings[clips]), torch.from_numpy(labels[clips]))
    loader = DataLoader(data, batch_size=32, shuffle=True)
    total, warmup = epochs * len(loader), epochs * len(loader) // 10
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: step / warmup if step < warmup else max(0.0, (total - step) / (total - warmup))
    )
    loss = torch.nn.CrossEntropyLoss()
    for _ in range(epochs):
        for x, y in loader:
            optimiser.zero_grad()
            loss(layer(x), y).backward()
            optimiser.step()
            scheduler.step()
        scheduler.step()
    with torch.no_grad():
        logits: NDArray[np.float32] = layer(torch.from_numpy(embeddings)).numpy()
    return logits


def folds() -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Training and test clips of each fold."""
    random, fold_of = np.random.default_rng(0), np.arange(CLIPS) * FOLDS // CLIPS
    found = []
    for fold in range(FOLDS):
        rest = random.permutation(np.flatnonzero(fold_of != fold))
        found.append((rest[: len(rest) * 4 // 5], np.flatnonzero(fold_of == fold)))
    return found


def all_at_once(
    embeddings: NDArray[np.float32], labels: NDArray[np.int64], epochs: int, seeds: int
) -> tuple[float, float, str]:
    """Seconds, mean accuracy, and what it ran on."""
    parts, network = folds(), Network(DIMENSIONS, CLASSES)
    problems = [Problem(clips, (seed, fold)) for fold, (clips, _) in enumerate(parts) for seed in range(seeds)]
    started = time.perf_counter()
    targets = np.eye(CLASSES, dtype=np.float32)[labels]
    parameters, trained_on = train(network, embeddings, targets, False, problems, epochs)
    seconds = time.perf_counter() - started
    tests = [test for _, test in parts for _ in range(seeds)]
    right = [
        network.logits(row, embeddings[test]).argmax(axis=1) == labels[test]
        for row, test in zip(parameters, tests, strict=True)
    ]
    return seconds, float(np.mean(right)), trained_on


def one_by_one(
    embeddings: NDArray[np.float32], labels: NDArray[np.int64], epochs: int, seeds: int
) -> tuple[float, float]:
    """Seconds and mean accuracy of the plain loop."""
    parts, started = folds(), time.perf_counter()
    logits = [(plain(embeddings, labels, clips, epochs), test) for clips, test in parts for _ in range(seeds)]
    seconds = time.perf_counter() - started
    return seconds, float(np.mean([one[test].argmax(axis=1) == labels[test] for one, test in logits]))


def compiling() -> float:
    """Seconds of a first epoch where nothing is compiled yet."""
    with tempfile.TemporaryDirectory() as folder:
        answer = subprocess.run(
            [sys.executable, __file__, "--first-epoch"],
            env={**os.environ, "NUMBA_CACHE_DIR": folder},
            capture_output=True,
            text=True,
            check=True,
        )
    return float(answer.stdout)


def main() -> None:
    """Print the times, their ratio, and the scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=1, help="how many times both train every fold")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--first-epoch", action="store_true", help="time one epoch of ours, and print nothing else")
    options = parser.parse_args()
    embeddings, labels = synthetic()
    if options.first_epoch:
        print(all_at_once(embeddings, labels, 1, 1)[0])
        return
    first = compiling()
    # A first epoch of each loads what is loaded once, compiled code or torch's optimisers.
    _, _, trained_on = all_at_once(embeddings, labels, 1, 1)
    torch.manual_seed(0)
    one_by_one(embeddings, labels, 1, 1)
    ours, loops = [], []
    for repeat in range(options.repeats):
        ours.append(all_at_once(embeddings, labels, options.epochs, options.seeds)[:2])
        loops.append(one_by_one(embeddings, labels, options.epochs, options.seeds))
        print(f"repeat {repeat + 1}: {loops[-1][0]:.2f} s and {ours[-1][0]:.2f} s, load {os.getloadavg()[0]:.1f}")
    steps = FOLDS * options.seeds * options.epochs * -(-len(folds()[0][0]) // 32)
    table = Table(
        "",
        "median s",
        "µs a step",
        "accuracy %",
        title=f"{FOLDS} folds, {options.seeds} seeds, {options.epochs} epochs",
    )
    medians = []
    for name, runs in ((f"plain loop, {torch.get_num_threads()} threads", loops), (f"all at once, {trained_on}", ours)):
        seconds, accuracy = np.median(runs, axis=0)
        medians.append(seconds)
        table.add_row(name, f"{seconds:.2f}", f"{1e6 * seconds / steps:.1f}", f"{100 * accuracy:.2f}")
    table.add_row("ratio", f"{medians[0] / medians[1]:.1f}", "", "")
    console = Console()
    console.print(table)
    console.print(f"a first epoch where nothing is compiled yet: {first:.1f} s, once on a machine", highlight=False)


if __name__ == "__main__":
    main()
