"""What a Ray worker does: read clips, decode them, and keep a bounded number of single-clip requests in flight."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from arch_harness.balancer import Balancer
from arch_harness.measurement import Faults
from arch_harness.regions import Regions
from arch_harness.sending import Chunk, Sender

if TYPE_CHECKING:
    from arch_harness.inference import Job
    from arch_harness.triton import Target


@dataclass(frozen=True)
class Place:
    """Where a worker runs."""

    pid: int
    host: str


@dataclass(frozen=True)
class Pulse:
    """How a worker stands; all of it counts from its start.

    Attributes:
        done: clips answered or given up.
        last_done: when the last of them was, by the worker's own clock.
        faults: counts by name of the field of `Faults`.
        answered: requests answered without an error, by server.
        dropped: times that a server was taken for dead, by server.
        reads_regions: whether it sends through shared memory, by server.
    """

    done: int
    last_done: float
    faults: dict[str, int] = field(default_factory=dict)
    answered: list[int] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    reads_regions: list[bool] = field(default_factory=list)


class Tally:
    """What happened to a worker's clips, over all its chunks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(Faults.model_fields, 0)
        self._done = 0
        self._last_done = 0.0
        self.slowest_s: float | None = None
        """The longest that a request took which was answered; None before the first."""

    def count(self, fault: str) -> None:
        """Count one fault, named as in `Faults`."""
        with self._lock:
            self._counts[fault] += 1

    def done(self) -> None:
        """Count a clip that is answered or given up."""
        with self._lock:
            self._done += 1
            self._last_done = time.monotonic()

    def took(self, seconds: float) -> None:
        """Note how long an answer took."""
        with self._lock:
            self.slowest_s = max(self.slowest_s or 0.0, seconds)

    def read(self) -> tuple[int, float, dict[str, int]]:
        """Clips done, when the last one was, and the faults."""
        with self._lock:
            return self._done, self._last_done, dict(self._counts)


class Worker:
    """Embeds chunks of clips; runs as a Ray actor with several threads, a chunk in each.

    While the last clips of one chunk are in flight, the next is decoded; and decoding, resampling and gRPC all work
    without the interpreter's lock.

    Args:
        targets: the servers to share the clips between.
        budget: requests under way at any time, over all chunks and servers.
        shared_memory: whether servers on this machine may be given the audio through it.
    """

    def __init__(self, targets: Sequence[Target], budget: int, shared_memory: bool = True) -> None:
        self._balancer = Balancer(targets, lambda lane: self._regions.revive(lane))
        self._regions = Regions(self._balancer.lanes, shared_memory)
        self._balancer.allow(budget)
        self._tally = Tally()
        self._stopped = threading.Event()

    def place(self) -> Place:
        """Where it runs; answers once its process has started and imported what it needs."""
        return Place(os.getpid(), socket.gethostname())

    def sees(self, folder: Path) -> bool:
        """Whether a folder is there for this worker too, which may run on another machine."""
        return folder.is_dir()

    def embed(self, job: Job, clips: Sequence[tuple[int, str]]) -> Chunk:
        """Embed clips given as (index, path below the job's folder); returns when the last is answered or given up.

        What `stop` cuts short, or the loss of all servers, is what was done until then.
        """
        self._balancer.ask_for(job.model)
        return Sender(job, self._balancer, self._regions, self._tally, self._stopped).run(clips)

    def pulse(self, budget: int) -> Pulse:
        """Set how many requests may be under way, and tell how the work goes."""
        self._balancer.allow(budget)
        done, last_done, faults = self._tally.read()
        lanes = self._balancer.lanes
        return Pulse(
            done,
            last_done,
            faults,
            [lane.answered for lane in lanes],
            [lane.dropped for lane in lanes],
            [lane.reads_regions for lane in lanes],
        )

    def stop(self) -> None:
        """Have every chunk return what it has, soon."""
        self._stopped.set()

    def close(self) -> None:
        """Leave nothing behind, here or in the servers."""
        self._stopped.set()
        self._regions.close()
        self._balancer.close()
