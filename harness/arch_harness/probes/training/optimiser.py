"""AdamW and the learning-rate schedule of the ARCH protocol, as the numbers that each step takes.

Source: La Quatra et al., "Benchmarking Representations for Speech, Music, and Acoustic Events" (arXiv 2405.00934) and
the behaviour of its reference implementation; AdamW: Loshchilov and Hutter, "Decoupled Weight Decay Regularization".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH_SIZE = 32
EPOCHS = 200
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.01
BETAS = (0.9, 0.999)
EPSILON = 1e-8
WARMUP_SHARE = 0.1


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


def step_numbers(rates: NDArray[np.float64]) -> NDArray[np.float32]:
    """What AdamW does with a gradient in each step, FP32 [steps, 3]: `keep`, `epsilon` and `rate`.

    The moments are kept without the factors 1 - beta, which with the corrections of their bias are numbers of the step:

        first = beta1 * first + gradient
        second = beta2 * second + gradient ** 2
        parameter = keep * parameter + rate * first / (sqrt(second) + epsilon)

    Args:
        rates: FP64 [steps], the learning rates.
    """
    steps = np.arange(1, len(rates) + 1)
    first, second = ((1 - beta) / (1 - beta**steps) for beta in BETAS)
    root = np.sqrt(second)
    numbers = np.stack([1 - rates * WEIGHT_DECAY, EPSILON / root, -rates * first / root], axis=1)
    return np.asarray(numbers, dtype=np.float32)
