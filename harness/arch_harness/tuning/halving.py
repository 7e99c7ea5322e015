"""Successive halving: all configurations are measured shortly, and those that look best again, longer each time.

Jamieson and Talwalkar, Non-stochastic best arm identification and hyperparameter optimization, AISTATS 2016. It assumes
no model of how speed depends on the settings, which are few, partly without an order (precision), and act on one
another: more instances help only where threads leave them cores. What it needs is that a short measurement tells the
hopeless from the promising, and it forgives the noise of that, because a quarter stays each time. The runs of earlier
rungs count in later ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from arch_harness.load.search import Observation, Staircase
from arch_harness.tuning.results import TuneRun
from arch_harness.tuning.space import Configuration, Form


@dataclass(frozen=True)
class Rung:
    """How a configuration is measured once it is here.

    Attributes:
        runs: of LoadGen, each at a rate that those before suggest.
        length: of each, as a multiple of the shortest.
    """

    runs: int
    length: float


RUNGS = (Rung(3, 1), Rung(3, 2), Rung(5, 4))
"""Three short runs find where the limit is, three more how near, and five of four times the length the rate."""

KEEP = 4
"""One of so many goes on to the next rung."""

FULL = sum(one.runs * one.length for one in RUNGS)
"""What a configuration that is measured to the end takes, in shortest runs."""


@dataclass(frozen=True)
class Speed:
    """What the runs of a configuration come to.

    Attributes:
        rate: clips/s that keep the promise; 0 where no run kept it.
        low: end of the interval of the scatter between runs; the rate itself before the last rung.
        high: likewise.
        at_least: no run has broken it.
        runs: in their order.
        fault: why it could not be measured; empty where it was.
    """

    rate: float = 0.0
    low: float = 0.0
    high: float = 0.0
    at_least: bool = False
    runs: Sequence[TuneRun] = field(default_factory=tuple)
    fault: str = ""

    @property
    def rung(self) -> int:
        """The last one that has a run; -1 where there is none."""
        return max((run.rung for run in self.runs), default=-1)

    @property
    def seconds(self) -> float:
        """Of all runs."""
        return sum(run.seconds for run in self.runs)

    @property
    def memory_mib(self) -> float | None:
        """The peak that was told; None where none was."""
        return max((run.memory_mib for run in self.runs if run.memory_mib is not None), default=None)

    @property
    def nearest_ms(self) -> float | None:
        """The lowest of the promised percentile in any run."""
        return min((run.judged_ms for run in self.runs if run.judged_ms is not None), default=None)

    @property
    def late_ms(self) -> float | None:
        """How late the client was in the worst of the longest runs, which decide the rate (p99); None without a run."""
        return max((run.late_ms for run in self.runs if run.rung == self.rung), default=None)

    @property
    def rank(self) -> tuple[float, float]:
        """The better the higher: by the rate, and where no promise was kept by how near it came."""
        return self.rate, -(math.inf if self.nearest_ms is None else self.nearest_ms)


def staircase_of(runs: Iterable[TuneRun], allowed: float, start: float, most: float) -> Staircase:
    """A staircase that has taken runs in.

    Args:
        runs: in their order.
        allowed: the share of answers that may be late.
        start: the first rate, where there is no run.
        most: no rate above is tried.
    """
    given = list(runs)
    stairs = Staircase(allowed, given[0].rate if given else start, most)
    for run in given:
        stairs.add(Observation(run.rate, run.over, run.answers), run.answered)
    return stairs


def speed_of(runs: Sequence[TuneRun], allowed: float) -> Speed:
    """What runs come to, with an interval once they have reached the last rung."""
    if not runs:
        return Speed()
    stairs = staircase_of(runs, allowed, 1, math.inf)
    speed = Speed(stairs.place, stairs.place, stairs.place, not stairs.is_bracketed and stairs.place > 0, tuple(runs))
    if speed.rung < len(RUNGS) - 1:
        return speed
    found = stairs.found
    return replace(speed, low=found.low, high=found.high)


def next_rung(runs: Sequence[TuneRun], upto: int, is_open: bool) -> int | None:
    """The rung that the next run of a configuration is of; None where it has all up to a rung.

    As long as all runs have kept the promise or none has, where the limit is is not known: then a rung has up to twice
    as many.

    Args:
        runs: that it has.
        upto: the rung that it is to reach.
        is_open: whether the limit is still to be found.
    """
    for rung, one in enumerate(RUNGS[: upto + 1]):
        done = sum(run.rung == rung for run in runs)
        is_last = all(run.rung <= rung for run in runs)
        if done < (2 * one.runs if is_open and is_last else one.runs) and is_last:
            return rung
    return None


Measure = Callable[[Configuration, int], Speed]
"""What the runs of a configuration up to a rung come to: of those that are there already, and of the rest."""


def halve(
    configurations: Sequence[Configuration],
    measure: Measure,
    fits: Callable[[Speed], bool],
    score: Callable[[Form], float],
    seed: int = 0,
    on_rung: Callable[[int, int], None] = lambda _rung, _count: None,
) -> dict[Configuration, Speed]:
    """Search.

    Args:
        configurations: that are tried.
        measure: makes the measurements.
        fits: whether a configuration keeps what is asked beside the promise, by what was measured so far.
        score: of a form; the best of a form that scores more than all faster ones goes on too, for the front.
        seed: of the order, so that what changes with time does not hit neighbours.
        on_rung: told of each rung and how many are on it.

    Returns:
        What is known of each, to whatever rung it came; there is at least one that fits and keeps the promise at the
        last rung, if there is any at all.
    """
    order = [configurations[place] for place in np.random.default_rng(seed).permutation(len(configurations))]
    found: dict[Configuration, Speed] = {}
    here = order
    for rung in range(len(RUNGS)):
        on_rung(rung, len(here))
        for one in here:
            found[one] = measure(one, rung)
        if rung + 1 < len(RUNGS):
            here = _promising({one: found[one] for one in here}, fits, score)
    # All that came to the end may have failed there: by their memory, which grows, or by a promise hardly kept.
    rest = [one for one in order if one not in set(here) and is_usable(found[one], fits)]
    rest.sort(key=lambda one: (found[one].rung, found[one].rate), reverse=True)
    while rest and not any(is_usable(found[one], fits) for one in here):
        here = [*here, rest.pop(0)]
        found[here[-1]] = measure(here[-1], len(RUNGS) - 1)
    return found


def is_usable(speed: Speed, fits: Callable[[Speed], bool]) -> bool:
    """Whether a configuration may be chosen."""
    return not speed.fault and speed.rate > 0 and fits(speed)


def _promising(
    found: dict[Configuration, Speed], fits: Callable[[Speed], bool], score: Callable[[Form], float]
) -> list[Configuration]:
    """Those that go on: the fastest quarter, and of each form that scores more than all faster ones the fastest."""
    able = [one for one, speed in found.items() if is_usable(speed, fits)]
    ranked = sorted(able, key=lambda one: found[one].rank, reverse=True)
    kept = ranked[: math.ceil(len(found) / KEEP)]
    most = max((score(one.form) for one in kept), default=-math.inf)
    for one in ranked[len(kept) :]:
        if score(one.form) > most:
            most = score(one.form)
            kept.append(one)
    return kept
