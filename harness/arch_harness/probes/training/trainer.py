"""Training of every fold and seed of a dataset together, exactly as each alone would be trained.

On a GPU all of them are stepped as one batched problem (`gpu`). On the CPU every core trains one for an epoch, then the
one that has most left to do, so that all cores are busy to the end. A problem's schedule, batches and clip order are
its own, whatever else is trained beside it.
"""

from __future__ import annotations

import heapq
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from arch_harness.probes.training import cuda
from arch_harness.probes.training.optimiser import BATCH_SIZE
from arch_harness.probes.training.schedule import Problem, TrainingSchedule
from arch_harness.probes.training.steps import blocks_of, padded_outputs, stride_of, take_steps
from arch_harness.probes.training.tiles import TILE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arch_harness.probes.training.networks import Network

CPU = "CPU"
_BATCHES = 64  # of one call, which bounds what dropout holds at once


def train(
    network: Network,
    inputs: NDArray[np.float32],
    targets: NDArray[np.float32],
    multi_label: bool,
    problems: Sequence[Problem],
    epochs: int,
    on_epoch: Callable[[], None] = lambda: None,
) -> tuple[NDArray[np.float32], str]:
    """Train one network per problem: cross-entropy, or sigmoid and binary cross-entropy, and AdamW.

    Args:
        network: the probe.
        inputs: FP32 [clips, network.inputs] of all clips.
        targets: FP32 [clips, classes] of 0 and 1.
        multi_label: whether a clip may have any number of labels.
        problems: which clips, and the seed.
        epochs: passes over each problem's clips.
        on_epoch: called after each epoch of each problem, from any thread.

    Returns:
        Parameters after the last epoch, FP32 [problems, network.size], and what they were trained on.
    """
    schedules = [TrainingSchedule(network, problem, epochs) for problem in problems]
    device = cuda.find()
    if device is not None:
        trained = cuda.train(network, inputs, targets, multi_label, schedules, epochs, device, on_epoch)
        if trained is not None:
            return trained, cuda.name(device)
        schedules = [TrainingSchedule(network, problem, epochs) for problem in problems]
    return _train_on_cpu(network, inputs, targets, multi_label, schedules, epochs, on_epoch), CPU


class _TrainingState:
    """A problem in training on the CPU, an epoch at a time; its layers as `steps` lays them out."""

    def __init__(self, network: Network, schedule: TrainingSchedule) -> None:
        self._network, self._schedule, self._step = network, schedule, 0
        mixing, layers = network.split(schedule.initial)
        self._mixing = np.stack([mixing, np.zeros_like(mixing), np.zeros_like(mixing)])
        if not network.hidden:
            self._layers = [
                np.zeros((3, blocks_of(network.dimensions), 0, TILE), dtype=np.float32),
                np.zeros((3, 0), dtype=np.float32),
            ]
        else:
            self._layers = []
        for layer, (inputs, outputs) in zip(layers, network.shapes, strict=True):
            wide = np.zeros((padded_outputs(outputs), blocks_of(inputs) * TILE), dtype=np.float32)
            wide[:outputs, :inputs] = layer[:-1].T
            state = np.zeros((3, blocks_of(inputs), len(wide), TILE), dtype=np.float32)
            state[0] = wide.reshape(len(wide), -1, TILE).swapaxes(0, 1)
            bias = np.zeros((3, len(wide)), dtype=np.float32)
            bias[0, :outputs] = layer[-1]
            self._layers += [state, bias]

    @property
    def left(self) -> int:
        """Steps that are still to be taken."""
        return len(self._schedule.numbers) - self._step

    def one_epoch(self, inputs: NDArray[np.float32], targets: NDArray[np.float32], multi_label: bool) -> None:
        problem, order = self._schedule.problem, self._schedule.next_order()
        units = self._network.dimensions if self._network.hidden else 0
        numbers = self._schedule.numbers[self._step : self._step + problem.batches]
        for start in range(0, len(numbers), _BATCHES):
            some = numbers[start : start + _BATCHES]
            kept = self._schedule.kept(len(some) if units else 0, units)
            first = start * BATCH_SIZE
            take_steps(
                inputs,
                targets,
                multi_label,
                order[first : first + len(some) * BATCH_SIZE],
                len(problem.clips) - first,
                kept,
                some,
                self._mixing,
                *self._layers,
            )
        self._step += len(numbers)

    def parameters(self) -> NDArray[np.float32]:
        """As `Network` lays them out, FP32 [size]."""
        flat = [self._mixing[0]]
        used = self._layers[-2 * len(self._network.shapes) :]
        for state, bias, (inputs, outputs) in zip(used[::2], used[1::2], self._network.shapes, strict=True):
            wide = state[0].swapaxes(0, 1).reshape(bias.shape[1], -1)
            flat += [wide[:outputs, :inputs].T.ravel(), bias[0, :outputs]]
        return np.concatenate(flat)


def _train_on_cpu(
    network: Network,
    inputs: NDArray[np.float32],
    targets: NDArray[np.float32],
    multi_label: bool,
    schedules: Sequence[TrainingSchedule],
    epochs: int,
    on_epoch: Callable[[], None],
) -> NDArray[np.float32]:
    if not network.summed:
        # np.empty asks for huge pages where np.zeros does not; rows are read in random order.
        padded = np.empty((len(inputs), stride_of(network.dimensions)), dtype=np.float32)
        padded[:, : network.dimensions], padded[:, network.dimensions :] = inputs, 0
        inputs = padded
    runs = [_TrainingState(network, schedule) for schedule in schedules]
    waiting = [(-run.left, index) for index, run in enumerate(runs) if run.left]
    heapq.heapify(waiting)
    lock, stop = threading.Lock(), threading.Event()

    def work() -> int:
        """Train until no problem waits; those that other threads hold stay theirs. Returns the epochs trained."""
        trained = 0
        while not stop.is_set():
            with lock:
                if not waiting:
                    break
                _, index = heapq.heappop(waiting)
            runs[index].one_epoch(inputs, targets, multi_label)
            trained += 1
            on_epoch()
            if runs[index].left:
                with lock:
                    heapq.heappush(waiting, (-runs[index].left, index))
        return trained

    threads = max(1, min(len(os.sched_getaffinity(0)), len(runs)))
    with ThreadPoolExecutor(threads, "arch-probe") as executor:
        try:
            trained = sum(future.result() for future in [executor.submit(work) for _ in range(threads)])
        finally:
            stop.set()
    # Epochs whose steps all have rate 0 were left out.
    for _ in range(trained, epochs * len(runs)):
        on_epoch()
    return np.stack([run.parameters() for run in runs])
