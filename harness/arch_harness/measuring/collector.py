"""The figures of one pass through the servers, gathered while it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from arch_harness.measuring.bottleneck import find_bottleneck
from arch_harness.measuring.samples import Samples
from arch_harness.measuring.windows import Window, steady_windows
from arch_harness.results.measurement import (
    Consumption,
    Faults,
    LoadPoint,
    Measurement,
    NodeShare,
    Phase,
    ServerShare,
    ServerTimes,
    Stages,
    Transport,
    Utilisation,
)
from arch_harness.triton.server import Server
from arch_harness.triton.statistics import Statistics

if TYPE_CHECKING:
    from arch_harness.measuring.chunk import Chunk

# Phases, which are loads too, in which the servers did not get all that they could do.
_HELD_BACK: tuple[Literal["alone", "paced"], ...] = ("alone", "paced")
# Those in which they did, but for the beginnings of others.
_FULL_SPEED = ("ramp", "measured", "rest")


@dataclass(frozen=True)
class ServerCounts:
    """One server over a whole pass.

    Attributes:
        address: of it.
        added: to its counters; None where it was restarted meanwhile or does not answer.
        answered: requests of ours that it answered without an error.
        dropped: times that it was taken for dead.
    """

    address: str
    added: Statistics | None
    answered: int
    dropped: int

    @property
    def foreign_requests(self) -> int:
        """Requests that others sent."""
        return 0 if self.added is None else max(0, self.added.inferences - self.answered)


class MeasurementCollector:
    """Adds up chunks.

    Attributes:
        failures: (index, stage, reason), in order of arrival.
        audio_seconds: of the clips that succeeded.
        beyond_full_scale: clips among them with samples that were never scaled.
        samples: of the clips that succeeded.
    """

    def __init__(self) -> None:
        self.failures: list[tuple[int, Literal["decode", "infer"], str]] = []
        self.audio_seconds = 0.0
        self.beyond_full_scale = 0
        self.samples = Samples()

    @property
    def clips(self) -> int:
        """Clips that are done, failed ones included."""
        return len(self.samples) + len(self.failures)

    def add(self, chunk: Chunk) -> None:
        """Add what came of a chunk."""
        for answer in chunk.answers:
            self.samples.add(answer)
            self.audio_seconds += answer.seconds
            self.beyond_full_scale += answer.beyond_full_scale
        self.failures += chunk.failures

    def fail(self, index: int, stage: Literal["decode", "infer"], reason: str) -> None:
        """Add a clip that no worker told of."""
        self.failures.append((index, stage, reason))

    def measurement(
        self,
        *,
        windows: Sequence[Window],
        seconds: float,
        concurrency_found: bool,
        workers: int,
        nodes: list[NodeShare],
        servers: Sequence[ServerCounts],
        transport: Transport,
        faults: Faults,
        utilisation: Utilisation,
        consumption: Callable[[Sequence[tuple[float, float]]], Consumption],
    ) -> Measurement:
        """The pass as it is stored.

        Args:
            windows: all of it, in their order.
            seconds: wall time.
            concurrency_found: whether the requests in flight were found by raising them.
            workers: processes.
            nodes: that they ran on, of a cluster.
            servers: over the whole pass.
            transport: how the audio went.
            faults: over all workers.
            utilisation: over time.
            consumption: gives that of spans (start, end) in seconds since the pass began.
        """
        counted, steadiness = steady_windows(windows)
        if not counted:  # too short: all at full speed, and what warmed up where nothing was answered then
            counted = [one for one in windows if one.load.phase in _FULL_SPEED]
            if not self.samples.clips(counted):
                counted = [one for one in windows if one.load.phase not in _HELD_BACK]
        span = sum(one.end - one.start for one in counted)
        clips = self.samples.clips(counted)
        done = sum(one.done for one in counted)
        # What failed took its time too; a rate from answer to answer wants whole windows.
        rate = sum(one.rate * (one.end - one.start) for one in counted) / span if span else 0.0
        rate = rate * clips / done if done and all(one.usable for one in counted) else clips / span if span else 0.0
        measured_seconds = clips / rate if rate else span
        decode_ms, resample_ms, wait_ms, audio_seconds = self.samples.sums(counted)
        added = [None if one.added is None else _added(counted, place) for place, one in enumerate(servers)]
        foreign = [one.foreign_requests for one in servers]
        known = [one for one in added if one is not None]
        total = sum(known[1:], start=known[0]).times(sum(foreign)) if known and len(known) == len(added) else None
        if total is not None and clips and not total.requests:
            total = None  # the counters of a window that was over before they were read say nothing
        stages = None
        if clips:
            latency_ms = float(self.samples.latencies_ms(counted).mean())
            stages = Stages(
                decode_ms=decode_ms / clips,
                resample_ms=resample_ms / clips,
                wait_ms=wait_ms / clips,
                latency_ms=latency_ms,
                network_ms=None if total is None else max(0.0, latency_ms - total.queue_ms - total.compute_ms),
                queue_ms=None if total is None else total.queue_ms,
                compute_ms=None if total is None else total.compute_ms,
            )
        measured = Measurement(
            clips=len(self.samples),
            failed=len(self.failures),
            seconds=seconds,
            audio_seconds=self.audio_seconds,
            phases=self._phases(windows, counted),
            clips_per_s=rate,
            rtfx=audio_seconds / measured_seconds if measured_seconds else 0.0,
            measured_clips=clips,
            measured_seconds=measured_seconds,
            steadiness=steadiness,
            window_clips_per_s=[one.rate for one in counted if one.load.phase == "measured" and one.usable],
            loads=self.loads(windows, counted, rate, total),
            consumption=consumption([(one.start, one.end) for one in counted]) if clips else None,
            concurrency=counted[-1].load.concurrency if counted else 0,
            mean_concurrency=sum(one.load.concurrency * (one.end - one.start) for one in counted) / span if span else 0,
            concurrency_found=concurrency_found,
            workers=workers,
            nodes=nodes,
            server=total,
            servers=[
                ServerShare(
                    address=one.address,
                    clips=self.samples.clips_of(place, counted),
                    times=None if counters is None else counters.times(others),
                    dropped=one.dropped,
                )
                for place, (one, counters, others) in enumerate(zip(servers, added, foreign, strict=True))
            ],
            transport=transport,
            beyond_full_scale=self.beyond_full_scale,
            faults=faults,
            stages=stages,
            utilisation=utilisation,
            bottleneck=None,
        )
        if stages is None or measured.occupancy is None:
            return measured
        return measured.model_copy(update={"bottleneck": find_bottleneck(stages, measured.occupancy)})

    def loads(
        self, windows: Sequence[Window], saturated: Sequence[Window], rate: float, times: ServerTimes | None
    ) -> list[LoadPoint]:
        """The latency at each load that the pass had.

        Args:
            windows: all of it.
            saturated: those in which the servers got all that they could do.
            rate: clips/s in these.
            times: the servers' in these.
        """
        execution_ms = None
        if times is not None and times.batch_sizes:
            execution_ms = 1e3 * times.busy_seconds / sum(times.batch_sizes.values())
        found = []
        for load in _HELD_BACK:
            of_load = [one for one in windows if one.load.phase == load and one.usable]
            answered = sum(one.rate * (one.end - one.start) for one in of_load)
            span = sum(one.end - one.start for one in of_load)
            found.append(self.samples.at_load(load, of_load, execution_ms, answered / span if span else 0.0))
        found.append(self.samples.at_load("saturated", saturated, execution_ms, rate))
        return [one for one in found if one is not None]

    def _phases(self, windows: Sequence[Window], counted: Sequence[Window]) -> list[Phase]:
        phases: list[Phase] = []
        numbers = {one.number for one in counted}
        for one in windows:
            name = one.load.phase
            if name == "measured" and one.number not in numbers:
                name = "warm"
            elif name == "measured" and not one.usable:
                name = "rest"
            phase = Phase(
                name=name,
                start=one.start,
                end=one.end,
                clips=self.samples.clips([one]),
                in_flight=one.load.concurrency,
                rate=one.load.rate,
            )
            last = phases[-1] if phases else None
            if last and (last.name, last.in_flight, last.rate) == (name, phase.in_flight, phase.rate):
                phases[-1] = last.model_copy(update={"end": phase.end, "clips": last.clips + phase.clips})
            else:
                phases.append(phase)
        return phases


def _added(windows: Sequence[Window], place: int) -> Statistics | None:
    """What windows added to a server's counters."""
    total: Statistics | None = None
    for one in windows:
        before, after = one.counted_before[place], (one.counted_after or [None] * (place + 1))[place]
        added = None if before is None or after is None else after.since(before, 0)
        if added is None:
            return None
        total = added if total is None else total.then(added)
    return total


def statistics_of(servers: Sequence[Server], model: str) -> list[Statistics | None]:
    """The counters of each server; None of one that does not answer."""
    return [server.statistics_if_up(model) for server in servers]
