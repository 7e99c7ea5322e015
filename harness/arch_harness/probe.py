"""The ARCH linear probe: one linear layer on frozen embeddings, trained for every fold at once, in NumPy.

Source: La Quatra et al., "Benchmarking Representations for Speech, Music, and Acoustic Events" (arXiv 2405.00934), and
the behaviour of its reference implementation: cross-entropy, AdamW (learning rate 1e-3, weight decay 0.01, betas 0.9
and 0.999, epsilon 1e-8), batches of 32, 200 epochs, linear warm-up over the first tenth of the steps and linear decay
to 0, the schedule advanced once more at the end of every epoch, and the weights of the last epoch scored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from arch_harness.errors import ScoreError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arch_harness.datasets import Fold

BATCH_SIZE = 32
EPOCHS = 200
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.01
BETAS = (0.9, 0.999)
EPSILON = 1e-8
WARMUP_SHARE = 0.1


@dataclass(frozen=True)
class FoldResult:
    """Scores of the test clips of one fold, in [0, 1]; `chance` is what always naming one class can reach at best."""

    fold: str
    train: int
    validation: int
    test: int
    accuracy: float
    macro_f1: float
    chance: float


def learning_rates(epochs: int, batches: int) -> NDArray[np.float64]:
    """The learning rate of every step, FP64 [epochs * batches].

    The schedule is laid out over `epochs * batches` advances but advanced `batches + 1` times an epoch, so the decay
    reaches 0 early.
    """
    total = epochs * batches
    warmup = int(WARMUP_SHARE * total)
    advanced = np.arange(total) + np.arange(total) // batches
    rising = advanced / max(1, warmup)
    falling = np.maximum(0, (total - advanced) / max(1, total - warmup))
    return LEARNING_RATE * np.where(advanced < warmup, rising, falling)


def train_linear(
    embeddings: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: int,
    seed: Sequence[int],
    epochs: int,
    on_epoch: Callable[[], None] = lambda: None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Train one linear layer.

    Args:
        embeddings: FP32 [clips, dimensions] of the training clips.
        labels: int64 [clips].
        classes: number of outputs.
        seed: of the initial weights (uniform in +-1/sqrt(dimensions), as torch.nn.Linear) and of the clip order.
        epochs: passes over the clips.
        on_epoch: called after each.

    Returns:
        Weights FP32 [dimensions, classes] and bias FP32 [classes] after the last epoch.
    """
    random = np.random.default_rng(seed)
    clips, dimensions = embeddings.shape
    bound = 1 / np.sqrt(dimensions)
    # The bias is the last row: one matrix product and one update serve both.
    theta = random.uniform(-bound, bound, (dimensions + 1, classes)).astype(np.float32)
    inputs = np.ones((clips, dimensions + 1), dtype=np.float32)
    inputs[:, :-1] = embeddings
    first = np.zeros_like(theta)
    second = np.zeros_like(theta)
    update = np.empty_like(theta)
    rates = learning_rates(epochs, -(-clips // BATCH_SIZE))
    step = 0
    for _ in range(epochs):
        order = random.permutation(clips)
        for start in range(0, clips, BATCH_SIZE):
            batch = order[start : start + BATCH_SIZE]
            x = inputs[batch]
            logits = x @ theta
            logits -= logits.max(axis=1, keepdims=True)
            np.exp(logits, out=logits)
            logits /= logits.sum(axis=1, keepdims=True)
            logits[np.arange(len(batch)), labels[batch]] -= 1
            logits /= len(batch)
            gradient = x.T @ logits
            rate = rates[step]
            step += 1
            # AdamW; in place, since these arrays are what the time goes into.
            first *= BETAS[0]
            first += (1 - BETAS[0]) * gradient
            second *= BETAS[1]
            gradient *= gradient
            gradient *= 1 - BETAS[1]
            second += gradient
            np.sqrt(second, out=update)
            update /= np.float32(np.sqrt(1 - BETAS[1] ** step))
            update += np.float32(EPSILON)
            np.divide(first, update, out=update)
            update *= np.float32(rate / (1 - BETAS[0] ** step))
            theta *= np.float32(1 - rate * WEIGHT_DECAY)
            theta -= update
        on_epoch()
    return theta[:-1], theta[-1]


def probe_fold(
    embeddings: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: int,
    fold: Fold,
    seed: int,
    epochs: int,
    on_epoch: Callable[[], None] = lambda: None,
) -> FoldResult:
    """Train on the fold's training clips and score its test clips.

    Args:
        embeddings: FP32 [clips, dimensions] of all clips.
        labels: int64 [clips].
        classes: number of classes of the dataset.
        fold: indices into `embeddings`.
        seed: with the fold's name it fixes the result.
        epochs: passes over the training clips.
        on_epoch: called after each.

    Raises:
        ScoreError: if the fold has no clips to train or to test on.
    """
    from sklearn.metrics import f1_score

    if not len(fold.train) or not len(fold.test):
        raise ScoreError(f"fold {fold.name} has {len(fold.train)} training and {len(fold.test)} test clips left")
    # The fold's name joins the seed, so that a fold's score does not depend on which other folds exist.
    weights, bias = train_linear(
        embeddings[fold.train], labels[fold.train], classes, [seed, *fold.name.encode()], epochs, on_epoch
    )
    truth = labels[fold.test]
    predicted = np.argmax(embeddings[fold.test] @ weights + bias, axis=1)
    return FoldResult(
        fold=fold.name,
        train=len(fold.train),
        validation=len(fold.validation),
        test=len(fold.test),
        accuracy=float(np.mean(predicted == truth)),
        macro_f1=float(f1_score(truth, predicted, average="macro", zero_division=0)),
        chance=float(np.bincount(truth).max() / len(truth)),
    )
