"""The one result format: `results.json`, validated whenever it is written or read."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from arch_common.errors import UsageError
from arch_common.files import whole_file
from pydantic import Field, ValidationError, model_validator

from arch_harness.results.checks.ablations import Ablation, AblationSetting
from arch_harness.results.checks.diagnoses import Diagnosis, EmbeddingFacts, FileFacts, ResentFacts
from arch_harness.results.measurement import Measurement, Transport
from arch_harness.results.metric_definitions import meaning
from arch_harness.results.schema import Count, NonNegative, Share, StrictModel, read_versioned
from arch_harness.results.scores import (
    Comparison,
    Failure,
    FoldScore,
    Interval,
    LayerScores,
    ProbeName,
    ProbeScore,
    ScoreMetric,
)

RESULTS = "results.json"
"""The file's name in a run's folder."""


class Machine(StrictModel):
    """Hardware and versions of the machine that ran the client."""

    cpu: str
    cores: Count
    memory_gib: NonNegative
    gpus: list[str]
    os: str
    python: str
    packages: dict[str, str]


class ServerFacts(StrictModel):
    """The server that was measured."""

    address: str
    name: str
    version: str
    started_by_arch: bool
    same_machine: bool = Field(description="the address is a loopback one, so client and server share `machine`")
    tls: bool = Field(default=False, description="whether what is sent is encrypted")


class Origin(StrictModel):
    """Where a speed comes from that a later run shows."""

    started: datetime = Field(description="when it was measured")
    arch_version: str
    machine: Machine = Field(description="that the client ran on")
    servers: Annotated[list[ServerFacts], Field(min_length=1)]


class Result(StrictModel):
    """One model on one dataset."""

    model: str
    dataset: str
    metric: ScoreMetric
    score: Share = Field(description=meaning("score", "Of the first probe."))
    chance: Share = Field(description=meaning("chance"))
    macro_f1: Share | None = Field(
        default=None, description=meaning("macro_f1", "Of the first probe; null for multi-label datasets.")
    )
    folds: list[FoldScore] = Field(description="of the first probe")
    std: NonNegative | None = Field(default=None, description=meaning("score_std", "Of the first probe."))
    interval: Interval | None = Field(default=None, description="of the first probe")
    probes: list[ProbeScore] = Field(default=[], description="all probes, the first one as well")
    layers: LayerScores | None = Field(
        default=None, description="where every layer was asked for and the model has them"
    )
    clips: Count = Field(description=meaning("clips"))
    failed: Count = Field(description=meaning("failed"))
    failures: list[Failure]
    stored: Count = Field(description=meaning("stored"))
    measurement: Measurement | None = Field(
        description="null where every embedding came from the store, and no speed of the pass that made them is kept"
    )
    carried: Origin | None = Field(
        default=None,
        description="where `measurement` is of an earlier run, of the same clips, model, server configuration and "
        "settings: when and where that was; null where this run measured it",
    )
    embeddings: EmbeddingFacts | None = Field(default=None, description="null in results by an earlier arch")
    resent: ResentFacts | None = Field(
        default=None, description="null in results by an earlier arch, and where the server did not answer"
    )
    probe_seconds: NonNegative = Field(description=meaning("probe_seconds", "Of all probes."))
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
        if self.carried is not None and self.measurement is None:
            raise ValueError("an origin is given of a speed that is not there")
        return self


class Pair(StrictModel):
    """A model and a dataset."""

    model: str
    dataset: str


class Unscored(StrictModel):
    """One model on one dataset without a score, and why; a later run that scores it puts a result in its place."""

    model: str
    dataset: str
    reason: str
    clips: Count = Field(description=meaning("clips"))
    failures: list[Failure]

    @property
    def failed(self) -> int:
        """Clips that gave no embedding."""
        return len(self.failures)


class ModelFacts(StrictModel):
    """What the export wrote into the model's configuration and the server repeats."""

    name: str
    source: str
    revision: str
    licence: str = Field(default="", description="of the checkpoint, as it states it; empty where it does not")
    family: str
    precision: str = Field(description=meaning("precision"))
    sample_rate: Annotated[int, Field(gt=0)]
    embedding_size: Annotated[int, Field(gt=0)]
    layer_embeddings: Count = Field(default=0, description="rows of the output of that name; 0 where it has none")
    parameter_count: Count = Field(description=meaning("parameter_count"))
    cut_after_layer: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="the layer that its embedding is of, where later ones are left out; null for all"
    )
    lengths: str = Field(
        default="",
        description="`exact` where its embedding does not depend on padding, else `padded`; empty in exports by an "
        "earlier arch",
    )
    normalization: str = Field(
        default="", description="of the waveform, in the graph: none, whole (padding too) or valid; empty as above"
    )
    checkpoint_normalization: str = Field(
        default="", description="that the checkpoint's feature extractor asks for; empty where it has none"
    )
    checkpoint_sample_rate: Count = Field(default=0, description="likewise, in Hz; 0 where it has none")
    untrained: bool = Field(default=False, description="every norm of the encoder is as before any training")
    opset: Count
    content_hash: Annotated[str, Field(min_length=1)]
    parity_max_relative_error: NonNegative = Field(description=meaning("parity_max_relative_error"))
    parity_mean_cosine: float | None = Field(default=None, description="null in exports by an earlier arch")
    parity_min_cosine: float = Field(description=meaning("parity_min_cosine"))
    parity_missed: str = Field(default="", description="limits of its precision that it misses, installed with --force")
    executed_by: str = Field(default="", description=meaning("executed_by"))
    max_batch_size: Count = Field(description=meaning("max_batch_size"))
    max_queue_delay_us: Count = Field(description=meaning("max_queue_delay_us"))
    max_queue_size: Annotated[int, Field(ge=1)] | None = Field(default=None, description=meaning("max_queue_size"))
    instances: Annotated[int, Field(ge=1)] = Field(default=1, description=meaning("instances"))
    threads: Annotated[int, Field(ge=1)] | None = Field(default=None, description=meaning("threads"))
    conv_search: Literal["exhaustive", "default"] | None = Field(
        default=None, description="of cuDNN's algorithms for convolutions, on a GPU; null for heuristic, the usual one"
    )

    @property
    def runs_otherwise(self) -> bool:
        """Whether the server says that it computes in another precision than the export's, or has a remark on it."""
        by = self.executed_by
        return bool(by) and (not by.startswith(f"{self.precision} ") or "(" in by)


class Footprint(StrictModel):
    """What a model takes of the server that runs it; null where the server does not tell."""

    model: str
    memory_mib: NonNegative | None = Field(default=None, description=meaning("memory_mib"))
    disk_mib: NonNegative | None = Field(default=None, description=meaning("disk_mib"))
    load_seconds: NonNegative | None = Field(default=None, description=meaning("load_seconds"))


class DatasetFacts(StrictModel):
    """The data on disk that was used."""

    id: str
    title: str
    domain: Literal["events", "music", "speech", "synthetic", "other"]
    licence: str
    citation: str
    path: str
    classes: Count = Field(description="that a clip can have; with those that no clip here has")
    classes_used: Count = Field(description="that clips here have")
    classes_official: Count | None = Field(description="in the official release; null where that is not known")
    clips: Count
    clips_official: Count | None = Field(description="in the official release; null where that is not known")
    incomplete: bool = Field(description=meaning("incomplete"))
    max_seconds: float
    folds: Count
    notes: list[str] = Field(description="known limits of the protocol or of the data found, for the reader")
    reference: str = Field(description="what --dataset makes the same dataset of again, on this machine")
    listing: str = Field(description="digest of clips, labels and folds; runs with the same one can be compared")
    files: FileFacts | None = Field(default=None, description="null in results by an earlier arch")


class Settings(StrictModel):
    """What was asked for."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(description="the first; the others follow it")
    seeds: Annotated[int, Field(ge=1, le=1000)] = 1
    probes: Annotated[list[ProbeName], Field(min_length=1)] = Field(default=["linear"])
    epochs: Count
    concurrency: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        description=meaning("concurrency", "Here as asked for; null to find them.")
    )
    workers: Annotated[int, Field(ge=1, le=1000)] = Field(description="Ray processes that read, decode and send")
    layers: bool = Field(default=False, description="whether every layer is probed")
    transport: Transport = Field(default="grpc", description="how the audio goes to servers on the client's machine")
    repeat: Annotated[int, Field(ge=1, le=100)] = Field(default=1, description="how often the speed is measured")
    rate: Annotated[float, Field(ge=0.01, le=100_000)] | None = Field(
        default=None, description=meaning("equal_rate", "Here as asked for; null takes that of the slowest.")
    )
    price: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="of an hour of all servers together, in any currency"
    )
    ablate: list[AblationSetting] = Field(
        default=[], description="under which other preprocessing clips are scored too"
    )


class Run(StrictModel):
    """The whole of `results.json`."""

    schema_version: Literal[5] = 5
    arch_version: str
    command: str
    config: str = Field(
        default="",
        description="what was asked for, as the YAML of `arch bench -f`, with absolute paths and without headers; "
        "empty where it was not asked for by that command",
    )
    created: datetime
    machine: Machine
    servers: Annotated[list[ServerFacts], Field(min_length=1)]
    settings: Settings
    models: list[ModelFacts]
    datasets: list[DatasetFacts]
    results: list[Result]
    unscored: list[Unscored] = Field(default=[], description="pairs that were asked for and have no score")
    partial: bool = Field(
        default=False,
        description="not all that was asked for is done: the run goes on, or was interrupted; the same command "
        "completes it",
    )
    missing: list[Pair] = Field(default=[], description="of a partial run: pairs that it has not come to")
    comparisons: list[Comparison] = Field(default=[])
    footprints: list[Footprint] = Field(default=[], description="of the models whose server tells; one a model")
    diagnoses: list[Diagnosis] | None = Field(
        default=None, description="what was found wrong, the worst first; null where nothing was looked for"
    )
    ablations: list[Ablation] = Field(default=[], description="results under another preprocessing, where asked for")
    unablated: list[str] = Field(default=[], description="what was asked for and could not be, and what to do")

    @property
    def outcomes(self) -> list[Result | Unscored]:
        """What came of every pair, those without a score last."""
        return [*self.results, *self.unscored]

    @property
    def failed(self) -> int:
        """Clips that gave no embedding, over all pairs."""
        return sum(one.failed for one in self.outcomes)

    @model_validator(mode="after")
    def _references(self) -> Run:
        for what, names in (
            ("model", [model.name for model in self.models]),
            ("dataset", [dataset.id for dataset in self.datasets]),
            ("result", [f"{one.model} on {one.dataset}" for one in self.outcomes]),
            ("footprint of", [one.model for one in self.footprints]),
        ):
            twice = {name for name in names if names.count(name) > 1}
            if twice:
                raise ValueError(f"the {what} {min(twice)!r} stands there twice")
        for result in (*self.outcomes, *self.missing):
            if result.model not in {model.name for model in self.models}:
                raise ValueError(f"a result names the model {result.model!r}, which is not described")
            if result.dataset not in {dataset.id for dataset in self.datasets}:
                raise ValueError(f"a result names the dataset {result.dataset!r}, which is not described")
        if self.missing and not self.partial:
            raise ValueError("pairs are missing in a run that is not partial")
        for one in self.comparisons:
            if not {one.model, one.other} <= {found.model for found in self.results if found.dataset == one.dataset}:
                raise ValueError(f"a comparison on {one.dataset!r} names a model without a result there")
        scored = {(found.model, found.dataset) for found in self.results}
        for ablation in self.ablations:
            for model in (ablation.model, ablation.variant or ablation.model):
                if (model, ablation.dataset) not in scored:
                    raise ValueError(f"an ablation on {ablation.dataset!r} names a model without a result there")
        return self


SCHEMA_VERSION: int = Run.model_fields["schema_version"].default
"""To be raised with every change after which an earlier file no longer validates, or means another thing."""


def check_settings(**asked: Any) -> Settings:
    """The settings that were asked for.

    Raises:
        UsageError: if one of them cannot be: an unknown probe, a number out of its bounds.
    """
    try:
        return Settings.model_validate(asked)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"{where} cannot be {first['input']!r}: {first['msg'][:1].lower()}{first['msg'][1:]}"
        ) from error


def write_run(run: Run, path: Path) -> None:
    """Write `run` to `path` as JSON, whole or not at all.

    Raises:
        pydantic.ValidationError: if `run` was changed into something that the schema does not allow.
    """
    text = Run.model_validate(run.model_dump()).to_json()
    with whole_file(path) as file:
        file.write(text + b"\n")


def read_run(path: Path) -> Run:
    """Read and validate a `results.json`.

    Raises:
        ArchError: if it is missing, is no JSON, or does not follow this version of the schema.
    """
    return read_versioned(Run, path, "results file", "bench again")
