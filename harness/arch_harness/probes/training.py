"""Training of every fold and seed of a dataset together, on all cores, exactly as each alone would be trained.

Several problems are stepped together as one batched problem, and where there is enough to do, a process per core takes
a share of them. (Threads would do, but the steps are so short that they mostly wait for the interpreter's lock.) A
problem's schedule, batches and clip order are its own, whatever else is trained beside it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from arch_harness.probes.optimiser import BATCH_SIZE, AdamW, learning_rates

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arch_harness.probes.networks import Network

_GROUP_PARAMETERS = 1 << 17
"""Of the problems stepped together; beyond it a call costs little beside its work, and the arrays leave the cache."""

_WORTH_PROCESSES = 20_000_000_000
"""Multiplications and additions of one core that take longer than starting processes does."""

_POLL_S = 0.2


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


class _Group:
    """Problems stepped together: those with more steps first, so that the ones still running are a prefix."""

    def __init__(
        self,
        network: Network,
        inputs: NDArray[np.float32],
        targets: NDArray[np.float32],
        multi_label: bool,
        problems: Sequence[Problem],
        epochs: int,
        on_epoch: Callable[[], bool],
    ) -> None:
        self._network, self._inputs, self._targets, self._multi_label = network, inputs, targets, multi_label
        self._problems, self._on_epoch = problems, on_epoch
        self._random = [np.random.default_rng(problem.seed) for problem in problems]
        self.parameters = np.stack([network.initialise(random) for random in self._random])
        self._gradients = np.empty_like(self.parameters)
        self._optimiser = AdamW(*self.parameters.shape)
        self._rates = np.zeros((epochs * problems[0].batches, len(problems)))
        for column, problem in enumerate(problems):
            self._rates[: epochs * problem.batches, column] = learning_rates(epochs, problem.batches)
        # The schedule ends in steps of rate 0, which change nothing.
        self._steps = [int(np.flatnonzero(self._rates[:, column]).max()) + 1 for column in range(len(problems))]
        # The order of an epoch, filled up to whole batches with clip 0, and each clip's share in its batch's mean loss.
        padded = [problem.batches * BATCH_SIZE for problem in problems]
        self._order = [np.zeros(size, dtype=np.int64) for size in padded]
        self._shares = [np.zeros(size, dtype=np.float32) for size in padded]
        for problem, shares in zip(problems, self._shares, strict=True):
            count = len(problem.clips)
            whole = count // BATCH_SIZE * BATCH_SIZE
            shares[:whole] = 1 / BATCH_SIZE
            shares[whole:count] = 1 / max(1, count - whole)
        self._step = 0

    def train(self) -> None:
        """Take all steps, unless `on_epoch` asks to stop."""
        with np.errstate(over="ignore"):
            while self._step < self._steps[0]:
                if not self._one_step():
                    return

    def _one_step(self) -> bool:
        running = sum(steps > self._step for steps in self._steps)
        rows, shares = [], []
        for index, problem in enumerate(self._problems[:running]):
            start = self._step % problem.batches * BATCH_SIZE
            if start == 0:
                self._order[index][: len(problem.clips)] = self._random[index].permutation(problem.clips)
            rows.append(self._order[index][start : start + BATCH_SIZE])
            shares.append(self._shares[index][start : start + BATCH_SIZE])
        clips = rows[0][None] if running == 1 else np.stack(rows)
        share = shares[0][None] if running == 1 else np.stack(shares)
        parameters, gradients = self.parameters[:running], self._gradients[:running]
        inputs = self._inputs.take(clips, axis=0)
        outputs, hidden = self._network.forward(parameters, inputs, self._random[:running])
        self._to_probabilities(outputs)
        outputs -= self._targets.take(clips, axis=0)
        scale = self._optimiser.gradient_scale / (outputs.shape[2] if self._multi_label else 1)
        outputs *= (share * np.float32(scale))[..., None]
        self._network.backward(parameters, inputs, hidden, outputs, gradients)
        self._optimiser.step(parameters, gradients, self._rates[self._step, :running])
        self._step += 1
        ends = sum(self._step % problem.batches == 0 for problem in self._problems[:running])
        return sum(self._on_epoch() for _ in range(ends)) == ends

    def _to_probabilities(self, outputs: NDArray[np.float32]) -> None:
        """Logits to probabilities, in place."""
        if self._multi_label:
            # exp overflows to infinity for very negative logits, and 1 / infinity is the sigmoid's 0.
            np.negative(outputs, out=outputs)
            np.exp(outputs, out=outputs)
            outputs += 1
            np.reciprocal(outputs, out=outputs)
        else:
            outputs -= np.maximum.reduce(outputs, axis=2, keepdims=True)
            np.exp(outputs, out=outputs)
            outputs /= np.add.reduce(outputs, axis=2, keepdims=True)


def _train_group(
    network: Network,
    inputs: NDArray[np.float32],
    targets: NDArray[np.float32],
    multi_label: bool,
    problems: Sequence[Problem],
    epochs: int,
    on_epoch: Callable[[], bool],
) -> NDArray[np.float32]:
    # A product of 32 rows gains nothing from several threads.
    with threadpool_limits(1, "blas"):
        group = _Group(network, inputs, targets, multi_label, problems, epochs, on_epoch)
        group.train()
    return group.parameters


def train(
    network: Network,
    inputs: NDArray[np.float32],
    targets: NDArray[np.float32],
    multi_label: bool,
    problems: Sequence[Problem],
    epochs: int,
    on_epoch: Callable[[], None] = lambda: None,
) -> NDArray[np.float32]:
    """Train one network per problem: cross-entropy, or sigmoid and binary cross-entropy, and AdamW.

    Args:
        network: the probe.
        inputs: FP32 [clips, dimensions + 1] of all clips, the last column 1.
        targets: FP32 [clips, classes] of 0 and 1.
        multi_label: whether a clip may have any number of labels.
        problems: which clips, and the seed.
        epochs: passes over each problem's clips.
        on_epoch: called after each epoch of each problem.

    Returns:
        Parameters after the last epoch, FP32 [problems, network.size].
    """
    cores = len(os.sched_getaffinity(0))
    work = 4 * network.size * BATCH_SIZE * epochs * sum(problem.batches for problem in problems)
    processes = min(cores, len(problems)) if work > _WORTH_PROCESSES else 1
    groups = _grouped(problems, max(1, _GROUP_PARAMETERS // network.size), processes)
    reported = 0

    def report(count: int) -> bool:
        nonlocal reported
        for _ in range(reported, count):
            on_epoch()
        reported = max(reported, count)
        return True

    trained = np.empty((len(problems), network.size), dtype=np.float32)
    if processes > 1:
        members = [[problems[index] for index in group] for group in groups]
        found = _in_processes(network, inputs, targets, multi_label, members, epochs, processes, report)
    else:
        found = [
            _train_group(
                network,
                inputs,
                targets,
                multi_label,
                [problems[index] for index in group],
                epochs,
                lambda: report(reported + 1),
            )
            for group in groups
        ]
    for group, parameters in zip(groups, found, strict=True):
        trained[group] = parameters
    report(epochs * len(problems))
    return trained


def _grouped(problems: Sequence[Problem], width: int, processes: int) -> list[list[int]]:
    """Indices of the problems of each group, at most `width`; as many groups as give every process the same share."""
    rounds = -(-len(problems) // (width * processes))
    count = min(len(problems), rounds * processes)
    by_length = sorted(range(len(problems)), key=lambda index: -problems[index].batches)
    return [by_length[start::count] for start in range(count)]


def _in_processes(
    network: Network,
    inputs: NDArray[np.float32],
    targets: NDArray[np.float32],
    multi_label: bool,
    groups: Sequence[Sequence[Problem]],
    epochs: int,
    processes: int,
    report: Callable[[int], bool],
) -> list[NDArray[np.float32]]:
    # A fork of this process would inherit the locks of Ray's and gRPC's threads.
    context = multiprocessing.get_context("spawn")
    done, stop = context.Value("q", 0), context.Event()
    with tempfile.TemporaryDirectory(prefix="arch-probe-") as folder:
        # The processes map the file, so that the embeddings are in memory once.
        np.save(Path(folder) / "inputs.npy", inputs)
        np.save(Path(folder) / "targets.npy", targets)
        with ProcessPoolExecutor(processes, context, _start_worker, (Path(folder), done, stop)) as executor:
            try:
                futures = [executor.submit(_work, network, multi_label, group, epochs) for group in groups]
                while wait(futures, _POLL_S).not_done:
                    report(done.value)
                return [future.result() for future in futures]
            finally:
                stop.set()
                executor.shutdown(cancel_futures=True)


_worker: dict[str, Any] = {}


def _start_worker(folder: Path, done: Any, stop: Any) -> None:
    # Ctrl-C reaches the whole terminal; the parent says when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker["inputs"] = np.load(folder / "inputs.npy", mmap_mode="r")
    _worker["targets"] = np.load(folder / "targets.npy", mmap_mode="r")
    _worker["done"], _worker["stop"] = done, stop


def _work(network: Network, multi_label: bool, problems: Sequence[Problem], epochs: int) -> NDArray[np.float32]:
    def on_epoch() -> bool:
        with _worker["done"].get_lock():
            _worker["done"].value += 1
        return not _worker["stop"].is_set()

    inputs, targets = np.asarray(_worker["inputs"]), np.asarray(_worker["targets"])
    return _train_group(network, inputs, targets, multi_label, problems, epochs, on_epoch)
