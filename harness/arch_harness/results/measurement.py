"""How the clips of one model and dataset went through the servers: speed, latency, faults, and where the time went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, model_validator

from arch_harness.results.metric_definitions import meaning
from arch_harness.results.schema import Count, NonNegative, Share, StrictModel

Bottleneck = Literal["server compute", "server queue", "decoding", "network", "server or network", "client"]
"""What limited the throughput; `server or network` where the counters that tell them apart are lost."""


Transport = Literal["grpc", "shared-memory"]
"""How the audio goes: within the request, or through memory that client and server share."""

THREADS_PER_WORKER = 3
"""Chunks that a worker has at a time, a thread each: one is decoded and sent while the answers to the others' last
clips are awaited."""


PhaseName = Literal["warm", "alone", "ramp", "measured", "paced", "rest"]
"""What a part of a pass is for.

warm: a load has begun and is not steady yet; nothing is taken from it.
alone: one request in flight.
ramp: the requests in flight are raised until the throughput stops growing.
measured: the server is saturated; throughput, utilisation and batch sizes are of these parts.
paced: clips are sent at a rate, whatever is answered.
rest: what is left of the dataset, at full speed.
"""

LoadName = Literal["alone", "paced", "saturated", "equal rate"]
"""A load at which latency is measured.

alone: one request in flight.
paced: clips sent at random moments (a Poisson process) at 70 % of the model's own highest rate.
saturated: as many in flight as give the highest throughput, or as were asked for.
equal rate: sent as `paced` are, at one rate for all models on the dataset.
"""

Steadiness = Literal["steady", "not steady", "too short"]
"""Whether three windows in a row of the measured phase differed by at most a tenth in their clips/s; too short where
there were not three."""


PowerSource = Literal["GPU, by Triton", "GPU, by NVML", "CPU, by RAPL"]
"""Whose power, and who tells of it: the servers' GPUs, by Triton's metrics or the driver of this machine's; the CPU
packages of this machine, where all servers run on it, with all that the client makes of them."""


class Percentiles(StrictModel):
    """Latency of single-clip requests, in milliseconds; null where there are too few requests to tell."""

    p50: NonNegative = Field(description=meaning("p50_ms"))
    p95: NonNegative | None = Field(description=meaning("p95_ms", "Null for fewer than 20 requests."))
    p99: NonNegative | None = Field(description=meaning("p99_ms", "Null for fewer than 100 requests."))


class LoadPoint(StrictModel):
    """Latency at one load."""

    load: LoadName
    in_flight: Count | None = Field(description="places in flight; null where clips were sent at a rate")
    rate: NonNegative | None = Field(
        description="clips/s at which they were sent, whatever was answered; null where the places in flight decide"
    )
    requests: Count = Field(description="of which the latencies are")
    answered_per_s: NonNegative = Field(description="clips that were answered meanwhile, per second")
    latency_ms: Percentiles | None = Field(description="null where none was answered")
    late_ms: NonNegative | None = Field(description=meaning("late_ms", "Null with no rate."))
    stalls: Count = Field(description=meaning("stalls"))


class Phase(StrictModel):
    """A part of a pass with one load."""

    name: PhaseName
    start: NonNegative = Field(description="seconds since the first clip was read")
    end: NonNegative = Field(description="seconds since the first clip was read")
    clips: Count = Field(description="that got their embedding in it")
    in_flight: Count = Field(description="places in flight; where clips were sent at a rate, the most there may be")
    rate: NonNegative | None = Field(default=None, description="clips/s at which they were sent")


class PowerUse(StrictModel):
    """The mean power of one kind of hardware, in watts."""

    source: PowerSource
    mean_w: NonNegative = Field(description="in the measured phase")
    idle_w: NonNegative = Field(description="before the run's first clip, models loaded and nothing in flight")


class Consumption(StrictModel):
    """What the servers' hardware took in the measured phase."""

    power: list[PowerUse] = Field(default=[], description="of all hardware that tells; empty where one of it is lost")
    untold: list[str] = Field(default=[], description="what of GPUs and CPUs is not among it, and why")
    gpu_memory_mib: NonNegative | None = Field(default=None, description=meaning("gpu_memory_mib"))
    server_memory_mib: NonNegative | None = Field(default=None, description=meaning("server_memory_mib"))

    @property
    def source(self) -> str:
        """Whose power it is, and what is missing of it."""
        missing = f"not told: {'; '.join(self.untold)}"
        named = " + ".join(one.source for one in self.power)
        return missing if not named else f"{named} ({missing})" if self.untold else named


class SpeedRun(StrictModel):
    """One measurement of the speed."""

    clips_per_s: NonNegative = Field(description=meaning("clips_per_s"))
    steadiness: Steadiness = Field(description=meaning("steadiness"))
    loads: list[LoadPoint]
    consumption: Consumption | None = Field(
        default=None, description="null in results by an earlier arch, and where no clip was answered"
    )

    @property
    def power(self) -> list[PowerUse]:
        """Of the hardware that tells; empty where none does."""
        return self.consumption.power if self.consumption else []

    @property
    def mean_power_w(self) -> float | None:
        """Of all of it; None where it is not told."""
        return sum(one.mean_w for one in self.power) if self.power else None

    @property
    def idle_power_w(self) -> float | None:
        """Likewise, with nothing in flight."""
        return sum(one.idle_w for one in self.power) if self.power else None

    @property
    def joules_per_clip(self) -> float | None:
        """Beyond idle; None where no power is told, or none beyond idle."""
        above = sum(one.mean_w - one.idle_w for one in self.power)
        return above / self.clips_per_s if above > 0 and self.clips_per_s else None

    def at(self, load: LoadName) -> LoadPoint | None:
        """What was measured at a load; None where it was not."""
        return next((point for point in self.loads if point.load == load), None)


class Repeat(SpeedRun):
    """One more, with clips sent again whose embeddings are not kept."""

    started: datetime


class ServerTimes(StrictModel):
    """What Triton's statistics say of the run: means over requests, in milliseconds, and executions by batch size."""

    requests: Count
    queue_ms: NonNegative = Field(description=meaning("queue_ms"))
    compute_ms: NonNegative = Field(description=meaning("compute_ms"))
    batch_sizes: dict[int, Count] = Field(description="batch size -> number of executions")
    mean_batch_size: NonNegative = Field(description=meaning("mean_batch_size"))
    busy_seconds: NonNegative = Field(
        description="time in executions, each counted once however many requests it held; the sum over instances"
    )
    instances: Annotated[int, Field(ge=1)] = Field(description=meaning("instances", "Here over all servers."))
    foreign_requests: Count = Field(description="requests that others sent to the model during the run")


class ServerShare(StrictModel):
    """One of the servers that shared the load."""

    address: str
    clips: Count = Field(description="embeddings that came from it in the measured phase")
    times: ServerTimes | None = Field(description="null where it was restarted during the run: its counters are lost")
    dropped: Count = Field(description=meaning("dropped"))


class NodeShare(StrictModel):
    """One of the nodes of a Ray cluster that had workers."""

    name: str = Field(description="of the host")
    address: str
    cores: Count = Field(description="that Ray gives to workers there")
    workers: Count = Field(description="that ran there, those that took the place of others too")
    clips: Count = Field(description=meaning("clips", "Here those that its workers did."))
    workers_lost: Count = Field(default=0, description=meaning("workers_lost"))
    lost: bool = Field(default=False, description="whether the node ended under the run")
    files_sent: bool = Field(
        default=False, description="whether clips' files were sent to it, which had not those of the driver"
    )


class Faults(StrictModel):
    """What went wrong on the way and was mended or given up: counts."""

    retries: Count = Field(default=0, description=meaning("retries"))
    queue_full: Count = Field(default=0, description=meaning("queue_full"))
    unreachable: Count = Field(default=0, description=meaning("unreachable"))
    cut_off: Count = Field(default=0, description=meaning("cut_off"))
    stopping: Count = Field(default=0, description=meaning("stopping"))
    timed_out: Count = Field(default=0, description=meaning("timed_out"))
    late: Count = Field(default=0, description=meaning("late"))
    refused: Count = Field(default=0, description=meaning("refused"))
    malformed: Count = Field(default=0, description=meaning("malformed"))
    workers_lost: Count = Field(default=0, description=meaning("workers_lost"))


class Stages(StrictModel):
    """Where a clip's time went: means over the clips that were answered, in milliseconds.

    Network, queue and compute are the parts of the latency; they are null where the counters of a server are lost.
    """

    decode_ms: NonNegative = Field(description=meaning("decode_ms"))
    resample_ms: NonNegative = Field(description=meaning("resample_ms"))
    wait_ms: NonNegative = Field(description=meaning("wait_ms"))
    latency_ms: NonNegative = Field(description=meaning("latency_ms"))
    network_ms: NonNegative | None = Field(description=meaning("network_ms"))
    queue_ms: NonNegative | None = Field(description=meaning("queue_ms"))
    compute_ms: NonNegative | None = Field(description=meaning("compute_ms"))


class Utilisation(StrictModel):
    """What was busy while the clips went through: samples over time, each the mean since the one before."""

    seconds: list[NonNegative] = Field(description="since the first clip was read")
    client_cores: list[NonNegative] = Field(description=meaning("client_cores"))
    machine_cores: list[NonNegative] = Field(description=meaning("machine_cores"))
    gpu: list[Share | None] | None = Field(description=meaning("gpu_busy"))
    clips_per_s: list[NonNegative] = Field(description="clips that got their embedding, per second")

    def means(self, spans: Sequence[tuple[float, float]] = ()) -> dict[str, float | None]:
        """The means over time, by the metric's id; None where nothing is known.

        Args:
            spans: (start, end) in seconds of what counts; by default all.
        """
        spans = spans or [(0.0, max(self.seconds, default=0.0))]
        return {
            "client_cores": _mean(self.client_cores, self.seconds, spans),
            "machine_cores": _mean(self.machine_cores, self.seconds, spans),
            "gpu_busy": _mean(self.gpu, self.seconds, spans) if self.gpu else None,
        }

    @model_validator(mode="after")
    def _aligned(self) -> Utilisation:
        lengths = {len(series) for series in (self.seconds, self.client_cores, self.machine_cores, self.clips_per_s)}
        if len(lengths | ({len(self.gpu)} if self.gpu is not None else set())) > 1:
            raise ValueError("the series of a utilisation differ in length")
        return self


@dataclass(frozen=True)
class Occupancy:
    """How full each part was, as shares of what it could hold.

    Attributes:
        server: of the time that the model's instances executed; None where the server's counters are lost.
        in_flight: of the places in flight, those taken, the mean over time. By Little's law that is throughput times
            latency.
        decoding: of the time of the workers' threads, that spent on reading, decoding and resampling.
    """

    server: float | None
    in_flight: float
    decoding: float


_COUNTED: tuple[PhaseName, ...] = ("measured", "ramp", "rest")


class Measurement(SpeedRun):
    """One pass of clips through the servers.

    Clips, failures, seconds and faults are of all its phases. Throughput, utilisation, the server's times and the
    stages are of the measured phase; where there is none, of ramp and rest.
    """

    clips: Count = Field(description="answered with an embedding; neither failed clips nor stored ones count")
    failed: Count = Field(description=meaning("failed"))
    seconds: NonNegative = Field(description="wall time from the first clip read to the last embedding received")
    audio_seconds: NonNegative = Field(description="of the clips answered, padding not counted")
    phases: list[Phase]
    rtfx: NonNegative = Field(description=meaning("rtfx"))
    measured_clips: Count = Field(description="that got their embedding in the measured phase")
    measured_seconds: NonNegative = Field(description="that the measured phase lasted")
    window_clips_per_s: list[NonNegative] = Field(description="of the windows of the measured phase, in their order")
    repeats: list[Repeat] = Field(default=[], description="more measurements of the same, where they were asked for")
    concurrency: Count = Field(description=meaning("concurrency"))
    mean_concurrency: NonNegative = Field(description=meaning("mean_concurrency"))
    concurrency_found: bool = Field(description=meaning("concurrency_found"))
    workers: Count
    nodes: list[NodeShare] = Field(
        default=[], description="of a Ray cluster, those with workers; empty where Ray was started for the run"
    )
    server: ServerTimes | None = Field(description="over all servers; null if the counters of one are lost")
    servers: list[ServerShare]
    transport: Transport = Field(description=meaning("transport"))
    beyond_full_scale: Count = Field(default=0, description=meaning("beyond_full_scale"))
    faults: Faults
    stages: Stages | None = Field(description="null where no clip was answered")
    utilisation: Utilisation
    bottleneck: Bottleneck | None = Field(description=meaning("bottleneck", "Null where no clip was answered."))

    def use(self) -> dict[str, float | None]:
        """Cores and GPUs that were busy while it was measured, by the metric's id; None where nothing is known."""
        spans = {name: [(one.start, one.end) for one in self.phases if one.name == name] for name in _COUNTED}
        return self.utilisation.means(spans["measured"] or [*spans["ramp"], *spans["rest"]])

    @property
    def latency_ms(self) -> Percentiles | None:
        """Of the saturated server; None where no clip was answered."""
        saturated = self.at("saturated")
        return saturated.latency_ms if saturated else None

    @property
    def occupancy(self) -> Occupancy | None:
        """How full servers, places in flight and workers were; None where no clip was answered."""
        if self.stages is None:
            return None
        return occupancy(
            self.stages,
            self.server,
            clips_per_s=self.clips_per_s,
            seconds=self.measured_seconds,
            concurrency=self.mean_concurrency,
            workers=self.workers,
        )


def occupancy(
    stages: Stages, server: ServerTimes | None, *, clips_per_s: float, seconds: float, concurrency: float, workers: int
) -> Occupancy:
    """How full servers, places in flight and workers were.

    Args:
        stages: mean times of the clips that were answered.
        server: Triton's statistics, over all servers.
        clips_per_s: that were answered.
        seconds: wall time that the server's times are of.
        concurrency: places in flight, over all workers and servers; the mean over time.
        workers: processes that read, decode and send.
    """
    if not seconds:
        return Occupancy(None, 0.0, 0.0)
    per_second = clips_per_s / 1e3
    return Occupancy(
        server=None if server is None else min(1.0, server.busy_seconds / server.instances / seconds),
        in_flight=min(1.0, per_second * stages.latency_ms / max(1.0, concurrency)),
        decoding=min(1.0, per_second * (stages.decode_ms + stages.resample_ms) / max(1, workers * THREADS_PER_WORKER)),
    )


def _mean(
    series: Sequence[float | None], seconds: Sequence[float], spans: Sequence[tuple[float, float]]
) -> float | None:
    """The mean over spans of time of a series of means since the entry before; None if nothing is known."""
    starts = [0.0, *seconds][: len(seconds)]
    weighted = total = 0.0
    for value, start, end in zip(series, starts, seconds, strict=True):
        covered = sum(max(0.0, min(end, last) - max(start, first)) for first, last in spans)
        if value is not None:
            weighted += value * covered
            total += covered
    return weighted / total if total else None
