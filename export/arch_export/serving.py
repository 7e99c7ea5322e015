"""How a model is to be served where that is not left to the target: batch, instances, queue, threads, convolutions."""

from __future__ import annotations

import re
from dataclasses import dataclass

from arch_common import conv_search as searches
from arch_common.errors import ExportUsageError

LONGEST_QUEUE = 1_000_000
_LARGEST_BATCH = 1024
_MOST_INSTANCES = 256
_MOST_THREADS = 1024
_LONGEST_DELAY_US = 10_000_000
_MICROSECONDS = {"us": 1, "µs": 1, "ms": 1_000, "s": 1_000_000}


@dataclass(frozen=True)
class ServingOptions:
    """What is asked of `config.pbtxt`; None everywhere is what the target asks for.

    Attributes:
        max_batch: clips of a batch, at most.
        instances: that execute side by side, on each GPU or on the CPU.
        queue_delay_us: that a request may wait for others to share its batch, in µs; 0 waits for none.
        threads: of one operator, in each instance.
        max_queue_size: requests that may wait; beyond, Triton answers UNAVAILABLE at once. None is no bound.
        conv_search: on a GPU, how cuDNN's algorithms are chosen: a key of `arch_common.conv_search.NUMBERS`.

    Raises:
        ExportUsageError: if one is out of its bounds.
    """

    max_batch: int | None = None
    instances: int | None = None
    queue_delay_us: int | None = None
    threads: int | None = None
    max_queue_size: int | None = None
    conv_search: str | None = None

    def __post_init__(self) -> None:
        for option, value, most, what in (
            ("--max-batch", self.max_batch, _LARGEST_BATCH, "clips may share a batch"),
            ("--instances", self.instances, _MOST_INSTANCES, "instances may execute side by side"),
            ("--threads", self.threads, _MOST_THREADS, "threads may work on an operator"),
            ("--max-queue-size", self.max_queue_size, LONGEST_QUEUE, "requests may be allowed to wait"),
        ):
            if value is not None and not 1 <= value <= most:
                raise ExportUsageError(f"{option} {value}: from 1 to {most:,} {what}")
        if self.queue_delay_us is not None and not 0 <= self.queue_delay_us <= _LONGEST_DELAY_US:
            raise ExportUsageError(f"--queue-delay {self.queue_delay_us}us: a request may wait 0 to 10 s for others")
        if self.conv_search is not None and self.conv_search not in searches.NUMBERS:
            raise ExportUsageError(f"--conv-search {self.conv_search!r} is none of {', '.join(searches.NUMBERS)}")


def parse_delay(text: str) -> int:
    """Microseconds in `2ms`, `500us` or `0`.

    Raises:
        ExportUsageError: if it is no time in whole µs.
    """
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?) ?(us|µs|ms|s)?", text.strip())
    if found is not None and (found[2] or float(found[1]) == 0):
        microseconds = float(found[1]) * _MICROSECONDS[found[2] or "us"]
        if abs(microseconds - round(microseconds)) < 1e-6:
            return round(microseconds)
    raise ExportUsageError(
        f"--queue-delay {text!r} is no time: wants 0 or a number with its unit, such as 2ms or 500us"
    )
