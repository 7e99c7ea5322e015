"""How many requests to keep in flight: raised until the throughput stops growing."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from arch_harness.measuring.windows import Progress, done_between, rate_between, seconds_between

FACTOR = 2
GAIN = 1.05
"""Throughputs that differ by less are nearly the same."""

_MOST_VAIN = 3  # with two, a throughput that grows by 4 % from level to level would seem at its end
_PLAUSIBLE = 1.25  # levels further from the best, measured once, need no second look
_FALLEN = 1.10  # beyond the last level that is not so far from the best, more in flight does harm
_ROUNDS = 4
_LEAST_S = 2.0
_LEAST_CLIPS = 32
_SHARE = 0.04


class ConcurrencySearch:
    """Finds the smallest number of requests in flight with which the throughput is nearly the greatest.

    At each level the clips that were in flight before are let through, then a window is measured. Three levels without
    gain end the way up. The throughput of a worker is measured from answer to answer, not from look to look: answers
    come in batches, which a window cut at any other moment would count too many or too few of.

    What a machine gives changes by more than `GAIN` from one window to the next, so that of levels measured once and
    one after the other luck chooses. So all that came near the best are measured four times more, in rounds that go
    down and up in turns: a machine that grows slower or faster favours none. As long as more requests in flight do no
    harm, they bring no less throughput; so the means are made to rise by isotonic regression (Barlow et al.,
    Statistical Inference under Order Restrictions, 1972), and the smallest level is taken that is then within `GAIN`
    of the last.

    Args:
        start: the first level.
        least: no level below is the last: batches that never fill show no gain from one level to the next.
        most: the last one, whatever the gain.
        clips: of the pass. A window that is long in clips, 4 % of them, need not be long in time.

    Attributes:
        level: requests to keep in flight now.
        in_flight: the most that may still be, of this level or of one before it.
        settled: whether the search is over.
        found: whether it is, and did not end on the way up.
    """

    def __init__(self, start: int, least: int, most: int, clips: int) -> None:
        import sklearn.isotonic  # noqa: F401  # takes a second, which no window shall have

        self.level = self.in_flight = start
        self.settled = self.found = False
        self._start = start
        self._least = least
        self._enough = _SHARE * clips
        self._most = most
        self._before: list[Progress] | None = None
        self._window: list[Progress] | None = None
        self._vain = 0
        self._rates: dict[int, list[float]] = {}  # clips/s of each level, of the way up and of the rounds after it
        self._order: list[int] = []  # of the levels of a round
        self._left: list[int] = []  # of the round that runs

    @property
    def rising(self) -> bool:
        """Whether the last level brought more than all before: the best may be far beyond."""
        return not self._vain

    @property
    def comparing(self) -> bool:
        """Whether the way up is over, and what came near the best is measured again."""
        return bool(self._order) and not self.settled

    def settle(self) -> None:
        """Measure no further: take the best of what is known."""
        self.settled, self.found = True, bool(self._order)
        self.in_flight = max(self.in_flight, self.level)
        if not self._rates:
            return
        self._order = self._order or self._plausible()
        means = {level: statistics.fmean(self._rates[level]) for level in sorted(self._order)}
        last = max(level for level, mean in means.items() if mean * _FALLEN >= max(means.values()))
        levels = [level for level in means if level <= last]
        risen = _isotonic([means[level] for level in levels], [len(self._rates[level]) for level in levels])
        self.level = next(level for level, mean in zip(levels, risen, strict=True) if mean * GAIN >= risen[-1])

    def observe(self, workers: Sequence[Progress]) -> int:
        """Take how far the workers are, in the same order each time, and give the level to use from now on."""
        now = list(workers)
        if self.settled:
            return self.level
        if self._before is None or len(now) != len(self._before):
            self._before, self._window = now, None
        elif self._window is None:
            waiting = max(self.in_flight, self.level)
            if done_between(self._before, now) >= waiting and seconds_between(self._before, now) > 0:
                self._window, self.in_flight = now, self.level
        elif (done := done_between(self._window, now)) >= max(_LEAST_CLIPS, self.level):
            seconds = seconds_between(self._window, now)
            if seconds >= _LEAST_S or (done >= self._enough and seconds > 0):
                self._close(rate_between(self._window, now))
                self._before, self._window = None, None
        return self.level

    def restart_window(self) -> None:
        """Measure the level anew: something was lost meanwhile that is back at once, or a worker was slow to tell."""
        self._before = self._window = None

    def restart(self) -> None:
        """Begin anew: the servers are others now, with a throughput and a best level of their own."""
        if self.settled:
            return
        self.restart_window()
        self.in_flight = max(self.in_flight, self.level)
        self.level = self._start
        self._vain, self._rates, self._order, self._left = 0, {}, [], []

    def _close(self, rate: float) -> None:
        if self.comparing:
            self._compare(rate)
            return
        best = max((rates[0] for rates in self._rates.values()), default=0.0)
        self._rates[self.level] = [rate]
        self._vain = 0 if rate >= GAIN * best else self._vain + 1
        if (self._vain < _MOST_VAIN or self.level < self._least) and self.level < self._most:
            self.level = min(self._most, FACTOR * self.level)
            return
        self._order = self._plausible()
        if len(self._order) == 1:
            self.settle()
        else:
            self._begin_round()

    def _plausible(self) -> list[int]:
        """The levels that came near the best."""
        best = max(rates[0] for rates in self._rates.values())
        return [level for level, rates in self._rates.items() if rates[0] * _PLAUSIBLE >= best]

    def _compare(self, rate: float) -> None:
        self._rates[self.level].append(rate)
        if self._left:
            self.level = self._left.pop(0)
        elif len(self._rates[self.level]) > _ROUNDS:
            self.settle()
        else:
            self._begin_round()

    def _begin_round(self) -> None:
        """The other way round than the one before, or than the way up."""
        self._order.reverse()
        self.level, *self._left = self._order


def _isotonic(values: Sequence[float], weights: Sequence[int]) -> list[float]:
    """What rises and comes nearest to these, by squares: neighbours that fall are pooled."""
    from sklearn.isotonic import isotonic_regression

    return [float(value) for value in isotonic_regression(values, sample_weight=weights)]
