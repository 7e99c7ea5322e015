"""How many requests to keep in flight: raised until the throughput stops growing."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from arch_harness.measuring.windows import Progress, done_between, rate_between, seconds_between

FACTOR = 2
GAIN = 1.05
"""A level counts as better if the throughput is so many times that of the best smaller one."""

_MOST_VAIN = 2
_LEAST_S = 2.0
_LEAST_CLIPS = 32
# Clips of a window for each in flight: several full batches, and the time of each clip several times over.
_ROUNDS = 4


class ConcurrencySearch:
    """Finds the smallest number of requests in flight with which the throughput is nearly the greatest.

    At each level the clips that were in flight before are let through, then a window is measured. Two levels without
    gain end the search: one alone may be a moment in which the machine was disturbed. The throughput of a worker is
    measured from answer to answer, not from look to look: answers come in batches, which a window cut at any other
    moment would count too many or too few of.

    Args:
        start: the first level.
        least: no level below is the last: batches that never fill show no gain from one level to the next.
        most: the last one, whatever the gain.

    Attributes:
        level: requests to keep in flight now.
        settled: whether the search is over.
        rates: clips/s of each level measured.
    """

    def __init__(self, start: int, least: int, most: int) -> None:
        self.level = start
        self.settled = False
        self.rates: dict[int, float] = {}
        self._least = least
        self._most = most
        self._before: list[Progress] | None = None
        self._window: list[Progress] | None = None
        self._vain = 0

    def observe(self, workers: Sequence[Progress]) -> int:
        """Take how far the workers are, in the same order each time, and give the level to use from now on."""
        now = list(workers)
        if self.settled:
            return self.level
        if self._before is None or len(now) != len(self._before):
            self._before, self._window = now, None
        elif self._window is None:
            if done_between(self._before, now) >= self.level and seconds_between(self._before, now) > 0:
                self._window = now
        elif (
            done_between(self._window, now) >= max(_LEAST_CLIPS, _ROUNDS * self.level)
            and seconds_between(self._window, now) >= _LEAST_S
        ):
            self._close(rate_between(self._window, now))
            self._before, self._window = None, None
        return self.level

    def restart_window(self) -> None:
        """Measure the level anew: a worker or a server was lost meanwhile."""
        self._before = self._window = None

    def _close(self, rate: float) -> None:
        best = max(self.rates.values(), default=0.0)
        self.rates[self.level] = rate
        self._vain = 0 if rate >= GAIN * best else self._vain + 1
        if (self._vain < _MOST_VAIN or self.level < self._least) and self.level < self._most:
            self.level = min(self._most, FACTOR * self.level)
            return
        self.settled = True
        # Two levels in vain are as good as the best but for noise: the middle one of the three tells what can be had,
        # where the highest would be the luckiest.
        highest = sorted(self.rates.values())[-1 - _MOST_VAIN :]
        best = statistics.median(highest) if self._vain >= _MOST_VAIN else max(highest)
        self.level = min(level for level, rate in self.rates.items() if rate * GAIN >= best)
