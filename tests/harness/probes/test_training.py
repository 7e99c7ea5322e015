"""Training: the batched probes against an ordinary torch loop, one fold and one seed at a time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from arch_harness.probes.training import cuda, trainer
from arch_harness.probes.training.networks import DROPOUT, Network
from arch_harness.probes.training.optimiser import learning_rates
from arch_harness.probes.training.schedule import Problem, TrainingSchedule

if TYPE_CHECKING:
    from numpy.typing import NDArray

pytestmark = pytest.mark.torch

torch = pytest.importorskip("torch", reason="the plain loop is torch's")

torch.set_num_threads(1)  # several threads only get in each other's way on products this small

CLIPS, DIMENSIONS, CLASSES = 300, 24, 7

Trainer = Callable[..., "NDArray[np.float32]"]


def data(multi_label: bool) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    random = np.random.default_rng(0)
    embeddings = random.standard_normal((CLIPS, DIMENSIONS)).astype(np.float32)
    embeddings[:, 0] = 0  # a dimension whose gradient is always 0
    outputs = embeddings @ random.standard_normal((DIMENSIONS, CLASSES)) + random.standard_normal((CLIPS, CLASSES))
    if multi_label:
        return embeddings, (outputs > 2).astype(np.float32)
    return embeddings, np.eye(CLASSES, dtype=np.float32)[outputs.argmax(axis=1)]


def train(network: Network, *options: Any) -> NDArray[np.float32]:
    parameters, trained_on = trainer.train(network, *options)
    assert trained_on
    return parameters


def train_in_torch(
    network: Network,
    inputs: NDArray[np.float32],
    targets: NDArray[np.float32],
    multi_label: bool,
    problems: list[Problem],
    epochs: int,
    on_epoch: Callable[[], None] = lambda: None,
) -> NDArray[np.float32]:
    """What a GPU runs, on the CPU: no GPU is needed to hold its results to the plain loop's."""
    schedules = [TrainingSchedule(network, problem, epochs) for problem in problems]
    trained = cuda.train(network, inputs, targets, multi_label, schedules, epochs, "cpu", on_epoch)
    assert trained is not None
    return trained


def plain_loop(
    hidden: bool,
    embeddings: NDArray[np.float32],
    targets: NDArray[np.float32],
    multi_label: bool,
    problem: Problem,
    epochs: int,
) -> NDArray[np.float32]:
    """The protocol as it would be written down: torch's layers, losses, AdamW and scheduler; logits of all clips."""
    random = np.random.default_rng(problem.seed)
    layers = [torch.nn.Linear(DIMENSIONS, outputs) for outputs in ([DIMENSIONS, CLASSES] if hidden else [CLASSES])]
    for layer in layers:
        bound = 1 / np.sqrt(DIMENSIONS)
        drawn = random.uniform(-bound, bound, (DIMENSIONS + 1, layer.out_features)).astype(np.float32)
        layer.weight.data = torch.from_numpy(drawn[:-1].T.copy())
        layer.bias.data = torch.from_numpy(drawn[-1].copy())
    optimiser = torch.optim.AdamW([p for layer in layers for p in layer.parameters()], lr=1e-3)
    batches = -(-len(problem.clips) // 32)
    total, warmup = epochs * batches, int(0.1 * epochs * batches)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: step / max(1, warmup) if step < warmup else max(0.0, (total - step) / max(1, total - warmup)),
    )
    loss = torch.nn.BCEWithLogitsLoss() if multi_label else torch.nn.CrossEntropyLoss()
    for _ in range(epochs):
        order = random.permutation(problem.clips)
        for start in range(0, len(order), 32):
            batch = order[start : start + 32]
            x = torch.from_numpy(embeddings[batch])
            if hidden:
                # The same clips in the same order drop the same units; a last, smaller batch draws for 32 clips too.
                kept = random.random((32, DIMENSIONS), dtype=np.float32)[: len(batch)] >= DROPOUT
                x = torch.relu(layers[0](x)) * torch.from_numpy(kept) / (1 - DROPOUT)
            optimiser.zero_grad()
            loss(layers[-1](x), torch.from_numpy(targets[batch])).backward()
            optimiser.step()
            scheduler.step()
        scheduler.step()
    with torch.no_grad():
        x = torch.from_numpy(embeddings)
        if hidden:
            x = torch.relu(layers[0](x))
        logits: NDArray[np.float32] = layers[-1](x).numpy()
    return logits


@pytest.mark.parametrize("trainer", [train, train_in_torch])
@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("multi_label", [False, True])
def test_logits_are_those_of_the_plain_loop(hidden: bool, multi_label: bool, trainer: Trainer) -> None:
    embeddings, targets = data(multi_label)
    # Folds of different sizes, one of them in whole batches, and two seeds, all trained together.
    sizes, epochs = (96, 150, 70), 30 if hidden else 100
    problems = [Problem(np.arange(size), (seed, size)) for size in sizes for seed in (0, 1)][:5]
    network = Network(DIMENSIONS, CLASSES, hidden)
    calls: list[None] = []
    parameters = trainer(network, embeddings, targets, multi_label, problems, epochs, lambda: calls.append(None))
    assert len(calls) == epochs * len(problems)
    for row, problem in zip(parameters, problems, strict=True):
        plain = plain_loop(hidden, embeddings, targets, multi_label, problem, epochs)
        np.testing.assert_allclose(network.logits(row, embeddings), plain, atol=1e-4)
        assert np.ptp(plain) > 1  # it did learn


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize(("dimensions", "classes"), [(1, 2), (63, 3), (64, 4), (65, 5), (130, 50)])
def test_any_number_of_dimensions_and_classes_fits_into_tiles(hidden: bool, dimensions: int, classes: int) -> None:
    random = np.random.default_rng(0)
    embeddings = random.standard_normal((80, dimensions)).astype(np.float32)
    targets = np.eye(classes, dtype=np.float32)[random.integers(0, classes, 80)]
    network, problems = Network(dimensions, classes, hidden), [Problem(np.arange(40, 77), (0,))]
    compiled, plain = (
        trainer(network, embeddings, targets, False, problems, 20) for trainer in (train, train_in_torch)
    )
    np.testing.assert_allclose(compiled, plain, atol=1e-5)


def test_a_problem_does_not_depend_on_its_company() -> None:
    embeddings, targets = data(False)
    problems = [Problem(np.arange(size), (0, size)) for size in (40, 250, 100)]
    together = train(Network(DIMENSIONS, CLASSES), embeddings, targets, False, problems, 20)
    for row, problem in zip(together, problems, strict=True):
        alone = train(Network(DIMENSIONS, CLASSES), embeddings, targets, False, [problem], 20)[0]
        np.testing.assert_array_equal(row, alone)


def test_a_gpu_without_memory_leaves_the_training_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, targets = data(False)
    problems = [Problem(np.arange(100), (0,))]
    arguments = (Network(DIMENSIONS, CLASSES), embeddings, targets, False, problems, 5)
    expected, trained_on = trainer.train(*arguments)
    if cuda.find() is None:
        assert trained_on == "CPU"

    def full(self: object, array: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    # The device is made up, and so is its lack of memory: neither can be had on every machine.
    monkeypatch.setattr(cuda, "find", lambda: "cpu")
    monkeypatch.setattr(cuda, "name", lambda _device: "a made-up GPU")
    assert trainer.train(*arguments)[1] == "a made-up GPU"
    monkeypatch.setattr(cuda._Batched, "_moved", full)
    found, trained_on = trainer.train(*arguments)
    assert trained_on == "CPU"
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.skipif(cuda.find() is not None, reason="there is a GPU, so torch is asked")
def test_without_a_gpu_torch_is_not_imported() -> None:
    script = (
        "import sys, numpy as np\n"
        "from arch_harness.probes.training.networks import Network\n"
        "from arch_harness.probes.training.schedule import Problem\n"
        "from arch_harness.probes.training.trainer import train\n"
        "eye = np.eye(2, dtype=np.float32)\n"
        "found = train(Network(2, 2), eye, eye, False, [Problem(np.arange(2), [0])], 3)\n"
        "print(found[1], 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["CPU", "False"]


def test_an_interruption_stops_every_thread() -> None:
    embeddings, targets = data(False)
    problems = [Problem(np.arange(200), (seed,)) for seed in range(8)]
    calls: list[None] = []

    def on_epoch() -> None:
        calls.append(None)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(Network(DIMENSIONS, CLASSES), embeddings, targets, False, problems, 200, on_epoch)
    assert len(calls) <= 8


def test_the_schedule_has_the_reference_s_quirk() -> None:
    epochs, batches = 200, 40
    rates = learning_rates(epochs, batches)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.AdamW([parameter], lr=1e-3)
    total, warmup = epochs * batches, epochs * batches // 10
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: step / warmup if step < warmup else max(0.0, (total - step) / (total - warmup))
    )
    expected = []
    for _ in range(epochs):
        for _ in range(batches):
            expected.append(scheduler.get_last_lr()[0])
            optimiser.step()
            scheduler.step()
        scheduler.step()
    np.testing.assert_allclose(rates, expected, rtol=1e-12)
    assert rates[0] == 0
    assert rates[-1] == 0
    assert np.flatnonzero(rates).max() < total - batches  # the decay ends epochs before the training does


def test_extreme_embeddings_stay_finite() -> None:
    embeddings, targets = data(True)
    inputs = embeddings * np.float32(1e4)
    for multi_label in (False, True):
        one = targets if multi_label else np.eye(CLASSES, dtype=np.float32)[np.arange(CLIPS) % CLASSES]
        parameters = train(Network(DIMENSIONS, CLASSES), inputs, one, multi_label, [Problem(np.arange(CLIPS), (0,))], 5)
        assert np.isfinite(parameters).all()
