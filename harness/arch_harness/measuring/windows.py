"""The parts of a pass: what load the servers had in each, how far the workers were at its ends, and which count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arch_harness.results.measurement import PhaseName, Steadiness
    from arch_harness.triton.statistics import Statistics

STEADY_WINDOWS = 3
"""Windows in a row that must agree; perf_analyzer asks for as many."""
STEADY_WITHIN = 0.10
"""By how much the highest of their rates may exceed the lowest; perf_analyzer's default too."""


@dataclass(frozen=True)
class Progress:
    """What one worker had done, and when it did the last of it, by a clock of its own in seconds."""

    done: int
    last_done: float


def done_between(before: Sequence[Progress], after: Sequence[Progress]) -> int:
    """Clips that all workers did."""
    return sum(end.done - start.done for start, end in zip(before, after, strict=True))


def seconds_between(before: Sequence[Progress], after: Sequence[Progress]) -> float:
    """Seconds from answer to answer, of the worker with the most."""
    return max(end.last_done - start.last_done for start, end in zip(before, after, strict=True))


def rate_between(before: Sequence[Progress], after: Sequence[Progress]) -> float:
    """Clips/s of all workers, each measured from answer to answer.

    Not from look to look: answers come in batches, of which a span cut at any other moment would count too many or too
    few.
    """
    return sum(
        (end.done - start.done) / (end.last_done - start.last_done)
        for start, end in zip(before, after, strict=True)
        if end.last_done > start.last_done
    )


@dataclass(frozen=True, eq=False)
class Load:
    """What the workers are to put on the servers, and what for; each one is a window of its own.

    Attributes:
        phase: what it is for.
        concurrency: places in flight, over all workers and servers.
        rate: clips/s to send, whatever is answered; None sends as soon as a place is free.
    """

    phase: PhaseName
    concurrency: int
    rate: float | None = None


@dataclass
class Window:
    """A part of a pass, from one change of the load to the next.

    Attributes:
        number: that the workers' answers bear.
        load: of all of it.
        start: seconds since the pass began.
        before: how far the workers were.
        counted_before: each server's counters.
        end: as `start`.
        after: as `before`; None while it lasts.
        counted_after: as `counted_before`.
        disturbed: whether a worker or a server was lost in it, or came back.
        cut_short: whether the clips ran out in it.
    """

    number: int
    load: Load
    start: float
    before: list[Progress]
    counted_before: list[Statistics | None]
    end: float = 0.0
    after: list[Progress] | None = None
    counted_after: list[Statistics | None] | None = None
    disturbed: bool = False
    cut_short: bool = False

    @property
    def rate(self) -> float:
        """Clips/s, failed ones included."""
        return rate_between(self.before, self.after) if self.after is not None else 0.0

    @property
    def done(self) -> int:
        """Clips, failed ones included."""
        return done_between(self.before, self.after) if self.after is not None else 0

    @property
    def usable(self) -> bool:
        """Whether its rate says something."""
        return not self.disturbed and not self.cut_short and self.rate > 0


def steady_windows(windows: Sequence[Window]) -> tuple[list[Window], Steadiness]:
    """The windows that throughput is taken from, and whether it was steady.

    From the first of three in a row on that agree; all of the measured phase where there are none.
    """
    measured = [one for one in windows if one.load.phase == "measured" and one.usable]
    if len(measured) < STEADY_WINDOWS:
        return measured, "too short"
    first = steady_from([one.rate for one in measured])
    return (measured, "not steady") if first is None else (measured[first:], "steady")


def steady_from(rates: Sequence[float]) -> int | None:
    """The first of three rates in a row that are the same but for what counts as noise; None where none are."""
    for first in range(len(rates) - STEADY_WINDOWS + 1):
        row = rates[first : first + STEADY_WINDOWS]
        if max(row) <= (1 + STEADY_WITHIN) * min(row):
            return first
    return None
