"""What `load.json` holds."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from arch_harness.load.asked import Scenario, Slo
from arch_harness.results.measurement import ServerTimes, Transport
from arch_harness.results.run import Machine, ModelFacts, ServerFacts
from arch_harness.results.schema import Count, NonNegative, Share, StrictModel, read_versioned

Setting = str | int | float | bool | None

EVERY_CLIP = "every clip answered"
IN_TIME = "the client sends in time"
"""Our own rules, beside LoadGen's: a run that breaks one says less of the server."""


class SloFacts(StrictModel):
    """What is promised."""

    share: Share = Field(description="of the answers that come in time")
    milliseconds: NonNegative = Field(description="from the moment that a clip is due until its answer")

    @property
    def slo(self) -> Slo:
        """The promise."""
        return Slo(self.share, self.milliseconds)


class Broken(StrictModel):
    """A rule that a run breaks, and what to do."""

    rule: str
    advice: str


class LoadRun(StrictModel):
    """One run of LoadGen."""

    purpose: Literal["curve", "search", "measured"]
    rate: NonNegative | None = Field(description="clips/s that were asked for; null where LoadGen sends on answers")
    queries: Count
    clips: Count = Field(description="sent; as many as queries but in offline and multi-stream")
    failed: Count = Field(description="clips without an embedding; they count as late")
    reasons: dict[str, int] = Field(description="how often each reason was given for a failed clip")
    seconds: NonNegative = Field(description="from the first scheduled moment to the last answer")
    clips_per_s: NonNegative = Field(description="answered with an embedding")
    goodput: NonNegative | None = Field(description="answered within the promise, clips/s; null without a promise")
    over: Count = Field(description="queries answered later than promised, or not")
    p50_ms: NonNegative | None = Field(description="of a query's latency from its scheduled moment; null: failed")
    p90_ms: NonNegative | None
    p95_ms: NonNegative | None
    p99_ms: NonNegative | None
    judged_ms: NonNegative | None = Field(description="the percentile of the promise")
    late_ms: NonNegative = Field(description="99th percentile of how late LoadGen handed a clip over: the client's own")
    kept: bool | None = Field(description="whether the promise was kept; null without one")
    valid: bool = Field(description="LoadGen's own judgement, and no failed clip")
    broken: list[Broken] = Field(description="rules that make it invalid")
    requested: dict[str, Setting] = Field(
        description="LoadGen's settings as they were asked for, from its log; of several processes the first one's"
    )
    effective: dict[str, Setting] = Field(description="as LoadGen used them, likewise")
    server: ServerTimes | None = Field(description="Triton's statistics of the run; null where it was restarted")
    log: str = Field(description="folder of LoadGen's logs, beside this file; of several processes a folder each in it")
    parts: Annotated[int, Field(ge=1)] = Field(
        default=1, description="processes that sent, each with a LoadGen of its own and an equal share of the rate"
    )
    spread_ms: NonNegative = Field(
        default=0.0, description="from the moment at which the first query of one was due to that of the last to begin"
    )


class SenderFacts(StrictModel):
    """One of several processes that sent."""

    host: str
    address: str | None = Field(description="of the node in the Ray cluster; null where Ray was started for the test")
    cpu: str
    cores: Count
    clock_ms: float = Field(description="by which its machine's clock is ahead of that of the one that measured")
    clock_uncertain_ms: NonNegative = Field(description="half of the fastest call by which that was found")


class Ceiling(StrictModel):
    """What the client can send, against a model that answers at once."""

    clips_per_s: NonNegative | None = Field(description="null where it could not be measured")
    where: str = Field(description="what it was measured against")
    allowed: Share = Field(description="of it, up to which a rate is measured")

    @property
    def most(self) -> float | None:
        """The highest rate that is measured, clips/s."""
        return None if self.clips_per_s is None else self.allowed * self.clips_per_s


class Sustained(StrictModel):
    """The highest rate that keeps the promise."""

    rate: NonNegative = Field(description="clips/s; 0 where none did")
    low: NonNegative = Field(description="end of a 95 % interval of the scatter between runs, see docs/load.md")
    high: NonNegative
    at_least: bool = Field(description="no rate that this client may send has broken it: it may be more")
    valid_up_to: NonNegative | None = Field(description="the highest rate of a run that LoadGen calls VALID, clips/s")


class ClipMix(StrictModel):
    """The clips that were sent, each as long as it is."""

    count: Annotated[int, Field(ge=1)]
    mean_seconds: NonNegative
    least_seconds: NonNegative
    most_seconds: NonNegative
    unreadable: Count


class ModelLoad(StrictModel):
    """One model."""

    model: ModelFacts
    clips: ClipMix = Field(description="that it was sent, at its sample rate")
    ceiling: Ceiling
    runs: list[LoadRun]
    refused: list[NonNegative] = Field(description="rates that were asked for, above what the client may send")
    sustained: Sustained | None = Field(description="null where it was not searched, or not to the end")
    unfinished: str | None = Field(description="why its runs ended before all were made; null where all were")


class LoadReport(StrictModel):
    """The whole of `load.json`."""

    schema_version: Literal[2] = 2
    arch_version: str
    loadgen_version: str
    command: str
    created: datetime
    machine: Machine
    servers: list[ServerFacts]
    transport: Transport = Field(default="grpc", description="how the audio went to the servers, and for the ceiling")
    senders: list[SenderFacts] = Field(default=[], description="the processes that sent; empty for one, on `machine`")
    round_trips: dict[str, NonNegative | None] = Field(
        default={},
        description="ms of a call for which a server does nothing, the median of 20: the network's part of each "
        "latency, by the addresses of servers on other machines; from where it takes longest, where several send; "
        "null where it could not be measured",
    )
    dataset: str
    listing: str = Field(description="digest of the dataset's clips, labels and folds")
    scenario: Scenario
    slo: SloFacts | None
    hop_s: NonNegative | None = Field(description="seconds between two clips of a stream, for the answer in words")
    seed: Count
    models: list[ModelLoad]
    unmeasured: list[str] = Field(description="models that were to be measured too, had the test not ended before")


LOAD_SCHEMA_VERSION: int = LoadReport.model_fields["schema_version"].default
"""To be raised with every change after which an earlier file no longer validates, or means another thing."""


def read_load(path: Path) -> LoadReport:
    """Read and validate a `load.json`.

    Raises:
        ArchError: if it is missing, is no JSON, or does not follow this version of the schema.
    """
    return read_versioned(LoadReport, path, "file of a load test", "test the load again")
