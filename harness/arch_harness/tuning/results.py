"""What `tune.json` holds, and the journal beside it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from arch_harness.load.report import ClipMix
from arch_harness.results.run import Machine
from arch_harness.results.schema import Count, NonNegative, Share, StrictModel


class TuneSettings(StrictModel):
    """All that a tuning's measurements depend on beside the configuration: one with others is another tuning."""

    model: str = Field(description="as it was named: a checkpoint, or a model of the repository")
    source: str = Field(description="digest of its files, where they are on this disk")
    dataset: str
    listing: str = Field(description="digest of the dataset's clips, labels and folds")
    share: Share = Field(description="of the answers that come in time")
    milliseconds: NonNegative = Field(description="from the moment that a clip is due until its answer")
    run_seconds: NonNegative | None = Field(description="of the shortest runs, as asked for; null for what suits")
    clips: Count = Field(description="of the dataset that are sent again and again, at most: so many were asked for")
    seed: Count
    cpu: str
    cores: Count
    gpus: list[str] = Field(default_factory=list)
    target: str = Field(default="", description="of the exports")
    packages: dict[str, str] = Field(default_factory=dict, description="versions of what computes, serves and sends")


class TuneRun(StrictModel):
    """One run of LoadGen's scenario Server against a configuration."""

    configuration: str
    content_hash: str = Field(description="of the graph that answered")
    rung: Count = Field(description="of the search, from 0; in later ones runs are longer")
    rate: NonNegative = Field(description="clips/s that were sent")
    answers: Count
    over: Count = Field(description="answers that were later than promised, or failed")
    answered: NonNegative = Field(description="clips/s")
    judged_ms: NonNegative | None = Field(
        description="the percentile of the promise; null where it is of a failed clip"
    )
    late_ms: NonNegative = Field(description="99th percentile of how late the client itself was")
    seconds: NonNegative = Field(description="from the first scheduled moment to the last answer")
    memory_mib: NonNegative | None = Field(
        description="peak of the model's processes until the run's end; null where the server does not tell"
    )


class FormScore(StrictModel):
    """A form of the encoder, and what it scores."""

    model: str = Field(description="its name as an exported model")
    precision: str
    cut: Annotated[int, Field(ge=1)] | None
    lengths: str
    content_hash: str
    executed_by: str
    score: Share | None = Field(description="null where it could not be scored")
    low: Share | None = Field(description="of the score's 95 % interval")
    high: Share | None
    loss: float | None = Field(description="score of the baseline less its own, on the same clips; null as above")
    loss_low: float | None = Field(description="of the loss's 95 % interval, from a paired bootstrap")
    loss_high: float | None
    admissible: bool = Field(description="whether its loss is no more than allowed, and it was among those to be tried")
    reason: str = Field(description="why it was not tried; empty where it was")


class TunedPoint(StrictModel):
    """A configuration, and how fast it was."""

    configuration: str
    form: Count = Field(description="its place in `forms`")
    max_batch: Annotated[int, Field(ge=1)]
    instances: Annotated[int, Field(ge=1)]
    threads: Annotated[int, Field(ge=1)]
    queue_delay_us: Count
    conv_search: str | None = Field(default=None, description="of cuDNN's convolutions, on a GPU; null on a CPU")
    rung: Annotated[int, Field(ge=-1)] = Field(description="the last one that it reached; -1 where it did not run")
    rate: NonNegative = Field(description="clips/s that keep the promise; 0 where no run kept it")
    low: NonNegative = Field(
        description="end of an interval of the scatter between runs; the rate itself before the last rung"
    )
    high: NonNegative
    at_least: bool = Field(description="no run has broken the promise: it may be more")
    nearest_ms: NonNegative | None = Field(description="the lowest of the promised percentile in any run")
    late_ms: NonNegative | None = Field(
        description="99th percentile of how late the client itself was, in the worst of the runs of the last rung that "
        "it reached; null where it did not run"
    )
    memory_mib: NonNegative | None
    runs: Count
    seconds: NonNegative = Field(description="of all its runs")
    fault: str = Field(description="why it could not be measured; empty where it was")
    on_front: bool = Field(description="no other that was measured to the end scores as high and is faster")
    chosen: bool


class TuneReport(StrictModel):
    """The whole of `tune.json`."""

    schema_version: Literal[1] = 1
    arch_version: str
    command: str
    created: datetime
    machine: Machine
    settings: TuneSettings
    max_loss: Share | None = Field(description="that was allowed; null where nothing but the speed was tuned")
    max_memory_mib: NonNegative | None
    run_seconds: NonNegative = Field(description="length of the shortest runs")
    ceiling: NonNegative | None = Field(description="clips/s that the client may send; null where that is not known")
    baseline: str = Field(description="the model that losses are against")
    clips: ClipMix
    forms: list[FormScore]
    points: list[TunedPoint]
    notes: list[str] = Field(description="what was not tried, and what must be known")
    exhaustive_seconds: NonNegative = Field(
        description="about what runs would take if every configuration were measured to the end"
    )
    variant: str = Field(description="the model that was written; empty where that was not wanted")
    commands: list[str] = Field(description="what makes the winner by hand, and measures it")

    @property
    def chosen(self) -> TunedPoint:
        """The winner."""
        return next(one for one in self.points if one.chosen)

    @property
    def seconds(self) -> float:
        """Of all runs."""
        return sum(one.seconds for one in self.points)
