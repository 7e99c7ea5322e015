"""Waiting for something to happen, instead of for some time to pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from subprocess import Popen
from typing import Any

DEADLINE_S = 120.0


def until(
    met: Callable[[], object],
    running: Popen[Any] | None = None,
    *,
    deadline_s: float = DEADLINE_S,
    pause_s: float = 0.01,
) -> None:
    """Return as soon as `met` holds.

    Args:
        met: asked again and again.
        running: a process that must live until then.
        deadline_s: how long to wait at most, in seconds.
        pause_s: between two questions, in seconds.

    Raises:
        AssertionError: it did not happen in time, or the process ended before.
    """
    deadline = time.monotonic() + deadline_s
    while not met():
        if running is not None and running.poll() is not None:
            said = running.communicate()[1]
            raise AssertionError(f"it ended too early with exit code {running.returncode}: {said}")
        assert time.monotonic() < deadline, f"it did not happen within {deadline_s:g} s"
        time.sleep(pause_s)
