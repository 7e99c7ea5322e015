"""What load a pass puts on the servers, one after the other: alone, ramp, measured, paced.

A plan is a generator: it yields the load that is wanted, is sent how the work stands, and yields the next. The same
object again means: go on. A new one begins a window.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Literal

from arch_harness.measuring.windows import STEADY_WINDOWS, Load, Progress, done_between, rate_between, steady_from
from arch_harness.streaming.loads.concurrency import ConcurrencySearch

PACED_SHARE = 0.7
"""Of the highest rate: a load that a server can be planned for, with queues that are short."""

_FIRST_CLIPS = 3  # an execution provider makes its plans and takes its memory by the first ones
_ALONE_CLIPS, _ALONE_S, _ALONE_SHARE = 300, 10.0, 0.1
_WINDOW_S, _WINDOW_CLIPS, _WINDOW_ROUNDS = 2.0, 32, 2
_WINDOW_SHARE = 0.05  # of the time measured so far: a long pass does not want a window every other second
_SEARCHED_LEFT = 2 / 3  # of the clips of a pass: with fewer, the search ends by what is known
_SETTLE_S = 1.0
_PACED_S, _PACED_CLIPS, _PACED_SHARE = 10.0, 100, 0.2
_PACED_MOST_S = 30.0
_REPEAT_S, _REPEAT_MOST_S = 10.0, 30.0

Plan = Generator[Load, "Seen", None]


@dataclass(frozen=True)
class Seen:
    """How a window stands.

    Attributes:
        before: how far the workers were when it began.
        now: how far they are.
        seconds: since it began.
        left: clips that are not done; None where there are always more.
        starving: whether a worker may have nothing to send soon.
    """

    before: Sequence[Progress]
    now: Sequence[Progress]
    seconds: float
    left: int | None
    starving: bool

    @property
    def done(self) -> int:
        """Clips of the window."""
        return done_between(self.before, self.now)

    @property
    def rate(self) -> float:
        """Clips/s of the window."""
        return rate_between(self.before, self.now)


def embedding_plan(
    clips: int, level: int, search: ConcurrencySearch | None, most: int, taken_up: Callable[[int], int]
) -> Plan:
    """For a pass that embeds a dataset, each clip once; phases for which there are too few clips are left out.

    Args:
        clips: of the pass.
        level: requests in flight, at which the search begins or that are known.
        search: finds how many; None where that is known.
        most: requests that may be in flight where clips are sent at a rate.
        taken_up: clips that the workers may hold beyond those in flight, of which it is given the number.
    """
    yield from _alone(min(_ALONE_CLIPS, int(_ALONE_SHARE * clips)))
    if search is not None:
        seen = yield from _ramp(level, search, clips)
        if seen.starving:
            return
        level = search.level
    # What the search had in flight before waited longer than what is in flight now.
    yield from _until(Load("warm", level), clips=level if search is None else max(level, search.in_flight))
    rates: list[float] = []
    seconds = 0.0
    while True:
        seen = yield from _window(level, seconds)
        if seen.starving:
            return
        rates.append(seen.rate)
        seconds += seen.seconds
        paced = min(max(_PACED_CLIPS, PACED_SHARE * seen.rate * (_SETTLE_S + _PACED_S)), _PACED_SHARE * clips)
        if len(rates) >= STEADY_WINDOWS and (seen.left or 0) <= paced + level + taken_up(level) + seen.done:
            break
    yield from _paced(PACED_SHARE * settled_rate(rates), level, most)
    yield Load("rest", level)


def unmeasured_plan(clips: int, level: int, search: ConcurrencySearch | None) -> Plan:
    """For a pass of which the embeddings alone are wanted; see `embedding_plan`."""
    if search is not None:
        seen = yield from _ramp(level, search, clips)
        if seen.starving:
            return
        level = search.level
    yield Load("rest", level)


def repeat_plan(level: int, paced_rate: float | Literal["own"] | None, most: int) -> Plan:
    """For one more measurement of the speed at loads that are known; clips never run out.

    Args:
        level: requests in flight of the saturated server.
        paced_rate: clips/s at which they are sent; `own` is 70 % of what is found here, None leaves that out.
        most: as for `embedding_plan`.
    """
    yield from _alone(_ALONE_CLIPS)
    yield from _until(Load("warm", level), clips=level)
    rates: list[float] = []
    seconds = 0.0
    while seconds < _REPEAT_S or (steady_from(rates) is None and seconds < _REPEAT_MOST_S):
        seen = yield from _window(level, seconds)
        rates.append(seen.rate)
        seconds += seen.seconds
    if paced_rate is not None:
        yield from _paced(PACED_SHARE * settled_rate(rates) if paced_rate == "own" else paced_rate, level, most)


def rate_plan(rate: float, most: int) -> Plan:
    """For the latency at one rate in clips/s; clips never run out."""
    yield from _until(Load("warm", 1), clips=_FIRST_CLIPS)
    yield from _paced(rate, 1, most)


def settled_rate(rates: Sequence[float]) -> float:
    """The clips/s that windows show, from the first of three that agree."""
    return statistics.fmean(rates[steady_from(rates) or 0 :])


def _until(
    load: Load, *, clips: float = 0, seconds: float = 0.0, most_s: float = math.inf
) -> Generator[Load, Seen, Seen]:
    """One window until so many clips and seconds have passed, or the most seconds, or clips run out."""
    while True:
        seen = yield load
        enough = seen.done >= clips and seen.seconds >= seconds
        if enough or seen.seconds >= most_s or seen.starving:
            return seen


def _ramp(level: int, search: ConcurrencySearch, clips: int) -> Generator[Load, Seen, Seen]:
    """Raise the requests in flight until the search has settled, or clips run out.

    Most clips are left to be measured, unless the throughput still grows: at a level that is too low there is nothing
    to be measured.
    """
    load = Load("ramp", level)
    while True:
        seen = yield load
        if seen.starving:
            return seen
        level = search.observe(seen.now)
        few = seen.left is not None and seen.left < _SEARCHED_LEFT * clips
        if few and not search.settled and (search.comparing or not search.rising):
            search.settle()
        if search.settled:
            return seen
        if level != load.concurrency:
            load = Load("ramp", level)


def _alone(clips: int) -> Generator[Load, Seen, None]:
    if clips:
        yield from _until(Load("warm", 1), clips=_FIRST_CLIPS)
        yield from _until(Load("alone", 1), clips=clips, most_s=_ALONE_S)


def _window(level: int, measured_s: float) -> Generator[Load, Seen, Seen]:
    clips = max(_WINDOW_CLIPS, _WINDOW_ROUNDS * level)
    return (yield from _until(Load("measured", level), clips=clips, seconds=max(_WINDOW_S, _WINDOW_SHARE * measured_s)))


def _paced(rate: float, level: int, most: int) -> Generator[Load, Seen, None]:
    # What waited at full speed must be gone, which at this rate would take long, and as much under way as it brings.
    seen = yield from _until(Load("warm", 1), clips=level)
    if not seen.starving:
        seen = yield from _until(Load("warm", most, rate), seconds=_SETTLE_S)
    if not seen.starving:
        yield from _until(Load("paced", most, rate), clips=_PACED_CLIPS, seconds=_PACED_S, most_s=_PACED_MOST_S)
