"""How many requests to keep in flight: raised until the throughput stops growing."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from arch_harness.measuring.windows import Progress, done_between, rate_between, seconds_between

FACTOR = 2
GAIN = 1.05
"""A level counts as better if the throughput is so many times that of the best smaller one."""

_MOST_VAIN = 2
_CLEARLY = 1.25  # levels so far apart need no second look
_DOUBTLESS = 1.15  # nor a third
# The larger level (True) and the next smaller one: a machine that grows slower or faster favours neither.
_TURNS = (True, False, False, True, True, False)
_LEAST_S = 2.0
_LEAST_CLIPS = 32
# Clips of a window for each in flight, as in the windows that are measured: several full batches.
_ROUNDS = 2


class ConcurrencySearch:
    """Finds the smallest number of requests in flight with which the throughput is nearly the greatest.

    At each level the clips that were in flight before are let through, then a window is measured. Two levels without
    gain end the search: one alone may be a moment in which the machine was disturbed. The throughput of a worker is
    measured from answer to answer, not from look to look: answers come in batches, which a window cut at any other
    moment would count too many or too few of.

    What a machine gives changes by more than `GAIN` from one window to the next, so that levels measured once and one
    after the other are told apart by luck. So the level found is held against the next smaller one, in turns, three
    windows each or six, and the smaller one is taken unless the larger one is better by `GAIN`; and so on downwards.

    Args:
        start: the first level.
        least: no level below is the last: batches that never fill show no gain from one level to the next.
        most: the last one, whatever the gain.

    Attributes:
        level: requests to keep in flight now.
        settled: whether the search is over.
        rates: clips/s of each level, as the way up found them.
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
        self._found = 0
        self._smaller = 0
        self._turns: list[float] = []

    @property
    def comparing(self) -> bool:
        """Whether a level is found, and held against smaller ones."""
        return bool(self._smaller) and not self.settled

    def settle(self) -> None:
        """Compare no further: of the levels that are held against each other, the larger one is taken."""
        self.level, self.settled = self._found, True

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
        if self.comparing:
            self._compare(rate)
            return
        best = max(self.rates.values(), default=0.0)
        self.rates[self.level] = rate
        self._vain = 0 if rate >= GAIN * best else self._vain + 1
        if (self._vain < _MOST_VAIN or self.level < self._least) and self.level < self._most:
            self.level = min(self._most, FACTOR * self.level)
            return
        # Two levels in vain are as good as the best but for noise: the middle one of the three tells what can be had,
        # where the highest would be the luckiest.
        highest = sorted(self.rates.values())[-1 - _MOST_VAIN :]
        best = statistics.median(highest) if self._vain >= _MOST_VAIN else max(highest)
        self._take(min(level for level, rate in self.rates.items() if rate * GAIN >= best))

    def _take(self, level: int) -> None:
        """Hold a level against the next smaller one, or settle for it where there is none that may be as good."""
        self._found, self._turns = level, []
        self._smaller = max((other for other in self.rates if other < level), default=0)
        if not self._smaller or self.rates[self._smaller] * _CLEARLY <= self.rates[level]:
            self.settle()
        else:
            self.level = level

    def _compare(self, rate: float) -> None:
        self._turns.append(rate)
        turn = len(self._turns) % len(_TURNS)
        if turn == 0 and self._is_decided(again=len(self._turns) > len(_TURNS)):
            return
        self.level = self._found if _TURNS[turn] else self._smaller

    def _is_decided(self, again: bool) -> bool:
        """Settle or go on with the smaller level, unless a gain is so small that it wants a second look."""
        larger, smaller = (
            statistics.fmean(rate for place, rate in enumerate(self._turns) if _TURNS[place % len(_TURNS)] is which)
            for which in (True, False)
        )
        if larger < GAIN * smaller:
            self._take(self._smaller)
        elif again or larger >= _DOUBTLESS * smaller:
            self.settle()
        else:
            return False
        return True
