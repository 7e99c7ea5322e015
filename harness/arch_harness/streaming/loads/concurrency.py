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
# Windows of the best level (True) and of a smaller one: a machine that grows slower or faster favours neither.
_TURNS = (True, False, False, True, True, False)
_MOST_TURNS = 3 * len(_TURNS)
_LOSS, _DOUBTLESS = 1.03, 1.10  # times the throughput: more is a loss; less than that may yet be luck
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

    What a machine gives changes by more than `GAIN` from one window to the next, so that of levels measured once and
    one after the other luck chooses. So the best one is then held against each smaller one, from the next on down, in
    turns, three windows each and up to nine; the search settles for the smallest that is not worse by 3 %.

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
        self._best = 0
        self._smaller = 0
        self._turns: list[float] = []

    @property
    def comparing(self) -> bool:
        """Whether a level is found, and held against smaller ones."""
        return bool(self._smaller) and not self.settled

    def settle(self) -> None:
        """Compare no further."""
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
        if self.comparing:  # turns before and after it are of different machines
            self._turns, self.level = [], self._best

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
        self._found = min(level for level, rate in self.rates.items() if rate * GAIN >= best)
        self._best = max(self.rates, key=lambda level: self.rates[level])
        self._compare_below(self._best)

    def _compare_below(self, level: int) -> None:
        """Hold the best against the next smaller level, or settle where there is none that may be as good."""
        self._turns = []
        self._smaller = max((other for other in self.rates if other < level), default=0)
        if not self._smaller or self.rates[self._smaller] * _CLEARLY <= self.rates[self._best]:
            self._found = level
            self.settle()
        else:
            self.level = self._best

    def _compare(self, rate: float) -> None:
        self._turns.append(rate)
        turn = len(self._turns) % len(_TURNS)
        if turn == 0 and self._is_decided(last=len(self._turns) == _MOST_TURNS):
            return
        self.level = self._best if _TURNS[turn] else self._smaller

    def _is_decided(self, last: bool) -> bool:
        """Go on with the smaller level, or settle for the one before; neither where it may be luck."""
        best, smaller = (
            statistics.fmean(rate for place, rate in enumerate(self._turns) if _TURNS[place % len(_TURNS)] is which)
            for which in (True, False)
        )
        if best < _LOSS * smaller:
            self._found = self._smaller
            self._compare_below(self._smaller)
        elif last or best >= _DOUBTLESS * smaller:
            self._found = min(level for level in self.rates if level > self._smaller)
            self.settle()
        else:
            return False
        return True
