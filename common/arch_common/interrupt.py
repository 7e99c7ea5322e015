"""Ctrl-C, a service manager's stop signal and a closed terminal: each ends a run cleanly, and none gets lost.

A signal becomes a KeyboardInterrupt wherever the main thread happens to be. Inside a library that may be a place whose
errors nobody looks at, or that makes another error of it; so the steps of a run ask `check`, and commands run in
`honoured`.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import NoReturn

INTERRUPTED = 130
"""The exit code."""

_received: set[int] = set()


def catch() -> None:
    """Raise KeyboardInterrupt in the main thread on SIGINT, SIGTERM and SIGHUP, from now on, and remember it.

    SIGHUP stays ignored where it is, as under `nohup`.
    """
    _handle(_interrupt)


def end_at_once() -> None:
    """End the process on one of these, until `catch` is called: for the time in which nothing but imports goes on.

    A KeyboardInterrupt in the middle of an import would be a traceback, or another error of the module.
    """
    _handle(_end)


def _handle(handler: Callable[[int, object], NoReturn]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _end(_: int, __: object) -> NoReturn:
    with contextlib.suppress(OSError):  # the terminal may be gone
        os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)


def _interrupt(number: int, _frame: object) -> NoReturn:
    _received.add(number)
    raise KeyboardInterrupt


def check() -> None:
    """Raise the KeyboardInterrupt that a library has swallowed.

    Raises:
        KeyboardInterrupt: if a signal came, whatever became of it.
    """
    if _received:
        raise KeyboardInterrupt


@contextlib.contextmanager
def honoured() -> Iterator[None]:
    """Make a KeyboardInterrupt again of what a library made of one.

    Raises:
        KeyboardInterrupt: if the block fails after a signal.
    """
    try:
        yield
    except Exception as error:
        if _received:
            raise KeyboardInterrupt from error
        raise
