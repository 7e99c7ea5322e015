"""Triton's counters of a model, and what was added to them during a measurement."""

from __future__ import annotations

from dataclasses import dataclass, replace

from arch_harness.results.measurement import ServerTimes


@dataclass(frozen=True)
class Statistics:
    """Triton's counters of one model since it was loaded; times in nanoseconds, summed over requests.

    `busy_ns` sums the executions instead, each counted once however many requests it held; `instances` execute side by
    side.
    """

    inferences: int
    requests: int
    queue_ns: int
    compute_ns: int
    busy_ns: int
    executions: dict[int, int]
    instances: int

    def __add__(self, other: Statistics) -> Statistics:
        """Of two servers together."""
        sizes = self.executions.keys() | other.executions.keys()
        return Statistics(
            self.inferences + other.inferences,
            self.requests + other.requests,
            self.queue_ns + other.queue_ns,
            self.compute_ns + other.compute_ns,
            self.busy_ns + other.busy_ns,
            {size: self.executions.get(size, 0) + other.executions.get(size, 0) for size in sizes},
            self.instances + other.instances,
        )

    def then(self, later: Statistics) -> Statistics:
        """Of one server over two spans of time."""
        return replace(self + later, instances=later.instances)

    def since(self, before: Statistics, own_requests: int) -> Statistics | None:
        """What was added after `before`; None where the server was restarted since, which sets them to 0.

        Args:
            before: of the same server.
            own_requests: answered single-clip requests of ours; fewer than these were not counted by a server that ran
                through.
        """
        sizes = {
            size: self.executions.get(size, 0) - before.executions.get(size, 0)
            for size in self.executions.keys() | before.executions.keys()
        }
        added = Statistics(
            self.inferences - before.inferences,
            self.requests - before.requests,
            self.queue_ns - before.queue_ns,
            self.compute_ns - before.compute_ns,
            self.busy_ns - before.busy_ns,
            {size: count for size, count in sorted(sizes.items()) if count},
            self.instances,
        )
        fell = min(added.requests, added.queue_ns, added.compute_ns, added.busy_ns, *added.executions.values(), 0) < 0
        return None if fell or added.inferences < own_requests else added

    def times(self, foreign_requests: int = 0) -> ServerTimes:
        """Means over the requests, some of which may have been sent by others."""
        executions = sum(self.executions.values())
        return ServerTimes(
            requests=self.requests,
            queue_ms=self.queue_ns / 1e6 / max(1, self.requests),
            compute_ms=self.compute_ns / 1e6 / max(1, self.requests),
            batch_sizes=dict(sorted(self.executions.items())),
            mean_batch_size=sum(size * count for size, count in self.executions.items()) / max(1, executions),
            busy_seconds=self.busy_ns / 1e9,
            instances=self.instances,
            foreign_requests=foreign_requests,
        )
