"""How far the clips of one model and dataset are on their way through the workers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from arch_harness.measuring.collector import MeasurementCollector
from arch_harness.streaming.actors import WorkerHandle
from arch_harness.streaming.concurrency import ConcurrencySearch
from arch_harness.streaming.wire import Job

# A worker dies by a clip (a decoder that crashes), or by chance. A chunk is sent whole once more, then in halves, each
# to a worker that has nothing else.
WHOLE_AGAIN = 1
"""Deaths of workers by a chunk after which it is sent in halves."""


@dataclass(frozen=True)
class PendingChunk:
    """Clips that one call of a worker embeds, and how many workers died of calls with them."""

    clips: list[tuple[int, str]]
    deaths: int = 0

    @property
    def suspect(self) -> bool:
        """Whether a worker is to have it alone, so that no other clips are blamed for what they do."""
        return self.deaths > WHOLE_AGAIN


@dataclass
class PassState:
    """The state of one call of `embed`."""

    job: Job
    collector: MeasurementCollector
    coming: Iterator[tuple[int, str]]
    search: ConcurrencySearch | None
    level: int
    waiting: list[PendingChunk] = field(default_factory=list)
    running: dict[Any, tuple[WorkerHandle, PendingChunk]] = field(default_factory=dict)
    retired: list[WorkerHandle] = field(default_factory=list)
    level_seconds: float = 0.0
    level_since: float = 0.0
    drops: int = 0
    workers_lost: int = 0
    deaths_in_vain: int = 0
