"""What a Ray worker does: read clips, decode them, and keep a bounded number of single-clip requests in flight."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from arch_harness.measuring.chunk import Chunk
from arch_harness.results.measurement import Transport
from arch_harness.streaming.balancer import Balancer
from arch_harness.streaming.clip_counter import ClipCounter
from arch_harness.streaming.cluster.files import Files, FilesSeen, look_at, unpacked
from arch_harness.streaming.cluster.nodes import Place, place_of_this_process
from arch_harness.streaming.cluster.reach import unreached
from arch_harness.streaming.loads.pacer import Pace, Pacer
from arch_harness.streaming.sender import Sender
from arch_harness.streaming.shared_memory import SharedMemory

if TYPE_CHECKING:
    from arch_harness.streaming.wire import Job
    from arch_harness.triton.endpoint import Endpoint


@dataclass(frozen=True)
class WorkerStatus:
    """How a worker stands; all of it counts from its start.

    Attributes:
        done: clips answered or given up.
        last_done: when the last of them was, by the worker's own clock in seconds; before the first, its start.
        now: when this was told, by the same clock.
        faults: counts by name of the field of `Faults`.
        answered: requests answered without an error, by server.
        dropped: times that a server was taken for dead, by server.
        reads_shared_memory: whether it sends through shared memory, by server.
        waited_s: seconds for which every server has been dead; 0 while one is alive.
        dead: servers that are taken for dead now.
    """

    done: int
    last_done: float
    now: float = 0.0
    faults: dict[str, int] = field(default_factory=dict)
    answered: list[int] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    reads_shared_memory: list[bool] = field(default_factory=list)
    waited_s: float = 0.0
    dead: int = 0


@dataclass(frozen=True)
class Orders:
    """What a worker is to do from now on.

    Attributes:
        budget: requests that may be under way, over all chunks and servers.
        window: number of the window in which clips count.
        pace: sends clips at a rate; None as soon as there is a place.
        enough: whether clips that are not sent are to be dropped, in the chunks that it has and those to come.
    """

    budget: int
    window: int = 0
    pace: Pace | None = None
    enough: bool = False


class Worker:
    """Embeds chunks of clips; runs as a Ray actor with several threads, a chunk in each.

    While the last clips of one chunk are in flight, the next is decoded; and decoding, resampling and gRPC all work
    without the interpreter's lock.

    Args:
        endpoints: the servers to share the clips between.
        budget: requests under way at any time, over all chunks and servers.
        transport: `shared-memory` gives servers on this machine the audio through it, where they can open it.
    """

    def __init__(self, endpoints: Sequence[Endpoint], budget: int, transport: Transport = "grpc") -> None:
        self._endpoints = list(endpoints)
        self._balancer = Balancer(endpoints, lambda connection: self._shared_memory.revive(connection))
        self._shared_memory = SharedMemory(self._balancer.connections, transport == "shared-memory")
        self._balancer.allow(budget)
        self._counter = ClipCounter()
        self._pacer = Pacer()
        self._stopped = threading.Event()
        self._enough = threading.Event()

    def place(self) -> Place:
        """Where it runs; answers once its process has started and imported what it needs."""
        return place_of_this_process()

    def look(self, folder: Path, paths: Sequence[str]) -> FilesSeen:
        """What there is of a dataset's files for this worker, which may run on another machine."""
        return look_at(folder, paths)

    def unreached(self) -> list[str]:
        """The addresses of servers to which no connection can be made from here."""
        return unreached(self._endpoints)

    def embed(self, job: Job, clips: Sequence[tuple[int, str]], files: Files | None = None) -> Chunk:
        """Embed clips given as (index, path below the job's folder); returns when the last is answered or given up.

        What `stop` cuts short, or the loss of all servers, is what was done until then. Where the folder is not here,
        `files` are what is in it.
        """
        self._balancer.ask_for(job.model)
        if files is None:
            return self._sender(job).run(clips)
        with unpacked(clips, files) as (folder, copies):
            chunk = self._sender(replace(job, folder=folder)).run(copies)
        for index, path in clips:
            reason = files[path]
            if isinstance(reason, str):
                chunk.failures.append((index, "decode", reason))
                self._counter.done()
        return chunk

    def _sender(self, job: Job) -> Sender:
        parts = (self._balancer, self._shared_memory, self._counter, self._pacer, self._stopped, self._enough)
        return Sender(job, *parts)

    def status(self, orders: Orders) -> WorkerStatus:
        """Take orders, and tell how the work stood at that moment."""
        done, last_done, faults = self._counter.read(orders.window)
        self._pacer.set(orders.pace)
        self._balancer.allow(orders.budget)
        if orders.enough:
            self._enough.set()
        else:
            self._enough.clear()
        connections = self._balancer.connections
        return WorkerStatus(
            done,
            last_done,
            time.monotonic(),
            faults,
            [connection.answered for connection in connections],
            [connection.dropped for connection in connections],
            [connection.reads_shared_memory for connection in connections],
            self._balancer.waited_s(),
            sum(not connection.alive for connection in connections),
        )

    def stop(self) -> None:
        """Have every chunk return what it has, soon."""
        self._stopped.set()

    def close(self) -> None:
        """Leave nothing behind, here or in the servers."""
        self._stopped.set()
        self._shared_memory.close()
        self._balancer.close()
