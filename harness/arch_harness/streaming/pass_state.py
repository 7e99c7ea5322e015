"""How far the clips of one model and dataset are on their way through the workers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from arch_harness.measuring.collector import MeasurementCollector
from arch_harness.measuring.windows import Load, Progress, Window
from arch_harness.streaming.actors import WorkerHandle
from arch_harness.streaming.loads.concurrency import ConcurrencySearch
from arch_harness.streaming.loads.phases import Plan, Seen
from arch_harness.streaming.wire import Job
from arch_harness.triton.statistics import Statistics

# A worker dies by a clip (a decoder that crashes), or by chance. A chunk is sent whole once more, then in halves, each
# to a worker that has nothing else.
WHOLE_AGAIN = 1
"""Deaths of workers by a chunk after which it is sent in halves."""

_MOST_DEATHS = 3


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
    """The state of one pass.

    Attributes:
        job: what is the same for all clips.
        plan: of the loads.
        level: requests in flight at full speed, once that is known; at first those to begin with.
        search: finds it; None where it is known.
        clips: of the pass; None where they never run out.
        coming: those that no worker has.
        load: what the workers put on the servers now.
        windows: the parts of the pass; the last one is open.
        exhausted: whether no clip is coming any more.
        over: whether the plan is, and with it a pass whose clips never run out.
        drops: times that workers took a server for dead.
        down: servers that are dead now, for each worker that finds so.
        clips_by_node: that are done, by the id of the node whose workers did them.
        lost_by_node: workers that died, likewise.
    """

    job: Job
    plan: Plan
    level: int
    search: ConcurrencySearch | None
    clips: int | None
    coming: Iterator[tuple[int, str]]
    collector: MeasurementCollector = field(default_factory=MeasurementCollector)
    waiting: list[PendingChunk] = field(default_factory=list)
    running: dict[Any, tuple[WorkerHandle, PendingChunk]] = field(default_factory=dict)
    retired: list[WorkerHandle] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    started: float = 0.0
    exhausted: bool = False
    over: bool = False
    drops: int = 0
    down: int = 0
    deaths_in_vain: int = 0
    clips_by_node: Counter[str] = field(default_factory=Counter)
    lost_by_node: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        """Take the first load of the plan."""
        self.load: Load = next(self.plan)

    @property
    def window(self) -> int:
        """Number of the window that is open, or about to be."""
        return len(self.windows) - 1

    def open(self, progress: list[Progress], counted: list[Statistics | None]) -> None:
        """Close the window that is open, and begin one with the load that now is.

        Args:
            progress: of the workers, at the moment from which they count in the new one.
            counted: each server's counters.
        """
        now = time.perf_counter() - self.started
        self.close(progress, counted, now)
        self.windows.append(Window(len(self.windows), self.load, now, progress, counted))

    def close(self, progress: list[Progress], counted: list[Statistics | None], now: float) -> None:
        """Close the last window, `now` being the seconds since the pass began."""
        if self.windows and self.windows[-1].after is None:
            last = self.windows[-1]
            last.end, last.counted_after = now, counted
            last.after = progress

    def advance(self, progress: Sequence[Progress], starving: bool) -> bool:
        """Ask the plan for the load; whether it is another, with which a new window is to begin."""
        if self.over:
            return False
        last = self.windows[-1]
        seconds = time.perf_counter() - self.started - last.start
        left = None if self.clips is None else self.clips - self.collector.clips
        try:
            load = self.plan.send(Seen(last.before, progress, seconds, left, starving))
        except StopIteration:
            self.over = True
            if self.clips is None:
                return False
            last.cut_short = starving
            load = Load("rest", self.level)
        if self.search is not None:
            self.level = self.search.level
        changed = load is not self.load
        self.load = load
        return changed

    def take_back(self, handle: WorkerHandle, with_node: bool) -> None:
        """Have the clips of a worker that died done again; one that workers die of again and again has failed.

        Where its whole node was lost, no clip is to blame.
        """
        for reference, (owner, pending) in list(self.running.items()):
            if owner is not handle:
                continue
            del self.running[reference]
            if with_node:
                self.waiting.append(pending)
            elif len(pending.clips) == 1 and pending.deaths >= _MOST_DEATHS:
                self.collector.fail(pending.clips[0][0], "decode", "workers die while they read or send it")
            elif pending.deaths >= WHOLE_AGAIN and len(pending.clips) > 1:
                half = len(pending.clips) // 2
                halves = (pending.clips[:half], pending.clips[half:])
                self.waiting += [PendingChunk(part, pending.deaths + 1) for part in halves]
            else:
                self.waiting.append(PendingChunk(pending.clips, pending.deaths + 1))

    def disturb(self, servers: bool = False) -> None:
        """A worker or a server was lost, or one came: what is measured now says nothing.

        Args:
            servers: whether it was a server, so that what was found of their throughput says nothing either.
        """
        self.windows[-1].disturbed = True
        if self.search is not None and servers:
            self.search.restart()
        elif self.search is not None:
            self.search.restart_window()
