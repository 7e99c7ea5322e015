"""How the clips of one model and dataset went through the servers: speed, latency, faults, and where the time went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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


class Percentiles(StrictModel):
    """Latency of single-clip requests, in milliseconds."""

    p50: NonNegative = Field(description=meaning("p50_ms"))
    p95: NonNegative = Field(description=meaning("p95_ms"))
    p99: NonNegative = Field(description=meaning("p99_ms"))


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
    instances: Annotated[int, Field(ge=1)] = Field(
        description="of the model, which execute side by side: so many seconds of execution fit into one"
    )
    foreign_requests: Count = Field(description="requests that others sent to the model during the run")


class ServerShare(StrictModel):
    """One of the servers that shared the load."""

    address: str
    clips: Count = Field(description="embeddings that came from it")
    times: ServerTimes | None = Field(description="null where it was restarted during the run: its counters are lost")
    dropped: Count = Field(description=meaning("dropped"))


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

    def means(self) -> dict[str, float | None]:
        """The means over time, by the metric's id; None where nothing is known."""
        return {
            "client_cores": _mean(self.client_cores, self.seconds),
            "machine_cores": _mean(self.machine_cores, self.seconds),
            "gpu_busy": _mean(self.gpu, self.seconds) if self.gpu else None,
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


class Measurement(StrictModel):
    """One pass of clips through the servers."""

    clips: Count = Field(description="answered with an embedding; neither failed clips nor stored ones count")
    failed: Count = Field(description=meaning("failed"))
    seconds: NonNegative = Field(description="wall time from the first clip read to the last embedding received")
    audio_seconds: NonNegative = Field(description="of the clips answered, padding not counted")
    latency_ms: Percentiles | None = Field(description="null where no clip was answered")
    concurrency: Count = Field(description=meaning("concurrency"))
    mean_concurrency: NonNegative = Field(description=meaning("mean_concurrency"))
    concurrency_found: bool = Field(description=meaning("concurrency_found"))
    workers: Count
    server: ServerTimes | None = Field(description="over all servers; null if the counters of one are lost")
    servers: list[ServerShare]
    transport: Transport = Field(description=meaning("transport"))
    faults: Faults
    stages: Stages | None = Field(description="null where no clip was answered")
    utilisation: Utilisation
    bottleneck: Bottleneck | None = Field(description=meaning("bottleneck", "Null where no clip was answered."))

    @property
    def clips_per_s(self) -> float:
        """Clips embedded per second of wall time."""
        return self.clips / self.seconds if self.seconds else 0.0

    @property
    def rtfx(self) -> float:
        """Seconds of audio, padding not counted, embedded per second of wall time."""
        return self.audio_seconds / self.seconds if self.seconds else 0.0

    @property
    def occupancy(self) -> Occupancy | None:
        """How full servers, places in flight and workers were; None where no clip was answered."""
        if self.stages is None:
            return None
        return occupancy(
            self.stages,
            self.server,
            clips=self.clips,
            seconds=self.seconds,
            concurrency=self.mean_concurrency,
            workers=self.workers,
        )


def occupancy(
    stages: Stages, server: ServerTimes | None, *, clips: int, seconds: float, concurrency: float, workers: int
) -> Occupancy:
    """How full servers, places in flight and workers were.

    Args:
        stages: mean times of the clips that were answered.
        server: Triton's statistics, over all servers.
        clips: how many were answered.
        seconds: wall time.
        concurrency: places in flight, over all workers and servers; the mean over time.
        workers: processes that read, decode and send.
    """
    if not seconds:
        return Occupancy(None, 0.0, 0.0)
    per_second = clips / seconds / 1e3
    return Occupancy(
        server=None if server is None else min(1.0, server.busy_seconds / server.instances / seconds),
        in_flight=min(1.0, per_second * stages.latency_ms / max(1.0, concurrency)),
        decoding=min(1.0, per_second * (stages.decode_ms + stages.resample_ms) / max(1, workers * THREADS_PER_WORKER)),
    )


def _mean(series: Sequence[float | None], seconds: Sequence[float]) -> float | None:
    """The mean over time of a series of means since the entry before; None if nothing is known."""
    starts = [0.0, *seconds][: len(seconds)]
    known = [
        (value, end - start) for value, start, end in zip(series, starts, seconds, strict=True) if value is not None
    ]
    total = sum(span for _, span in known)
    return sum(value * span for value, span in known) / total if total else None
