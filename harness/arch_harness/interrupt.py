"""Ctrl-C and a service manager's stop signal: both end a run cleanly, and neither gets lost.

A signal becomes a KeyboardInterrupt wherever the main thread happens to be. Inside a library's compiled code that may
be a place whose errors nobody looks at, and the run would go on; so long loops ask `check` as well.
"""

from __future__ import annotations

import signal
from typing import NoReturn

INTERRUPTED = 130
"""The exit code."""

_received: set[int] = set()


def catch() -> None:
    """Raise KeyboardInterrupt in the main thread on SIGINT and SIGTERM, from now on, and remember it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)


def _interrupt(number: int, _frame: object) -> NoReturn:
    _received.add(number)
    raise KeyboardInterrupt


def received() -> bool:
    """Whether such a signal came, whatever became of its KeyboardInterrupt."""
    return bool(_received)


def check() -> None:
    """Raise the KeyboardInterrupt that a library has swallowed.

    Raises:
        KeyboardInterrupt: if `received`.
    """
    if _received:
        raise KeyboardInterrupt
