"""The figures of one pass through the servers, gathered while it runs; nothing grows with it but a number per clip."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from arch_harness.measuring.bottleneck import find_bottleneck
from arch_harness.results.measurement import (
    Faults,
    Measurement,
    Percentiles,
    ServerShare,
    Stages,
    Transport,
    Utilisation,
)
from arch_harness.triton.server import Server
from arch_harness.triton.statistics import Statistics

if TYPE_CHECKING:
    from arch_harness.measuring.chunk import Chunk


class MeasurementCollector:
    """Adds up chunks.

    Args:
        servers: how many there are.

    Attributes:
        failures: (index, stage, reason), in order of arrival.
        audio_seconds: of the clips that succeeded.
    """

    def __init__(self, servers: int) -> None:
        self.failures: list[tuple[int, Literal["decode", "infer"], str]] = []
        self.audio_seconds = 0.0
        self._latencies_ms = array("d")
        self._sums_ms = np.zeros(3)
        self._clips = [0] * servers

    @property
    def answered(self) -> int:
        """Clips that succeeded."""
        return len(self._latencies_ms)

    @property
    def clips(self) -> int:
        """Clips that are done, failed ones included."""
        return self.answered + len(self.failures)

    def add(self, chunk: Chunk) -> None:
        """Add what came of a chunk."""
        for answer in chunk.answers:
            self._latencies_ms.append(answer.latency_ms)
            self._sums_ms += (answer.decode_ms, answer.resample_ms, answer.wait_ms)
            self._clips[answer.server] += 1
            self.audio_seconds += answer.seconds
        self.failures += chunk.failures

    def fail(self, index: int, stage: Literal["decode", "infer"], reason: str) -> None:
        """Add a clip that no worker told of."""
        self.failures.append((index, stage, reason))

    def measurement(
        self,
        *,
        seconds: float,
        concurrency: int,
        mean_concurrency: float,
        concurrency_found: bool,
        workers: int,
        servers: Sequence[tuple[str, Statistics | None, int, int]],
        transport: Transport,
        faults: Faults,
        utilisation: Utilisation,
    ) -> Measurement:
        """The pass as it is stored.

        Args:
            seconds: wall time.
            concurrency: requests in flight, at the end.
            mean_concurrency: the same, the mean over time.
            concurrency_found: whether that was found by raising it.
            workers: processes.
            servers: address, counters of the pass, requests answered and times dropped, of each server.
            transport: how the audio went.
            faults: over all workers.
            utilisation: over time.
        """
        known = [statistics for _, statistics, _, _ in servers if statistics is not None]
        times = None
        if len(known) == len(servers):
            total = sum(known[1:], start=known[0])
            times = total.times(sum(own for _, _, own, _ in servers))
        stages = percentiles = None
        if self.answered:
            latencies = np.frombuffer(self._latencies_ms)
            p50, p95, p99 = np.percentile(latencies, [50, 95, 99])
            percentiles = Percentiles(p50=p50, p95=p95, p99=p99)
            decode_ms, resample_ms, wait_ms = self._sums_ms / self.answered
            latency_ms = float(latencies.mean())
            stages = Stages(
                decode_ms=decode_ms,
                resample_ms=resample_ms,
                wait_ms=wait_ms,
                latency_ms=latency_ms,
                network_ms=None if times is None else max(0.0, latency_ms - times.queue_ms - times.compute_ms),
                queue_ms=None if times is None else times.queue_ms,
                compute_ms=None if times is None else times.compute_ms,
            )
        measured = Measurement(
            clips=self.answered,
            failed=len(self.failures),
            seconds=seconds,
            audio_seconds=self.audio_seconds,
            latency_ms=percentiles,
            concurrency=concurrency,
            mean_concurrency=mean_concurrency,
            concurrency_found=concurrency_found,
            workers=workers,
            server=times,
            servers=[
                ServerShare(
                    address=address,
                    clips=clips,
                    times=None if statistics is None else statistics.times(own),
                    dropped=dropped,
                )
                for (address, statistics, own, dropped), clips in zip(servers, self._clips, strict=True)
            ],
            transport=transport,
            faults=faults,
            stages=stages,
            utilisation=utilisation,
            bottleneck=None,
        )
        if stages is None or measured.occupancy is None:
            return measured
        return measured.model_copy(update={"bottleneck": find_bottleneck(stages, measured.occupancy)})


def statistics_of(servers: Sequence[Server], model: str) -> list[Statistics | None]:
    """The counters of each server; None of one that does not answer."""
    return [server.statistics_if_up(model) for server in servers]
