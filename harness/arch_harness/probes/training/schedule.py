"""What is to be trained: a problem's clips and seed, and what follows of them, whatever it is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from arch_harness.probes.training.networks import DROPOUT
from arch_harness.probes.training.optimiser import BATCH_SIZE, learning_rates, step_numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arch_harness.probes.training.networks import Network


@dataclass(frozen=True)
class Problem:
    """One probe to train.

    Attributes:
        clips: int64, the rows to train on.
        seed: of the initial parameters, the clip order and dropout.
    """

    clips: NDArray[np.int64]
    seed: Sequence[int]

    @property
    def batches(self) -> int:
        """Steps of one epoch; the last batch may be smaller."""
        return -(-len(self.clips) // BATCH_SIZE)


class TrainingSchedule:
    """A problem's initial parameters, the numbers of its steps, and epoch by epoch its batches.

    Attributes:
        problem: which one.
        initial: FP32 [network.size].
        numbers: FP32 [steps, 3], see `optimiser.step_numbers`; without the last steps, whose rate 0 changes nothing.
    """

    def __init__(self, network: Network, problem: Problem, epochs: int) -> None:
        self.problem = problem
        self._random = np.random.default_rng(problem.seed)
        self.initial = network.initialise(self._random)
        rates = learning_rates(epochs, problem.batches)
        self.numbers = step_numbers(np.trim_zeros(rates, "b"))

    def next_order(self) -> NDArray[np.int64]:
        """The clips of another epoch's batches, the last filled up with clip 0, int64 [batches * BATCH_SIZE]."""
        order = np.zeros(self.problem.batches * BATCH_SIZE, dtype=np.int64)
        order[: len(self.problem.clips)] = self._random.permutation(self.problem.clips)
        return order

    def kept(self, batches: int, units: int) -> NDArray[np.bool_]:
        """What dropout leaves of the hidden units in the next batches, bool [batches * BATCH_SIZE, units]."""
        return self._random.random((batches * BATCH_SIZE, units), dtype=np.float32) >= DROPOUT
