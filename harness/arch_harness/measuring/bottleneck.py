"""What limits the throughput of a pass through the servers: one rule, from figures that the pass itself measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arch_harness.results.measurement import Occupancy

if TYPE_CHECKING:
    from arch_harness.results.measurement import Bottleneck, Stages

SATURATED = 0.85
"""Share of the time from which on a server's instances count as always busy. The rest is the gap between two
executions, and the start and the end of the pass, when batches are not full."""

FULL = 0.8
"""Share of the places in flight from which on they count as always taken: a place stays empty for the moment between an
answer and the next request."""

MOSTLY = 0.5
"""Share of the time of the workers' threads from which on decoding is what they mostly do."""


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
