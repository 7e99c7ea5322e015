"""The one result format: `results.json`, validated whenever it is written or read."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from arch_harness.errors import ArchError
from arch_harness.files import whole_file

Share = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]


class _Strict(BaseModel):
    # Unknown fields are refused: a misspelt field must not vanish. NaN and infinity are no results.
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Percentiles(_Strict):
    """Latency of single-clip requests as the client saw it, in milliseconds."""

    p50: NonNegative
    p95: NonNegative
    p99: NonNegative


class Failure(_Strict):
    """A clip that gave no embedding; it takes part in no score."""

    clip: str = Field(description="path relative to the dataset's folder")
    stage: Literal["decode", "infer"]
    reason: str


class FoldScore(_Strict):
    """The probe's score on one fold; `train`, `validation` and `test` count clips."""

    fold: str
    train: Count
    validation: Count
    test: Count
    accuracy: Share
    macro_f1: Share


class ServerTimes(_Strict):
    """What Triton's statistics say of the run: means over requests, in milliseconds, and executions by batch size."""

    requests: Count
    queue_ms: NonNegative
    compute_ms: NonNegative = Field(description="input, inference and output together")
    batch_sizes: dict[int, Count] = Field(description="batch size -> number of executions")
    mean_batch_size: NonNegative
    foreign_requests: Count = Field(description="requests that others sent to the model during the run")


class Result(_Strict):
    """One model on one dataset."""

    model: str
    dataset: str
    metric: Literal["accuracy"]
    score: Share = Field(description="mean over folds")
    chance: Share = Field(description="mean over folds of the share of the most frequent class among the test clips")
    macro_f1: Share
    folds: list[FoldScore]
    clips: Count = Field(description="clips of the dataset; failed ones included")
    failed: Count
    failures: list[Failure]
    clips_per_s: NonNegative = Field(description="clips embedded, failed ones not counted, per second of embed_seconds")
    rtfx: NonNegative = Field(description="seconds of audio, padding not counted, embedded per second")
    latency_ms: Percentiles
    server: ServerTimes
    audio_seconds: NonNegative
    embed_seconds: NonNegative = Field(description="wall time from the first clip read to the last embedding received")
    probe_seconds: NonNegative
    started: datetime
    fingerprint: str = Field(description="of model, data, protocol and settings; a resumed run keeps what matches")

    @model_validator(mode="after")
    def _consistent(self) -> Result:
        if self.failed != len(self.failures):
            raise ValueError(f"failed is {self.failed} but {len(self.failures)} failures are listed")
        if self.failed > self.clips:
            raise ValueError(f"{self.failed} clips failed of {self.clips}")
        return self


class ModelFacts(_Strict):
    """What the export wrote into the model's configuration and the server repeats."""

    name: str
    source: str
    revision: str
    family: str
    precision: str
    sample_rate: Annotated[int, Field(gt=0)]
    embedding_size: Annotated[int, Field(gt=0)]
    parameter_count: Count
    opset: Count
    content_hash: str
    parity_max_relative_error: NonNegative
    parity_min_cosine: float
    max_batch_size: Count
    max_queue_delay_us: Count


class DatasetFacts(_Strict):
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


class Machine(_Strict):
    """Hardware and versions of the machine that ran the client."""

    cpu: str
    cores: Count
    memory_gib: NonNegative
    gpus: list[str]
    os: str
    python: str
    packages: dict[str, str]


class ServerFacts(_Strict):
    """The server that was measured."""

    address: str
    name: str
    version: str
    started_by_arch: bool
    same_machine: bool = Field(description="the address is a loopback one, so client and server share `machine`")


class Settings(_Strict):
    """What was asked for."""

    seed: int
    epochs: Count
    concurrency: Count = Field(description="most single-clip requests in flight, over all workers")
    workers: Count = Field(description="Ray processes that read, decode and send")


class Run(_Strict):
    """The whole of `results.json`."""

    schema_version: Literal[1] = 1
    arch_version: str
    command: str
    created: datetime
    machine: Machine
    server: ServerFacts
    settings: Settings
    models: list[ModelFacts]
    datasets: list[DatasetFacts]
    results: list[Result]

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
        ArchError: if it is missing, is no JSON, or does not follow schema version 1.
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
        raise ArchError(f"{path} is no results file of schema version 1: {where}: {first['msg']}") from error
