"""What happened to a worker's clips, over all its chunks."""

from __future__ import annotations

import threading
import time

from arch_harness.results.measurement import Faults


class ClipCounter:
    """Counts clips and faults; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(Faults.model_fields, 0)
        self._done = 0
        self._last_done = time.monotonic()  # nothing before counts
        self._window = 0
        self.slowest_s: float | None = None
        """The longest that a request took which was answered; None before the first."""

    @property
    def window(self) -> int:
        """Number of the window that now is."""
        return self._window

    def count(self, fault: str) -> None:
        """Count one fault, named as in `Faults`."""
        with self._lock:
            self._counts[fault] += 1

    def done(self) -> int:
        """Count a clip that is answered or given up; gives the number of the window that it counts in."""
        with self._lock:
            self._done += 1
            self._last_done = time.monotonic()
            return self._window

    def took(self, seconds: float) -> None:
        """Note how long an answer took."""
        with self._lock:
            self.slowest_s = max(self.slowest_s or 0.0, seconds)

    def read(self, window: int) -> tuple[int, float, dict[str, int]]:
        """Clips done, when the last one was, and the faults; from here on clips count in `window`.

        Before the first, it is when the counting began.
        """
        with self._lock:
            self._window = window
            return self._done, self._last_done, dict(self._counts)
