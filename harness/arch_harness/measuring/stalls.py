"""Requests that waited out the half second for which Triton's batcher sleeps when nothing wakes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Triton's dynamic batcher waits for 500 ms at a time. Where it is not told of a request, the request waits for what is
# left of it: in a closed loop of one client nearly all of it, since the request comes just after the one before.
_LEAST_MS, _MOST_MS = 400.0, 600.0
_BEYOND_MS = 100.0
_LONGEST_MS = 250.0
"""Of an execution, and of the usual latency: from there on half a second more may be the work itself."""


def count_stalls(latencies_ms: NDArray[np.float64], execution_ms: float | None) -> int:
    """How many requests took half a second more than the usual one, where nothing the model does explains that.

    They make a second mode: at least two of them, and at least half of all that took 100 ms more than the median, lie
    400 to 600 ms above it. A busy machine spreads its delays.

    Args:
        latencies_ms: of the requests at one load.
        execution_ms: mean duration of an execution of the model; None, where it is not known, finds none.
    """
    if execution_ms is None or not len(latencies_ms):
        return 0
    usual = float(np.median(latencies_ms))
    if max(usual, execution_ms) > _LONGEST_MS:
        return 0
    over = latencies_ms - usual
    stalled = int(((over >= _LEAST_MS) & (over <= _MOST_MS)).sum())
    return stalled if stalled >= max(2, int((over >= _BEYOND_MS).sum()) / 2) else 0
