"""Training of all problems of a dataset as one batched problem in torch, on an NVIDIA GPU.

torch is no dependency of the bench: where it is not installed, or there is no GPU, probes are trained on the CPU.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from arch_harness.probes.training.networks import DROPOUT
from arch_harness.probes.training.optimiser import BATCH_SIZE, BETAS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arch_harness.probes.training.networks import Network
    from arch_harness.probes.training.schedule import TrainingSchedule


def find() -> str | None:
    """The GPU to train on as torch names it, or None; torch, whose import takes seconds, only if there may be one."""
    if not any(Path("/dev").glob("nvidia[0-9]*")) and shutil.which("nvidia-smi") is None:
        return None
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    return "cuda" if torch.cuda.is_available() else None


def name(device: str) -> str:
    """What the reader knows the GPU by."""
    import torch

    return torch.cuda.get_device_name(device)


def train(
    network: Network,
    inputs: NDArray[np.float32],
    targets: NDArray[np.float32],
    multi_label: bool,
    schedules: Sequence[TrainingSchedule],
    epochs: int,
    device: str,
    on_epoch: Callable[[], None],
) -> NDArray[np.float32] | None:
    """Train one network per schedule, as `training.train` does on the CPU.

    Args:
        network: see there, and so are the inputs, targets, multi_label, epochs and on_epoch.
        inputs: see there.
        targets: see there.
        multi_label: see there.
        schedules: none of them begun.
        epochs: see there.
        device: of torch.
        on_epoch: see there.

    Returns:
        Parameters FP32 [schedules, network.size]; None if the device has too little memory.
    """
    import torch

    # Those with more steps first, so that the ones still running are a prefix.
    by_length = sorted(range(len(schedules)), key=lambda index: -len(schedules[index].numbers))
    try:
        found = _Batched(network, inputs, targets, multi_label, [schedules[index] for index in by_length], device)
        left = epochs * len(schedules)
        while not found.done:
            for _ in range(found.one_step()):
                on_epoch()
                left -= 1
    except torch.OutOfMemoryError:
        return None
    for _ in range(left):
        on_epoch()
    trained = np.empty((len(schedules), network.size), dtype=np.float32)
    trained[by_length] = found.parameters.cpu().numpy()
    return trained


class _Batched:
    """Courses that take their steps together."""

    def __init__(
        self,
        network: Network,
        inputs: NDArray[np.float32],
        targets: NDArray[np.float32],
        multi_label: bool,
        schedules: Sequence[TrainingSchedule],
        device: str,
    ) -> None:
        import torch

        self._network, self._multi_label, self._courses, self._device = network, multi_label, schedules, device
        self._steps = [len(schedule.numbers) for schedule in schedules]
        self._batches = [schedule.problem.batches for schedule in schedules]
        self._inputs, self._targets = self._moved(inputs), self._moved(targets)
        self.parameters = self._moved(np.stack([schedule.initial for schedule in schedules]))
        self._first, self._second = torch.zeros_like(self.parameters), torch.zeros_like(self.parameters)
        numbers = np.zeros((max(self._steps), 3, len(schedules), 1), dtype=np.float32)
        for column, schedule in enumerate(schedules):
            numbers[: self._steps[column], :, column, 0] = schedule.numbers
        self._numbers = self._moved(numbers)
        longest = max(self._batches) * BATCH_SIZE
        self._order = torch.zeros((len(schedules), longest), dtype=torch.int64, device=device)
        units = network.dimensions if network.hidden else 0
        self._kept = torch.zeros((len(schedules), longest, units), dtype=torch.bool, device=device)
        self._counts = self._moved(np.array([[len(schedule.problem.clips)] for schedule in schedules]))
        self._starts = self._moved(np.array([[count] for count in self._batches]))
        self._places = torch.arange(BATCH_SIZE, device=device)
        self._step = 0

    def _moved(self, array: NDArray[Any]) -> Any:
        import torch

        return torch.from_numpy(array).to(self._device)

    @property
    def done(self) -> bool:
        """Whether no schedule has steps left."""
        return self._step == self._steps[0]

    def one_step(self) -> int:
        """Take a step of each schedule that has any left; returns how many of them ended an epoch."""
        import torch

        running = sum(steps > self._step for steps in self._steps)
        for row in range(running):
            if self._step % self._batches[row] == 0:
                order = self._courses[row].next_order()
                self._order[row, : len(order)] = self._moved(order)
                if self._network.hidden:
                    kept = self._courses[row].kept(self._batches[row], self._network.dimensions)
                    self._kept[row, : len(order)] = self._moved(kept)
        counts = self._counts[:running]
        places = self._step % self._starts[:running] * BATCH_SIZE + self._places
        clips = self._order[:running].gather(1, places)
        # Each clip's part in the mean of its batch; those that only fill up the last batch have none.
        shares = (places < counts) / (counts - places[:, :1]).clamp(max=BATCH_SIZE)
        parameters = self.parameters[:running].requires_grad_()
        outputs = self._outputs(parameters, clips, places)
        targets = self._targets[clips]
        if self._multi_label:
            losses = torch.nn.functional.binary_cross_entropy_with_logits(outputs, targets, reduction="none").mean(-1)
        else:
            losses = -(outputs.log_softmax(-1) * targets).sum(-1)
        (gradients,) = torch.autograd.grad((losses * shares).sum(), parameters)
        parameters.requires_grad_(False)
        keep, epsilon, rate = self._numbers[self._step, :, :running]
        first = self._first[:running].mul_(BETAS[0]).add_(gradients)
        second = self._second[:running].mul_(BETAS[1]).addcmul_(gradients, gradients)
        parameters.mul_(keep).addcmul_(rate, first / second.sqrt().add_(epsilon))
        self._step += 1
        return sum(self._step % batches == 0 for batches in self._batches[:running])

    def _outputs(self, parameters: Any, clips: Any, places: Any) -> Any:
        """Outputs [schedules, batch, classes] in training, with dropout."""
        mixing, layers = self._network.split(parameters)
        values = self._inputs[clips]
        if self._network.summed:
            stacked = values.unflatten(-1, (self._network.summed, self._network.dimensions))
            values = (mixing.softmax(-1)[:, None, None] @ stacked).squeeze(-2)
        for layer in layers[:-1]:
            rows = places[..., None].expand(-1, -1, self._kept.shape[2])
            kept = self._kept[: len(places)].gather(1, rows)
            values = (values @ layer[:, :-1] + layer[:, -1:]).relu() * kept / (1 - DROPOUT)
        return values @ layers[-1][:, :-1] + layers[-1][:, -1:]
