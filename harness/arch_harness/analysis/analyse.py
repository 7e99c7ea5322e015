"""A run's stored embeddings analysed: layers compared, dimensions counted, neighbours looked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from arch_common import interrupt
from arch_common.errors import UsageError

from arch_harness.analysis.measures import LEAST_CLIPS, Centred, linear_cka, neighbour_shares
from arch_harness.embeddings.geometry import effective_rank
from arch_harness.embeddings.of_run import open_again, read_embeddings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arch_harness.datasets import Dataset
    from arch_harness.embeddings.store import EmbeddingStore
    from arch_harness.results.run import Run

MOST_CLIPS = 1000
"""Of a dataset: what is held of all its models at a time, and what a product of two layers costs, grow with it."""
MOST_NEIGHBOURS_CLIPS = 300
"""Of each dataset, as many of one as of another, so that chance is the same for all."""
NEIGHBOURS = 5


@dataclass(frozen=True)
class ModelLayer:
    """A layer of a model.

    Attributes:
        model: its name.
        layer: 0 is what enters the first transformer layer; None is the embedding of a model without layers.
    """

    model: str
    layer: int | None

    @property
    def name(self) -> str:
        """Model and layer."""
        return f"{self.model}, {'embedding' if self.layer is None else f'layer {self.layer}'}"


@dataclass(frozen=True)
class LayerRank:
    """How many dimensions a layer uses.

    Attributes:
        rank: the effective rank.
        most: that there could be: the smaller of dimensions and clips - 1.
    """

    layer: ModelLayer
    rank: float
    most: int


@dataclass(frozen=True)
class DatasetAnalysis:
    """The layers of all models on the same clips of a dataset.

    Attributes:
        clips: a sample of those that all models have an embedding of.
        layers: of all models, in their order.
        cka: [layers, layers], the unbiased linear CKA; may be a little below 0.
        ranks: of the layers.
    """

    dataset: str
    clips: int
    layers: list[ModelLayer]
    cka: list[list[float]]
    ranks: list[LayerRank]

    def between(self, one: str, other: str) -> tuple[float, ModelLayer, ModelLayer]:
        """The highest CKA of a layer of one model with one of another, and the two layers."""
        pairs = [
            (self.cka[row][column], first, second)
            for row, first in enumerate(self.layers)
            for column, second in enumerate(self.layers)
            if (first.model, second.model) == (one, other)
        ]
        return max(pairs, key=lambda pair: pair[0])

    def last(self, model: str) -> int:
        """The position of a model's last layer."""
        return max(place for place, layer in enumerate(self.layers) if layer.model == model)


@dataclass(frozen=True)
class Neighbourhood:
    """Whose embeddings are near whose, over datasets.

    Attributes:
        model: whose final embeddings they are.
        datasets: names, in the order of `shares`.
        domains: theirs.
        clips: of each dataset.
        shares: [datasets, datasets], of the nearest neighbours of a row's clips, how many are of the column's dataset.
    """

    model: str
    datasets: list[str]
    domains: list[str]
    clips: int
    shares: list[list[float]]

    @property
    def same_dataset(self) -> float:
        """The share of neighbours that are of the clip's own dataset."""
        return float(np.mean(np.diag(self.shares)))

    @property
    def same_domain(self) -> float:
        """The share of neighbours that are of the clip's own domain."""
        domains = np.array(self.domains)
        return float((np.array(self.shares) * (domains[:, None] == domains)).sum(axis=1).mean())


@dataclass(frozen=True)
class Analysis:
    """What was found in a run's embeddings."""

    datasets: list[DatasetAnalysis]
    neighbourhoods: list[Neighbourhood]
    notes: list[str] = field(default_factory=list)


def analyse_run(run: Run, store: EmbeddingStore, note: Callable[[str], None] = lambda _: None) -> Analysis:
    """Analyse the layers of a run, a dataset at a time.

    Args:
        run: of `arch bench --layers`.
        store: that it used.
        note: told what is being done.

    Raises:
        UsageError: if the run has no layers, the data have changed, or embeddings are not in the store.
        ArchError: if the store cannot be read.
    """
    layered = [model.name for model in run.models if model.layer_embeddings and run.settings.layers]
    if not any(one.model in layered for one in run.results):
        raise UsageError(
            "the run has no embeddings of layers: export with --layers all, and run arch bench with --layers"
        )
    analysis = Analysis([], [])
    without = [model.name for model in run.models if model.name not in layered]
    if without:
        analysis.notes.append(f"{', '.join(without)}: no embeddings of layers, only the final one is analysed")
    finals: dict[str, list[tuple[str, str, NDArray[np.float32]]]] = {}
    for facts in run.datasets:
        results = [one for one in run.results if one.dataset == facts.id]
        if not results:
            continue
        clips = _sample(run, open_again(run, facts.id))
        if len(clips) < LEAST_CLIPS:
            analysis.notes.append(f"{facts.id} is left out: all models together have {len(clips)} of its clips")
            continue
        layers: list[ModelLayer] = []
        representations: list[Centred] = []
        ranks: list[LayerRank] = []
        for result in results:
            interrupt.check()
            note(f"{result.model} on {facts.id}: reading, and counting dimensions")
            _, stored, _ = read_embeddings(run, store, result.model, facts.id)
            found = stored.layers[clips] if result.model in layered else stored.embeddings[clips][:, None]
            finals.setdefault(result.model, []).append((facts.id, facts.domain, stored.embeddings[clips]))
            del stored
            for place in range(found.shape[1]):
                layer = ModelLayer(result.model, place if result.model in layered else None)
                rows = np.ascontiguousarray(found[:, place])
                layers.append(layer)
                representations.append(Centred.of(rows))
                ranks.append(LayerRank(layer, effective_rank(rows), min(len(clips) - 1, rows.shape[1])))
        note(f"{facts.id}: comparing {len(layers)} layers")
        analysis.datasets.append(DatasetAnalysis(facts.id, len(clips), layers, _all_cka(representations), ranks))
    for model, of_datasets in finals.items():
        if len(of_datasets) > 1:
            analysis.neighbourhoods.append(_neighbourhood(model, of_datasets, run.settings.seed))
    if len(run.datasets) < 2:
        analysis.notes.append("no neighbours across domains: the run has one dataset")
    return analysis


def _sample(run: Run, dataset: Dataset) -> NDArray[np.int64]:
    """The positions of clips that failed with no model, at most `MOST_CLIPS` of them, in their order."""
    failed = {failure.clip for one in run.results if one.dataset == dataset.id for failure in one.failures}
    there = np.array([place for place, clip in enumerate(dataset.clips) if clip.path not in failed], dtype=np.int64)
    random = np.random.default_rng(run.settings.seed)
    return np.sort(random.choice(there, min(MOST_CLIPS, len(there)), replace=False))


def _all_cka(found: list[Centred]) -> list[list[float]]:
    values = np.eye(len(found))
    for row, one in enumerate(found):
        interrupt.check()
        for column in range(row, len(found)):
            values[row, column] = values[column, row] = linear_cka(one, found[column])
    return [[float(value) for value in row] for row in values]


def _neighbourhood(model: str, of_datasets: list[tuple[str, str, NDArray[np.float32]]], seed: int) -> Neighbourhood:
    count = min(MOST_NEIGHBOURS_CLIPS, *(len(rows) for _, _, rows in of_datasets))
    random = np.random.default_rng(seed)
    rows = np.concatenate([rows[random.choice(len(rows), count, replace=False)] for _, _, rows in of_datasets])
    groups = np.repeat(np.arange(len(of_datasets)), count)
    shares = neighbour_shares(rows, groups, min(NEIGHBOURS, len(rows) - 1))
    names, domains = [name for name, _, _ in of_datasets], [domain for _, domain, _ in of_datasets]
    return Neighbourhood(model, names, domains, count, [[float(share) for share in row] for row in shares])
