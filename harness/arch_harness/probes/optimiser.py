"""The ARCH learning-rate schedule, and AdamW over several independent problems at once, in place.

Source: La Quatra et al., "Benchmarking Representations for Speech, Music, and Acoustic Events" (arXiv 2405.00934) and
the behaviour of its reference implementation; AdamW: Loshchilov and Hutter, "Decoupled Weight Decay Regularization".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import blas

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH_SIZE = 32
EPOCHS = 200
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.01
BETAS = (0.9, 0.999)
EPSILON = 1e-8
WARMUP_SHARE = 0.1

# Steps between two rescalings of the moments; 0.9 ** -128 is far from FP32's largest number.
_WINDOW = 128


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


class AdamW:
    """AdamW for problems that take their steps together, each at its own learning rate.

    Most of a small probe's time goes into passes over these arrays, so the moments are kept without their decay
    factors: with gradients that come in multiplied by `gradient_scale`, the second moment is a plain sum of squares
    and the first a plain weighted sum, and the factors are numbers that multiply the step. The result is AdamW's up to
    rounding.

    Args:
        problems: how many.
        size: parameters of each.
    """

    def __init__(self, problems: int, size: int) -> None:
        self._first = np.zeros((problems, size), dtype=np.float32)
        self._second = np.zeros((problems, size), dtype=np.float32)
        self._update = np.empty((problems, size), dtype=np.float32)
        self._step = 0
        self._age = 0  # steps since the last rescaling

    @property
    def gradient_scale(self) -> float:
        """What the next gradients must be multiplied by."""
        return float(BETAS[1] ** (-(self._age + 1) / 2))

    def step(self, parameters: NDArray[np.float32], gradients: NDArray[np.float32], rates: NDArray[np.float64]) -> None:
        """Update `parameters` in place.

        Args:
            parameters: FP32 [problems, size], contiguous; of fewer problems than before where the last ones are done.
            gradients: FP32 of the same shape, times `gradient_scale`; overwritten.
            rates: FP64 [problems], the learning rates.
        """
        count = len(parameters)
        first, second, update = self._first[:count], self._second[:count], self._update[:count]
        self._step += 1
        self._age += 1
        blas.saxpy(gradients.ravel(), first.ravel(), a=BETAS[0] ** -self._age * BETAS[1] ** (self._age / 2))
        np.multiply(gradients, gradients, out=gradients)
        np.add(second, gradients, out=second)
        unit_first = (1 - BETAS[0]) * BETAS[0] ** self._age / (1 - BETAS[0] ** self._step)
        unit_second = ((1 - BETAS[1]) * BETAS[1] ** self._age / (1 - BETAS[1] ** self._step)) ** 0.5
        np.sqrt(second, out=update)
        np.add(update, np.float32(EPSILON / unit_second), out=update)
        np.divide(first, update, out=update)
        for row, rate in enumerate(rates.tolist()):
            np.multiply(parameters[row], np.float32(1 - rate * WEIGHT_DECAY), out=parameters[row])
            blas.saxpy(update[row], parameters[row], a=-rate * unit_first / unit_second)
        if self._age == _WINDOW:
            first *= np.float32(BETAS[0] ** _WINDOW)
            second *= np.float32(BETAS[1] ** _WINDOW)
            self._age = 0
