"""The one result format: `results.json`, validated whenever it is written or read."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from arch_harness.errors import ArchError
from arch_harness.files import whole_file
from arch_harness.measurement import Measurement
from arch_harness.schema import Count, NonNegative, Share, Strict

RESULTS = "results.json"
"""The file's name in a run's folder."""

ProbeName = Literal["linear", "logreg", "mlp", "knn"]
Metric = Literal["accuracy", "map_macro"]


class Failure(Strict):
    """A clip that gave no embedding; it takes part in no score."""

    clip: str = Field(description="path relative to the dataset's folder")
    stage: Literal["decode", "infer"]
    reason: str


class FoldScore(Strict):
    """A probe's score on one fold, the mean over seeds; `train`, `validation` and `test` count clips.

    Single-label datasets have accuracy, macro F1 and balanced accuracy, multi-label ones mean average precision.
    """

    fold: str
    train: Count
    validation: Count
    test: Count
    accuracy: Share | None = None
    macro_f1: Share | None = None
    balanced_accuracy: Share | None = None
    map_macro: Share | None = None
    map_weighted: Share | None = None
    chosen: NonNegative | None = Field(
        default=None, description="what was chosen on validation: C of logreg, the number of neighbours of knn"
    )

    @property
    def score(self) -> float:
        """The headline metric: accuracy, or macro mAP."""
        return (self.accuracy if self.accuracy is not None else self.map_macro) or 0.0

    @model_validator(mode="after")
    def _scored(self) -> FoldScore:
        if self.accuracy is None and self.map_macro is None:
            raise ValueError(f"fold {self.fold} has neither accuracy nor map_macro")
        return self


class Interval(Strict):
    """A 95 % bootstrap percentile interval of a score."""

    low: float
    high: float
    unit: Literal["clip", "group", "fold"] = Field(description="what was drawn with replacement")
    units: Count
    resamples: Count


class ClassScore(Strict):
    """One class over all test clips, the mean over seeds."""

    name: str
    clips: Count = Field(description="test clips that bear it")
    precision: Share | None = None
    recall: Share | None = None
    f1: Share | None = None
    average_precision: Share | None = None


class ProbeScore(Strict):
    """One probe on the embeddings of one model and dataset."""

    probe: ProbeName
    score: Share = Field(description="mean over folds and seeds of the result's metric")
    std: NonNegative | None = Field(description="over seeds, of the mean over folds; null for one seed or none")
    seed_scores: list[Share] = Field(description="the score of each seed; one where the probe is deterministic")
    interval: Interval
    macro_f1: Share | None = None
    balanced_accuracy: Share | None = None
    map_macro: Share | None = None
    map_weighted: Share | None = None
    folds: list[FoldScore]
    classes: list[ClassScore]
    classes_without_test_clips: list[str] = Field(
        description="no test clip of any fold bears them; in macro mAP each counts as 0, elsewhere they are left out"
    )
    confusion: list[list[Count]] | None = Field(
        default=None, description="true class x predicted class, summed over folds and seeds; single-label only"
    )
    trained_on: str = Field(default="CPU", description="CPU, or the name of the GPU")
    seconds: NonNegative


class LayerScore(Strict):
    """The linear probe on one layer's mean hidden state."""

    layer: Count = Field(description="0 is what enters the first transformer layer")
    score: Share
    std: NonNegative | None
    interval: Interval


class LayerScores(Strict):
    """The linear probe on every layer, and on a learned weighted sum of them, by the result's metric."""

    layers: Annotated[list[LayerScore], Field(min_length=1)]
    weighted_sum: Share
    weighted_sum_std: NonNegative | None
    weighted_sum_interval: Interval
    weights: list[Share] = Field(description="of each layer in the sum, the mean over folds and seeds")

    @property
    def best(self) -> LayerScore:
        """The layer with the highest score; of several, the lowest one."""
        return max(self.layers, key=lambda one: (one.score, -one.layer))


class Comparison(Strict):
    """Two models on the same test clips of a dataset, by the same probe."""

    dataset: str
    probe: ProbeName
    metric: Metric
    model: str
    other: str
    clips: Count = Field(description="test clips that both models have an embedding of")
    difference: float = Field(description="score of `model` less that of `other`")
    low: float = Field(description="of the 95 % interval of the difference, from a paired bootstrap")
    high: float
    more_than_noise: bool = Field(description="the interval leaves out 0")


class Result(Strict):
    """One model on one dataset."""

    model: str
    dataset: str
    metric: Metric
    score: Share = Field(description="of the first probe: mean over folds and seeds")
    chance: Share = Field(
        description="mean over folds: for accuracy the share of the most frequent class among the test clips, for mAP "
        "the mean share of test clips that bear a class"
    )
    macro_f1: Share | None = Field(default=None, description="of the first probe; null for multi-label datasets")
    folds: list[FoldScore] = Field(description="of the first probe")
    std: NonNegative | None = Field(default=None, description="of the first probe, over seeds")
    interval: Interval | None = Field(default=None, description="of the first probe")
    probes: list[ProbeScore] = Field(default=[], description="all probes, the first one as well")
    layers: LayerScores | None = Field(
        default=None, description="where every layer was asked for and the model has them"
    )
    clips: Count = Field(description="clips of the dataset; failed ones included")
    failed: Count
    failures: list[Failure]
    stored: Count = Field(description="clips whose embedding came from the store instead of the measured pass")
    measurement: Measurement | None = Field(description="null where every embedding came from the store")
    probe_seconds: NonNegative
    started: datetime
    fingerprint: str = Field(description="of model, data, protocol and settings; a resumed run keeps what matches")

    @model_validator(mode="after")
    def _consistent(self) -> Result:
        if self.failed != len(self.failures):
            raise ValueError(f"failed is {self.failed} but {len(self.failures)} failures are listed")
        if self.failed > self.clips:
            raise ValueError(f"{self.failed} clips failed of {self.clips}")
        if self.probes and self.probes[0].score != self.score:
            raise ValueError(f"score is {self.score} but the first probe's is {self.probes[0].score}")
        return self


class ModelFacts(Strict):
    """What the export wrote into the model's configuration and the server repeats."""

    name: str
    source: str
    revision: str
    family: str
    precision: str
    sample_rate: Annotated[int, Field(gt=0)]
    embedding_size: Annotated[int, Field(gt=0)]
    layer_embeddings: Count = Field(default=0, description="rows of the output of that name; 0 where it has none")
    parameter_count: Count
    opset: Count
    content_hash: str
    parity_max_relative_error: NonNegative
    parity_mean_cosine: float | None = Field(default=None, description="null in exports by an earlier arch")
    parity_min_cosine: float
    parity_missed: str = Field(default="", description="limits of its precision that it misses, installed with --force")
    executed_by: str = Field(default="", description="precision and execution provider, as the server says; or empty")
    max_batch_size: Count
    max_queue_delay_us: Count


class DatasetFacts(Strict):
    """The data on disk that was used."""

    id: str
    title: str
    domain: Literal["events", "music", "speech", "synthetic", "other"]
    licence: str
    citation: str
    path: str
    classes: Count
    clips: Count
    clips_official: Count | None = Field(description="clips of the official release; null where there is none")
    max_seconds: float
    folds: Count
    notes: list[str] = Field(description="known limits of the protocol or of the data found, for the reader")


class Machine(Strict):
    """Hardware and versions of the machine that ran the client."""

    cpu: str
    cores: Count
    memory_gib: NonNegative
    gpus: list[str]
    os: str
    python: str
    packages: dict[str, str]


class ServerFacts(Strict):
    """The server that was measured."""

    address: str
    name: str
    version: str
    started_by_arch: bool
    same_machine: bool = Field(description="the address is a loopback one, so client and server share `machine`")


class Settings(Strict):
    """What was asked for."""

    seed: int = Field(description="the first; the others follow it")
    seeds: Annotated[int, Field(ge=1)] = 1
    probes: Annotated[list[ProbeName], Field(min_length=1)] = Field(default=["linear"])
    epochs: Count
    concurrency: Count | None = Field(
        description="most single-clip requests in flight, over all workers; null to find it"
    )
    workers: Count = Field(description="Ray processes that read, decode and send")
    layers: bool = Field(default=False, description="whether every layer is probed")


class Run(Strict):
    """The whole of `results.json`."""

    schema_version: Literal[3] = 3
    arch_version: str
    command: str
    created: datetime
    machine: Machine
    servers: Annotated[list[ServerFacts], Field(min_length=1)]
    settings: Settings
    models: list[ModelFacts]
    datasets: list[DatasetFacts]
    results: list[Result]
    comparisons: list[Comparison] = Field(default=[])

    @model_validator(mode="after")
    def _references(self) -> Run:
        for what, names in (
            ("model", [model.name for model in self.models]),
            ("dataset", [dataset.id for dataset in self.datasets]),
            ("result", [f"{result.model} on {result.dataset}" for result in self.results]),
        ):
            twice = {name for name in names if names.count(name) > 1}
            if twice:
                raise ValueError(f"the {what} {min(twice)!r} stands there twice")
        for result in self.results:
            if result.model not in {model.name for model in self.models}:
                raise ValueError(f"a result names the model {result.model!r}, which is not described")
            if result.dataset not in {dataset.id for dataset in self.datasets}:
                raise ValueError(f"a result names the dataset {result.dataset!r}, which is not described")
        for one in self.comparisons:
            if not {one.model, one.other} <= {found.model for found in self.results if found.dataset == one.dataset}:
                raise ValueError(f"a comparison on {one.dataset!r} names a model without a result there")
        return self


def write_run(run: Run, path: Path) -> None:
    """Write `run` to `path` as JSON, whole or not at all.

    Raises:
        pydantic.ValidationError: if `run` was changed into something that the schema does not allow.
    """
    text = Run.model_validate(run.model_dump()).model_dump_json(indent=2)
    with whole_file(path) as file:
        file.write(text.encode() + b"\n")


def read_run(path: Path) -> Run:
    """Read and validate a `results.json`.

    Raises:
        ArchError: if it is missing, is no JSON, or does not follow schema version 2.
    """
    try:
        return Run.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArchError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ArchError(f"{path} is no results file: it is not UTF-8") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ArchError(f"{path} is no results file of schema version 2: {where}: {first['msg']}") from error
