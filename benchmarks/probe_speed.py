"""The probe of all folds at once against the plain loop, on one ESC-50-sized synthetic dataset and the same cores.

2,000 clips, 768 dimensions, 50 classes, 5 folds (a fifth of the other four folds held out), 200 epochs. The plain loop
is an ordinary torch one: nn.Linear, AdamW, a DataLoader with batches of 32, one fold after the other, no validation
pass. Both report wall time, start-up of processes included; run it on an idle machine.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from arch_harness.probes.networks import Linear
from arch_harness.probes.training import Problem, train
from numpy.typing import NDArray
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


def main() -> None:
    """Print both times, their ratio, and both scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=1, help="how many times both train every fold")
    options = parser.parse_args()
    embeddings, labels = synthetic()
    random = np.random.default_rng(0)
    folds = []
    for fold in range(FOLDS):
        rest = random.permutation(np.flatnonzero(np.arange(CLIPS) * FOLDS // CLIPS != fold))
        folds.append((rest[: len(rest) * 4 // 5], np.flatnonzero(np.arange(CLIPS) * FOLDS // CLIPS == fold)))

    def score(logits: NDArray[np.float32], test: NDArray[np.int64]) -> float:
        return float(np.mean(logits.argmax(axis=1) == labels[test]))

    started = time.perf_counter()
    inputs = np.hstack([embeddings, np.ones((CLIPS, 1), dtype=np.float32)])
    targets = np.eye(CLASSES, dtype=np.float32)[labels]
    problems = [Problem(clips, (seed, fold)) for fold, (clips, _) in enumerate(folds) for seed in range(options.seeds)]
    network = Linear(DIMENSIONS, CLASSES)
    parameters = train(network, inputs, targets, False, problems, options.epochs)
    batched = time.perf_counter() - started
    tests = [test for _, test in folds for _ in range(options.seeds)]
    scores = [
        score(network.logits(row[None], inputs[test])[0], test) for row, test in zip(parameters, tests, strict=True)
    ]

    torch.manual_seed(0)
    started = time.perf_counter()
    plain_scores = [
        score(plain(embeddings, labels, clips, options.epochs)[test], test)
        for clips, test in folds
        for _ in range(options.seeds)
    ]
    loop = time.perf_counter() - started
    print(f"{FOLDS} folds x {options.seeds} seeds x {options.epochs} epochs, {torch.get_num_threads()} torch threads")
    print(f"plain loop  {loop:7.2f} s  accuracy {100 * np.mean(plain_scores):.2f} %")
    print(f"all at once {batched:7.2f} s  accuracy {100 * np.mean(scores):.2f} %")
    print(f"ratio       {loop / batched:7.1f}")


if __name__ == "__main__":
    main()
