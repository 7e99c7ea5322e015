"""A few numbers of each clip that a pass embedded, by the window in which it was sent and that of its answer."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from arch_harness.measuring.stalls import count_stalls
from arch_harness.results.measurement import LoadName, LoadPoint, Percentiles

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arch_harness.measuring.chunk import Answer
    from arch_harness.measuring.windows import Window

_FOR_P95, _FOR_P99 = 20, 100
"""Requests; of fewer, the percentile would be no more than the latency of the slowest."""


class Samples:
    """Adds up answers; nothing grows with them but a few numbers for each."""

    def __init__(self) -> None:
        self._latency_ms = array("d")
        self._server = array("i")
        self._sent_in = array("i")
        self._answered_in = array("i")
        # By the window of the answer: decode, resample and wait in ms, seconds of audio, and clips.
        self._sums: dict[int, NDArray[np.float64]] = {}
        self._late_ms: dict[int, float] = {}

    def __len__(self) -> int:
        """Clips that were answered."""
        return len(self._latency_ms)

    def add(self, answer: Answer) -> None:
        """Add one clip."""
        self._latency_ms.append(answer.latency_ms)
        self._server.append(answer.server)
        self._sent_in.append(answer.sent_in)
        self._answered_in.append(answer.answered_in)
        sums = self._sums.setdefault(answer.answered_in, np.zeros(5))
        sums += (answer.decode_ms, answer.resample_ms, answer.wait_ms, answer.seconds, 1)
        self._late_ms[answer.sent_in] = self._late_ms.get(answer.sent_in, 0.0) + answer.late_ms

    def clips(self, windows: Iterable[Window]) -> int:
        """Clips that were answered in windows."""
        return int(self._summed(windows)[4])

    def clips_of(self, server: int, windows: Iterable[Window]) -> int:
        """Those of them that one server answered."""
        chosen = self._chosen(self._answered_in, windows)
        return int((chosen & (np.frombuffer(self._server, np.int32) == server)).sum()) if len(self) else 0

    def sums(self, windows: Iterable[Window]) -> tuple[float, float, float, float]:
        """Decode, resample and wait in ms, and seconds of audio, over the clips answered in windows."""
        decode, resample, wait, audio, _ = map(float, self._summed(windows))
        return decode, resample, wait, audio

    def latencies_ms(self, windows: Iterable[Window], *, sent: bool = False) -> NDArray[np.float64]:
        """Latencies of the clips answered in windows, or of those `sent` in them."""
        chosen = self._chosen(self._sent_in if sent else self._answered_in, windows)
        return np.frombuffer(self._latency_ms)[chosen] if len(self) else np.zeros(0)

    def at_load(
        self, load: LoadName, windows: Sequence[Window], execution_ms: float | None, answered_per_s: float
    ) -> LoadPoint | None:
        """The latency in windows of one load; None where there are none.

        At a rate, the requests that were sent in them; otherwise those that were answered, since what was sent before
        was sent at the same load.
        """
        if not windows:
            return None
        rate = windows[0].load.rate
        latencies = self.latencies_ms(windows, sent=rate is not None)
        number = len(latencies)
        late = sum(self._late_ms.get(one.number, 0.0) for one in windows)
        return LoadPoint(
            load=load,
            in_flight=windows[-1].load.concurrency if rate is None else None,
            rate=rate,
            requests=number,
            answered_per_s=answered_per_s,
            latency_ms=percentiles(latencies),
            late_ms=late / number if rate is not None and number else None,
            stalls=count_stalls(latencies, execution_ms),
        )

    def _summed(self, windows: Iterable[Window]) -> NDArray[np.float64]:
        return sum((self._sums[one.number] for one in windows if one.number in self._sums), start=np.zeros(5))

    def _chosen(self, of: array[int], windows: Iterable[Window]) -> NDArray[np.bool_]:
        return np.isin(np.frombuffer(of, np.int32) if len(of) else np.zeros(0, np.int32), [w.number for w in windows])


def percentiles(latencies_ms: NDArray[np.float64]) -> Percentiles | None:
    """The median, and the 95th and 99th percentile where there are enough; None of none."""
    number = len(latencies_ms)
    if not number:
        return None
    p50, p95, p99 = map(float, np.percentile(latencies_ms, [50, 95, 99]))
    return Percentiles(p50=p50, p95=p95 if number >= _FOR_P95 else None, p99=p99 if number >= _FOR_P99 else None)
