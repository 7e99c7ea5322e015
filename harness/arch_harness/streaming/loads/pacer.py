"""When a worker's clips are due, where they are sent at a rate whatever is answered (an open loop)."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """A rate in clips/s, and the seed of the moments."""

    rate: float
    seed: int


@dataclass(frozen=True)
class Due:
    """A moment at which a clip is to be sent, by `time.perf_counter`, of the pace that then was."""

    moment: float
    pace: Pace


class Pacer:
    """Gives the moments of a Poisson process; safe to use from several threads.

    Independent senders, each with a share of the rate, make one Poisson process of the whole rate together. A moment
    that has passed is still given: whoever is late sends at once, and the wait counts.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pace: Pace | None = None
        self._random = random.Random(0)  # noqa: S311
        self._next = 0.0

    def set(self, pace: Pace | None) -> None:
        """Begin a pace, go on with the one that is, or stop it: None lets clips go as soon as there is a place."""
        with self._lock:
            if pace == self._pace:
                return
            self._pace = pace
            if pace is not None:
                self._random = random.Random(pace.seed)  # noqa: S311
                self._next = time.perf_counter()

    @property
    def pace(self) -> Pace | None:
        """What is set."""
        return self._pace

    def take(self) -> Due | None:
        """The next moment, each given once; None where no pace is set."""
        with self._lock:
            if self._pace is None or self._pace.rate <= 0:
                return None
            self._next += self._random.expovariate(self._pace.rate)
            return Due(self._next, self._pace)
