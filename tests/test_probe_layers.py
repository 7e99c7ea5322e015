"""Probing the layers of an encoder: the gradient of the weighted sum, and what the scores say of planted layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from arch_harness.datasets import Clip, Dataset, Fold
from arch_harness.datasets.esc50 import DECLARATION
from arch_harness.probes.layers import probe_layers
from arch_harness.probes.networks import WeightedSum
from arch_harness.results import Settings

LAYERS, DIMENSIONS, CLASSES = 4, 6, 3


def test_gradient_of_the_weighted_sum_is_torch_s() -> None:
    random = np.random.default_rng(0)
    network = WeightedSum(LAYERS, DIMENSIONS, CLASSES)
    parameters = random.standard_normal((2, network.size)).astype(np.float32)
    inputs = np.ones((2, 5, LAYERS * DIMENSIONS + 1), dtype=np.float32)
    inputs[..., :-1] = random.standard_normal((2, 5, LAYERS * DIMENSIONS))
    residual = random.standard_normal((2, 5, CLASSES)).astype(np.float32)
    outputs, hidden = network.forward(parameters, inputs, [random, random])
    gradients = np.empty_like(parameters)
    network.backward(parameters, inputs, hidden, residual, gradients)
    for problem in range(2):
        theta = torch.tensor(parameters[problem], requires_grad=True)
        layers = torch.tensor(inputs[problem, :, :-1]).reshape(5, LAYERS, DIMENSIONS)
        matrix = theta[LAYERS:].reshape(DIMENSIONS + 1, CLASSES)
        mixed = torch.einsum("l,bld->bd", torch.softmax(theta[:LAYERS], 0), layers)
        expected = mixed @ matrix[:-1] + matrix[-1]
        np.testing.assert_allclose(outputs[problem], expected.detach().numpy(), atol=1e-5)
        (expected * torch.tensor(residual[problem])).sum().backward()  # type: ignore[no-untyped-call]
        assert theta.grad is not None
        np.testing.assert_allclose(gradients[problem], theta.grad.numpy(), atol=1e-4)


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
