"""What limits the throughput of a pass through the servers: one rule, from figures that the pass itself measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from arch_harness.measurement import THREADS_PER_WORKER

if TYPE_CHECKING:
    from arch_harness.measurement import Bottleneck, ServerTimes, Stages

SATURATED = 0.85
"""Share of the time from which on a server's instances count as always busy. The rest is the gap between two
executions, and the start and the end of the pass, when batches are not full."""

FULL = 0.8
"""Share of the places in flight from which on they count as always taken: a place stays empty for the moment between an
answer and the next request."""

MOSTLY = 0.5
"""Share of the time of the workers' threads from which on decoding is what they mostly do."""


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


def find_bottleneck(stages: Stages, shares: Occupancy) -> Bottleneck:
    """Name what limited the throughput.

    1. The servers' instances executed nearly all the time: `server compute`, whatever else was full.
    2. The places in flight were nearly always taken: the clients waited for answers, so the limit is where a request
       spent most of its time, `server compute`, `server queue` or `network`. Of two that are equal, the one nearer to
       the model. `server or network` where the server's counters are lost.
    3. Places in flight stood empty: the clients did not fill them. `decoding` if that took the workers' time, else
       `client`: making and taking requests, and handing results on.
    """
    if shares.server is not None and shares.server >= SATURATED:
        return "server compute"
    if shares.in_flight >= FULL:
        waits: list[tuple[Bottleneck, float | None]] = [
            ("server compute", stages.compute_ms),
            ("server queue", stages.queue_ms),
            ("network", stages.network_ms),
        ]
        known = [(name, wait) for name, wait in waits if wait is not None]
        return max(known, key=lambda one: one[1], default=("server or network", 0.0))[0]
    return "decoding" if shares.decoding >= MOSTLY else "client"
