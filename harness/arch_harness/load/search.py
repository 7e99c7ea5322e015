"""The highest rate at which a promise is kept: doubled until it breaks, halved into, then repeated around the place.

One run near the limit says little: the late answers come in clusters, and most short runs have none. So the runs are
not counted as kept or broken; their late answers are added up. Two things are made of them:

- While it searches: the share of late answers must grow with the rate, which isotonic regression (pool adjacent
  violators) makes of what was measured; where it crosses the share that is allowed is where the next runs are made.
- In the end: in a queue the logarithm of a tail is nearly linear in the load, so the runs near the place are fitted by
  `log share = log allowed + slope * (log rate - log limit)`, a Poisson regression whose spread is what the runs show
  (quasi-likelihood: McCullagh and Nelder, Generalized Linear Models, 1989, chapter 9). Its limit is the rate, and the
  limits that the profile of its deviance does not rule out are the interval.

The counts are of few clusters, so their sums are skewed: the place where isotonic regression crosses is too high, by 1
to 5 % in short runs, and bootstrapped intervals are too narrow. The fit takes sums, which are right in the mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import f as f_distribution

_COARSE = 1.06  # the ratio of a broken to a kept rate from which repeats say more than another halving
_AROUND = (1.0, 1.03, 0.97)
_HALVINGS = 6
_UP, _DOWN = 2.0, 1.5  # from a run to the next until one has kept the promise and one has not
_FOLLOWED = 0.95  # of the rate must be answered, or the clips piled up
_HOPELESS = 16  # times less than the first rate, at which clips hardly meet: who is late there is late at any rate
_BELOW = 0.9  # of what was answered then: near the limit of the server, and below it
NEAR = 0.18
"""Of the logarithm of a rate, within which that of a tail is taken to be linear in it: the runs that say the rate."""
_PLACES = np.linspace(-0.7, 0.7, 701)
# Of log share over log rate: 5.6 in a queue (M/M/1) of which 1 % is late at half its capacity, and more nearer to it.
_SLOPES = np.geomspace(5.0, 300.0, 60)
_MOST_SHARE = 0.98
_CONFIDENCE = 0.95
# By how much more the deviance of counts in few clusters scatters than F says: found with benchmarks/load_search.py.
_CLUSTERED = 1.75


@dataclass(frozen=True)
class Observation:
    """One run: the rate in clips/s, answers that were late or failed, and all."""

    rate: float
    over: int
    answers: int


@dataclass(frozen=True)
class Found:
    """What a search has found, in clips/s.

    Attributes:
        rate: the highest that keeps the promise; 0 where none did.
        low: end of the 95 % interval; it is of the scatter between runs, not of what all runs have in common.
        high: the other end.
        at_least: whether no rate up to the highest allowed has broken it, so that it may be more.
    """

    rate: float
    low: float
    high: float
    at_least: bool = False


def find_highest(
    measure: Callable[[float], Observation], allowed: float, start: float, most: float, repeats: int
) -> Found:
    """Search.

    Args:
        measure: runs at a rate.
        allowed: the share of answers that may be late.
        start: the first rate.
        most: no rate above is tried.
        repeats: rounds of three runs around the place, once it is known within 6 %.
    """
    runs: list[Observation] = []

    def keeps(rate: float) -> bool:
        run = measure(rate)
        runs.append(run)
        return run.over <= allowed * run.answers

    low = high = None
    rate = min(start, most)
    for _ in range(60):
        # Again before it counts as broken: whatever disturbed one run must not bound all that follow.
        if keeps(rate) or keeps(rate):
            low = rate
            if rate >= most:
                return Found(rate, rate, rate, at_least=True)
            if high is not None:
                break
            rate = min(2 * rate, most)
        else:
            high = rate
            if low is not None:
                break
            if rate <= start / 2**_HALVINGS:
                return Found(0.0, 0.0, rate)
            rate /= 2
    if low is None or high is None:
        raise AssertionError("sixty doublings pass every rate")
    while high > _COARSE * low:
        rate = math.sqrt(low * high)
        if keeps(rate):
            low = rate
        else:
            high = rate
    for _ in range(repeats):
        for factor in _AROUND:
            keeps(min(most, factor * crossing(runs, allowed)))
    return judged(runs, allowed)


def judged(runs: Sequence[Observation], allowed: float) -> Found:
    """What runs come to, of which some kept the promise and some did not: the limit that was fitted, its interval."""
    found, low, high = fitted(runs, allowed)
    # What single runs disagree on is not known either, however well the others agree, nor where it breaks between two.
    first = min(run.rate for run in runs if run.over > allowed * run.answers)
    last = max(run.rate for run in runs if run.over <= allowed * run.answers)
    kept = max((run.rate for run in runs if run.rate < first), default=low)
    broken = min((run.rate for run in runs if run.rate > last), default=high)
    return Found(found, min(low, kept, found), max(high, broken, found))


class Staircase:
    """The rate that keeps a promise from few short runs, and closer with each further one.

    The first rate is a guess. A run that keeps the promise is followed by one at a higher rate; one that the server
    could not follow by one just below what it answered. Once both were seen, the rates between are halved, and then the
    runs are around the place where the late answers of all of them cross what is allowed. So no run decides alone, and
    runs of before are used again.

    Args:
        allowed: the share of answers that may be late.
        start: the first rate.
        most: no rate above is tried.
    """

    def __init__(self, allowed: float, start: float, most: float) -> None:
        self._allowed = allowed
        self._most = most
        self._next = min(start, most)
        self._least = self._next / _HOPELESS
        self.runs: list[Observation] = []

    @property
    def rate(self) -> float:
        """For the next run, clips/s."""
        return self._next

    def add(self, run: Observation, answered: float) -> None:
        """Take a run in, and what was answered in it in clips/s: that is less than its rate where clips piled up."""
        self.runs.append(run)
        kept, over = self._kept(), self._over()
        if self._is_wide:
            self._next = self.place
        elif kept and over:
            self._next = min(self._most, _AROUND[len(self.runs) % len(_AROUND)] * self.place)
        elif kept:
            self._next = min(self._most, _UP * max(kept))
        else:
            below = min(_BELOW * answered, min(over)) if answered < _FOLLOWED * run.rate else min(over) / _DOWN
            self._next = max(self._least, below)

    @property
    def is_open(self) -> bool:
        """Whether all runs have kept the promise, and a higher rate may be tried, or none has, and a lower one may."""
        kept, over = self._kept(), self._over()
        if kept:
            return not over and max(kept) < self._most
        return min(over, default=math.inf) > self._least

    @property
    def is_bracketed(self) -> bool:
        """Whether a run has kept the promise and one has not."""
        return bool(self._kept() and self._over())

    @property
    def place(self) -> float:
        """The rate that the runs come to: the highest that was tried where all kept the promise, 0 where none did.

        Between a kept and a broken rate that are far apart it is the middle: a run of few clips that has no late one
        says hardly more of its share than that it is small.
        """
        kept, over = self._kept(), self._over()
        if self._is_wide:
            return math.sqrt(max(kept) * min(over))
        return crossing(self.runs, self._allowed) if kept and over else max(kept, default=0.0)

    @property
    def found(self) -> Found:
        """`place` with its interval: `at_least` where all runs kept the promise."""
        kept, over = self._kept(), self._over()
        if kept and over:
            found = judged(self.runs, self._allowed)
            return replace(found, rate=self.place, low=min(found.low, self.place), high=max(found.high, self.place))
        return Found(self.place, self.place, min(over, default=self.place), at_least=not over)

    @property
    def _is_wide(self) -> bool:
        kept, over = self._kept(), self._over()
        return bool(kept and over) and min(over) > _COARSE * max(kept)

    def _kept(self) -> list[float]:
        return [run.rate for run in self.runs if run.over <= self._allowed * run.answers]

    def _over(self) -> list[float]:
        return [run.rate for run in self.runs if run.over > self._allowed * run.answers]


def crossing(runs: Sequence[Observation], allowed: float) -> float:
    """The rate at which the share of late answers passes what is allowed; the nearest measured if none or all do."""
    blocks = _increasing(runs)
    below = [block for block in blocks if block[1] <= allowed]
    above = [block for block in blocks if block[1] > allowed]
    if not above:
        return below[-1][0]
    if not below:
        return above[0][0]
    (kept, share, answers), (broken, larger, _) = below[-1], above[0]
    # Half an answer stands for none, whose logarithm is not finite.
    share = min(max(share, 0.5 / answers), allowed)
    place = math.log(allowed / share) / math.log(larger / share)
    return kept + place * (broken - kept)


def fitted(runs: Sequence[Observation], allowed: float) -> tuple[float, float, float]:
    """The rate at which the share of late answers is the one that is allowed, and the ends of its 95 % interval."""
    centre = crossing(runs, allowed)
    near = [run for run in runs if abs(math.log(run.rate / centre)) <= NEAR]
    for side in (False, True):  # it may lie between runs that are far apart: the nearest of each kind at the least
        kind = [run for run in runs if (run.over > allowed * run.answers) is side]
        if kind and not any(run in near for run in kind):
            near.append(min(kind, key=lambda run: abs(math.log(run.rate / centre))))
    rates = np.log([run.rate / centre for run in near])
    over, answers = np.array([(run.over, run.answers) for run in near], dtype=np.float64).T
    shares = allowed * np.exp(_SLOPES[None, :, None] * (rates - _PLACES[:, None, None]))
    expected = np.minimum(shares, _MOST_SHARE) * answers  # [places, slopes, runs]
    terms = over * np.log(np.maximum(over, 0.5) / expected) - (over - expected)
    deviances = 2 * terms.sum(axis=2)
    profile = deviances.min(axis=1)
    best = int(profile.argmin())
    slope = int(deviances[best].argmin())
    free = max(1, len(near) - 2)
    pearson = ((over - expected[best, slope]) ** 2 / expected[best, slope]).sum()
    spread = max(1.0, float(pearson) / free, float(profile[best]) / free)
    allows = profile - profile[best] <= _CLUSTERED * spread * f_distribution.ppf(_CONFIDENCE, 1, free)
    limits = centre * np.exp(_PLACES[allows])
    return centre * math.exp(_PLACES[best]), float(limits.min()), float(limits.max())


def _increasing(runs: Sequence[Observation]) -> list[tuple[float, float, int]]:
    """Isotonic regression: (mean rate, share of late answers, answers) of blocks, in which the share grows."""
    at_rate: dict[float, tuple[int, int]] = {}
    for run in runs:
        over, answers = at_rate.get(run.rate, (0, 0))
        at_rate[run.rate] = (over + run.over, answers + run.answers)
    sums: list[tuple[float, int, int]] = []
    for rate, (over, answers) in sorted(at_rate.items()):
        block = (rate * answers, over, answers)
        while sums and sums[-1][1] * block[2] > block[1] * sums[-1][2]:
            before = sums.pop()
            block = (before[0] + block[0], before[1] + block[1], before[2] + block[2])
        sums.append(block)
    return [(rates / answers, over / answers, answers) for rates, over, answers in sums]
