"""The joules of one device over time, from a counter or from its power, read now and then."""

from __future__ import annotations

import math
from collections.abc import Sequence

_GAP_S = 60.0
"""Between two readings of a power, beyond which it says nothing of the time between them."""


class EnergyCurve:
    """Adds up readings of one device; times are seconds of any one clock.

    A counter may be refreshed more seldom than it is read, as Triton's every 2 s: it counts from one change to the
    next, for between them it says nothing.

    Args:
        sure_s: the longest time between two readings in which the counter cannot have come round unseen.

    Attributes:
        began_anew: whether the counter fell: what it counts of has been restarted.
    """

    def __init__(self, sure_s: float = math.inf) -> None:
        self.began_anew = False
        self._sure_s = sure_s
        self._parts: list[tuple[float, float, float]] = []  # start, end, joules
        self._looked: float | None = None
        self._joules: float | None = None
        self._changed: float | None = None
        self._just_changed = False

    @property
    def is_known(self) -> bool:
        """Whether anything was read of it."""
        return self._looked is not None

    def count(self, now: float, joules: float) -> None:
        """Take the value of a counter, in joules."""
        looked, before = self._looked, self._joules
        self._looked = now
        if looked is None or before is None or joules == before:
            self._just_changed = False
            self._joules = joules
            return
        self._joules = joules
        if joules < before:
            self.began_anew = True
            return
        start, moment = self._changed, (looked + now) / 2
        if self._just_changed:
            # It changes from reading to reading, so it is refreshed about as often as it is read, and each is of its
            # moment. Of another one it is not known when between two readings it changed.
            moment = now
            if not self._parts or self._parts[-1][1] != start:
                start = looked  # the first; any other begins where the one before ends, so that no time is left out
        if start is not None and now - looked <= self._sure_s:
            self._parts.append((start, moment, joules - before))
        self._changed, self._just_changed = moment, True

    def draw(self, now: float, watts: float) -> None:
        """Take the power at a moment, in watts, where there is no counter."""
        if self._looked is not None and now - self._looked <= _GAP_S:
            self._parts.append((self._looked, now, watts * (now - self._looked)))
        self._looked = now

    def over(self, spans: Sequence[tuple[float, float]]) -> tuple[float, float]:
        """Joules in spans of time (start, end), and how many seconds of these are known."""
        joules = known = 0.0
        for start, end, amount in self._parts:
            covered = sum(max(0.0, min(end, last) - max(start, first)) for first, last in spans)
            if covered:
                joules += amount * covered / (end - start)
                known += covered
        return joules, known
