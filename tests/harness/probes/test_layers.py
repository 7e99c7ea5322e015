"""Probing the layers of an encoder: the gradient of the weighted sum, and what the scores say of planted layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from arch_harness.datasets import Clip, Dataset, Fold
from arch_harness.datasets.catalog.esc50 import DECLARATION
from arch_harness.probes.layers import probe_layers
from arch_harness.probes.training import cuda
from arch_harness.probes.training.networks import Network
from arch_harness.probes.training.optimiser import learning_rates
from arch_harness.probes.training.schedule import Problem, TrainingSchedule
from arch_harness.probes.training.trainer import train
from arch_harness.results.run import Settings

pytestmark = pytest.mark.torch

LAYERS, DIMENSIONS, CLASSES = 4, 6, 3


def test_the_weighted_sum_is_trained_as_torch_trains_it() -> None:
    random = np.random.default_rng(0)
    network, epochs = Network(DIMENSIONS, CLASSES, summed=LAYERS), 40
    inputs = random.standard_normal((100, network.inputs)).astype(np.float32)
    targets = np.eye(CLASSES, dtype=np.float32)[random.integers(0, CLASSES, 100)]
    problem = Problem(np.arange(80), (0,))
    (found,), _ = train(network, inputs, targets, False, [problem], epochs)
    schedule = TrainingSchedule(network, problem, epochs)
    theta = torch.tensor(schedule.initial, requires_grad=True)
    optimiser = torch.optim.AdamW([theta], lr=1e-3)
    rates = learning_rates(epochs, problem.batches)
    for step, rate in enumerate(rates):
        if step % problem.batches == 0:
            order = schedule.next_order()
        batch = order[step % problem.batches * 32 :][:32][: 80 - step % problem.batches * 32]
        optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad()
        stacked = torch.tensor(inputs[batch]).reshape(-1, LAYERS, DIMENSIONS)
        matrix = theta[LAYERS:].reshape(DIMENSIONS + 1, CLASSES)
        mixed = torch.einsum("l,bld->bd", torch.softmax(theta[:LAYERS], 0), stacked)
        loss = torch.nn.functional.cross_entropy(mixed @ matrix[:-1] + matrix[-1], torch.tensor(targets[batch]))
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    np.testing.assert_allclose(found, theta.detach().numpy(), atol=1e-5)
    assert np.ptp(found[:LAYERS]) > 1e-3  # the weights did move
    schedules = [TrainingSchedule(network, problem, epochs)]
    in_torch = cuda.train(network, inputs, targets, False, schedules, epochs, "cpu", lambda: None)
    assert in_torch is not None
    np.testing.assert_allclose(found, in_torch[0], atol=1e-5)
    mixed = np.einsum("l,bld->bd", network.weights(found), inputs.reshape(-1, LAYERS, DIMENSIONS))
    matrix = found[LAYERS:].reshape(DIMENSIONS + 1, CLASSES)
    np.testing.assert_allclose(network.logits(found, inputs), mixed @ matrix[:-1] + matrix[-1], atol=1e-5)


def test_the_layer_that_knows_the_classes_is_found() -> None:
    clips, random = 600, np.random.default_rng(1)
    targets = np.arange(clips) % CLASSES
    layers = random.standard_normal((clips, LAYERS, DIMENSIONS)).astype(np.float32)
    layers[:, 2, :CLASSES] += 4 * np.eye(CLASSES, dtype=np.float32)[targets]
    order = random.permutation(clips)
    dataset = Dataset(
        DECLARATION,
        Path(),
        [Clip(str(index), (str(target),), "1") for index, target in enumerate(targets)],
        [str(target) for target in range(CLASSES)],
        targets,
        [Fold("1", order[:400], order[400:500], order[500:])],
    )
    settings = Settings(seed=0, seeds=2, epochs=200, concurrency=1, workers=1)
    epochs = []
    found = probe_layers(dataset, layers, np.ones(clips, dtype=np.bool_), settings, lambda: epochs.append(1))
    assert len(epochs) == (LAYERS + 1) * 2 * 200
    assert [one.layer for one in found.layers] == [0, 1, 2, 3]
    assert found.best.layer == 2
    assert found.best.score > 0.9
    assert all(one.score < 0.7 for one in found.layers if one.layer != 2)
    assert np.argmax(found.weights) == 2
    assert sum(found.weights) - 1 < 1e-5
    assert found.weighted_sum > max(one.score for one in found.layers if one.layer != 2)
