"""The linear probe on every layer of an encoder, and on a learned weighted sum of its layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from arch_harness.probes.scoring import probe_dataset, probe_network
from arch_harness.probes.training.networks import Network
from arch_harness.results.scores import LayerScore, LayerScores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arch_harness.datasets import Dataset
    from arch_harness.results.run import Settings


def probe_layers(
    dataset: Dataset,
    layers: NDArray[np.float32],
    succeeded: NDArray[np.bool_],
    settings: Settings,
    on_epoch: Callable[[], None] = lambda: None,
) -> LayerScores:
    """Train the linear probe on each layer alone, and on the sum of all with weights that are trained with it.

    Args:
        dataset: labels and folds.
        layers: FP32 [clips, layers, dimensions].
        succeeded: bool [clips].
        settings: seed, number of seeds, epochs.
        on_epoch: called after each epoch of each fold, seed and probe.

    Raises:
        ScoreError: if a fold has no clips left to train or to test on.
    """
    scores = []
    for layer in range(layers.shape[1]):
        found = probe_dataset("linear", dataset, layers[:, layer], succeeded, settings, on_epoch).score
        scores.append(LayerScore(layer=layer, score=found.score, std=found.std, interval=found.interval))
    network = Network(layers.shape[2], len(dataset.classes), summed=layers.shape[1])
    summed, parameters = probe_network(
        "linear", network, dataset, layers.reshape(len(layers), -1), succeeded, settings, on_epoch
    )
    return LayerScores(
        layers=scores,
        weighted_sum=summed.score.score,
        weighted_sum_std=summed.score.std,
        weighted_sum_interval=summed.score.interval,
        weights=network.weights(parameters).mean(axis=0).clip(0, 1).tolist(),
    )
