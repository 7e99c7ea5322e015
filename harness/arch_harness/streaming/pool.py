"""Clips through served encoders: Ray workers read and send them, the driver hands on what comes back."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from arch_common import interrupt
from arch_common.errors import ArchError, UsageError

from arch_harness.measuring.chunk import Chunk
from arch_harness.measuring.collector import MeasurementCollector, statistics_of
from arch_harness.measuring.utilisation import UtilisationSampler
from arch_harness.results.measurement import THREADS_PER_WORKER, Faults, Measurement, Transport
from arch_harness.streaming.actors import Member, connect, hire
from arch_harness.streaming.buffers import buffer_bytes, remove_stale
from arch_harness.streaming.concurrency import ConcurrencySearch, Progress
from arch_harness.streaming.wire import Job
from arch_harness.triton.endpoint import Endpoint
from arch_harness.triton.server import Server
from arch_harness.triton.statistics import Statistics

_SMALLEST_CHUNK = 16

_START_PER_SERVER = 4
_BATCHES_IN_FLIGHT = 2  # that the search tries at least: one forms while another is computed
_MOST_PER_SERVER = 256
_MOST_IN_FLIGHT_BYTES = 512 * 1024**2

_TICK_S = 0.25
_STOP_S = 5.0
_COUNT_S = 1.0
# A worker dies by a clip (a decoder that crashes), or by chance. A chunk is sent whole once more, then in halves, each
# to a worker that has nothing else.
_WHOLE_AGAIN = 1
_MOST_DEATHS = 3
_DEATHS_IN_VAIN = 20

ProgressTold = Callable[[int, float], None]
"""Told the clips done (failed ones included) and the seconds of audio embedded so far."""


@dataclass(frozen=True)
class Streamed:
    """How a pass went; what it brought was handed on.

    Attributes:
        failures: (index, stage, reason) of the clips without an embedding, by index.
        measurement: speed, latency, faults, and where the time went.
    """

    failures: list[tuple[int, Literal["decode", "infer"], str]]
    measurement: Measurement


@dataclass(frozen=True)
class _Piece:
    """Clips that one call of a worker embeds, and how many workers died of calls with them."""

    clips: list[tuple[int, str]]
    deaths: int = 0

    @property
    def suspect(self) -> bool:
        """Whether a worker is to have it alone, so that no other clips are blamed for what they do."""
        return self.deaths > _WHOLE_AGAIN


@dataclass
class _PassState:
    """The state of one call of `embed`."""

    job: Job
    figures: MeasurementCollector
    coming: Iterator[tuple[int, str]]
    search: ConcurrencySearch | None
    level: int
    waiting: list[_Piece] = field(default_factory=list)
    running: dict[Any, tuple[Member, _Piece]] = field(default_factory=dict)
    retired: list[Member] = field(default_factory=list)
    level_seconds: float = 0.0
    level_since: float = 0.0
    drops: int = 0
    workers_lost: int = 0
    deaths_in_vain: int = 0


class WorkerPool:
    """Ray actors that send clips to servers; a context manager that ends them.

    Actors rather than Ray Data: a stage of Ray Data would hold whole blocks of decoded audio in the object store
    between reading and sending, and has no place for a bound on requests in flight that changes while it runs.

    Args:
        endpoints: the servers, which must have the same models.
        workers: how many processes read, decode and send.
        concurrency: single-clip requests in flight, over all workers and servers; None raises it until the throughput
            stops growing.
        ray_address: of a Ray cluster to work on; None starts Ray on this machine.
        transport: `shared-memory` gives servers on this machine the audio through it, where they can open it.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        workers: int,
        concurrency: int | None = None,
        ray_address: str | None = None,
        transport: Transport = "grpc",
    ) -> None:
        self.endpoints = list(endpoints)
        self.workers = workers if concurrency is None else min(workers, concurrency)
        self._concurrency = concurrency
        self._ray_address = ray_address
        self._transport = transport
        self._members: list[Member] = []
        self._servers = [Server(endpoint) for endpoint in self.endpoints]
        self._found: dict[tuple[str, int], int] = {}

    def __enter__(self) -> WorkerPool:
        import ray

        remove_stale()
        connect(self._ray_address, self.workers)
        try:
            self._members = [self._hire() for _ in range(self.workers)]
            for member in self._members:
                member.settle()
            self._check_places()
        except BaseException:
            ray.shutdown()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        import ray

        with contextlib.suppress(Exception):  # one that does not answer is killed all the same
            ray.get([member.actor.close.remote() for member in self._members], timeout=_STOP_S)
        for member in self._members:
            ray.kill(member.actor)
        ray.shutdown()
        remove_stale()

    def _hire(self) -> Member:
        return hire(self.endpoints, self._transport, THREADS_PER_WORKER, spread=self._ray_address is not None)

    def _check_places(self) -> None:
        elsewhere = [member.place.host for member in self._members if member.place.host != os.uname().nodename]
        local = [endpoint.address for endpoint in self.endpoints if endpoint.loopback]
        if elsewhere and local:
            raise UsageError(
                f"--server {local[0]} is this machine only by that name, and workers run on {elsewhere[0]} too: give "
                "the address by which they reach it"
            )

    def embed(
        self,
        job: Job,
        clips: Sequence[tuple[int, str]],
        on_chunk: Callable[[Chunk], None],
        on_progress: ProgressTold = lambda _clips, _seconds: None,
    ) -> Streamed:
        """Embed clips given as (index, path below the job's folder), as single-clip requests.

        Args:
            job: what is the same for all of them.
            clips: each once.
            on_chunk: given what came of a few clips as soon as it arrives, each clip in one chunk; its arrays may lie
                in memory that Ray shares, and should be copied if they are kept.
            on_progress: told how far it is.

        Raises:
            ArchError: if no server answers for long, or workers die again and again. What had arrived was handed on
                before; so it was where a KeyboardInterrupt ends the call.
        """
        if not all(self._sees(position, job.folder) for position in range(len(self._members))):
            raise ArchError(f"a worker on another machine does not see {job.folder}: put the data where all of them do")
        state = self._new_pass(job, clips)
        self._steer(state)
        for member in self._members:
            member.begin()
        before = statistics_of(self._servers, job.model)
        started = state.level_since = time.perf_counter()
        state.level_seconds = 0.0
        sampler = UtilisationSampler(
            pids=lambda: [os.getpid(), *(member.place.pid for member in self._members if member.local)],
            clips=lambda: sum(member.done for member in [*self._members, *state.retired]),
            metrics=[endpoint.metrics for endpoint in self.endpoints if endpoint.metrics],
            local=all(endpoint.loopback for endpoint in self.endpoints),
        )
        with sampler:
            with self._handing_over(state, on_chunk) as take:
                self._drive(state, take, on_progress)
            seconds = time.perf_counter() - started
        return self._streamed(state, before, seconds, sampler)

    def _sees(self, position: int, folder: Path) -> bool:
        """Whether a worker sees a folder; one that has died since the last pass is replaced."""
        import ray

        try:
            return bool(ray.get(self._members[position].actor.sees.remote(folder)))
        except ray.exceptions.RayError:
            self._members[position] = self._hire()
            self._members[position].settle()
            return bool(ray.get(self._members[position].actor.sees.remote(folder)))

    def _new_pass(self, job: Job, clips: Sequence[tuple[int, str]]) -> _PassState:
        search = None
        level = self._concurrency or self._found.get((job.model, job.samples))
        if level is None:
            servers = len(self.endpoints)
            most = min(_MOST_PER_SERVER * servers, _MOST_IN_FLIGHT_BYTES // buffer_bytes(job.samples))
            start = max(self.workers, _START_PER_SERVER * servers)
            search = ConcurrencySearch(start, _BATCHES_IN_FLIGHT * job.max_batch_size * servers, max(start, most))
            level = start
        return _PassState(job, MeasurementCollector(len(self.endpoints)), iter(clips), search, level)

    @contextlib.contextmanager
    def _handing_over(self, state: _PassState, on_chunk: Callable[[Chunk], None]) -> Iterator[Callable[[Chunk], None]]:
        """Give the function that hands a chunk on; where the block fails, what the workers have is handed on too."""
        broken = False

        def take(chunk: Chunk) -> None:
            nonlocal broken
            state.figures.add(chunk)
            try:
                on_chunk(chunk)
            except BaseException:
                broken = True
                raise

        try:
            yield take
        except BaseException:
            for chunk in self._rest(state):
                if not broken:
                    take(chunk)
            raise

    def _rest(self, state: _PassState) -> Iterator[Chunk]:
        """Stop the workers' calls, and give what they bring."""
        import ray

        for member in self._members:
            member.actor.stop.remote()
        arrived, _ = (
            ray.wait(list(state.running), num_returns=len(state.running), timeout=_STOP_S)
            if state.running
            else ([], [])
        )
        for reference in arrived:
            with contextlib.suppress(ray.exceptions.RayError):
                yield ray.get(reference)

    def _drive(self, state: _PassState, take: Callable[[Chunk], None], on_progress: ProgressTold) -> None:
        import ray

        looked = 0.0
        while self._dispatch(state):
            interrupt.check()
            arrived, _ = ray.wait(list(state.running), timeout=_TICK_S)
            for reference in arrived:
                member, _ = state.running[reference]
                try:
                    chunk = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    raise ArchError(f"a worker failed: {str(error).strip().splitlines()[-1]}") from error
                except ray.exceptions.RayError as error:  # it, its machine or what it brought is gone
                    self._replace(state, member, error)
                    break  # `running` is another now
                del state.running[reference]
                state.deaths_in_vain = 0
                take(chunk)
                on_progress(state.figures.clips, state.figures.audio_seconds)
                if chunk.lost:
                    raise ArchError(
                        f"gave up after {state.figures.clips} clips, which are kept: {chunk.lost}; the same command "
                        "goes on from here"
                    )
            if time.monotonic() - looked >= _TICK_S:
                self._steer(state)
                looked = time.monotonic()
        self._steer(state)

    def _dispatch(self, state: _PassState) -> bool:
        """Give each worker as many chunks as it can have at a time; whether any are under way."""
        size = max(_SMALLEST_CHUNK, -(-state.level // len(self._members)))
        busy = {id(member): 0 for member in self._members}
        for member, piece in state.running.values():
            busy[id(member)] += THREADS_PER_WORKER if piece.suspect else 1
        while True:
            member = min(self._members, key=lambda one: busy[id(one)])
            if busy[id(member)] >= THREADS_PER_WORKER:
                return True
            if state.waiting and state.waiting[-1].suspect and busy[id(member)]:
                return True  # until a worker has nothing else to do
            piece = state.waiting.pop() if state.waiting else _Piece(list(itertools.islice(state.coming, size)))
            if not piece.clips:
                return bool(state.running)
            state.running[member.actor.embed.remote(state.job, piece.clips)] = (member, piece)
            busy[id(member)] += THREADS_PER_WORKER if piece.suspect else 1

    def _replace(self, state: _PassState, member: Member, error: Exception) -> None:
        """Put a new worker in the place of one that died, and have its clips done again."""
        import ray

        ray.kill(member.actor)  # it may be only what it brought that was lost
        state.workers_lost += 1
        state.deaths_in_vain += 1
        if state.deaths_in_vain > _DEATHS_IN_VAIN:
            raise ArchError(f"workers die again and again: {str(error).strip().splitlines()[-1]}") from error
        for reference, (owner, piece) in list(state.running.items()):
            if owner is not member:
                continue
            del state.running[reference]
            if len(piece.clips) == 1 and piece.deaths >= _MOST_DEATHS:
                state.figures.fail(piece.clips[0][0], "decode", "workers die while they read or send it")
            elif piece.deaths >= _WHOLE_AGAIN and len(piece.clips) > 1:
                half = len(piece.clips) // 2
                state.waiting += [_Piece(part, piece.deaths + 1) for part in (piece.clips[:half], piece.clips[half:])]
            else:
                state.waiting.append(_Piece(piece.clips, piece.deaths + 1))
        state.retired.append(member)
        substitute = self._hire()
        self._members[self._members.index(member)] = substitute
        substitute.settle()
        substitute.begin()
        if state.search is not None:
            state.search.restart_window()

    def _steer(self, state: _PassState) -> None:
        """Learn how far the workers are, and set how many requests may be in flight."""
        count = len(self._members)
        now = time.perf_counter()
        state.level_seconds += state.level * (now - state.level_since)
        state.level_since = now
        self._exchange_status([state.level // count + (rank < state.level % count) for rank in range(count)])
        if state.search is not None:
            drops = sum(member.dropped(server) for member in self._members for server in range(len(self.endpoints)))
            if drops > state.drops:
                state.search.restart_window()
            state.drops = drops
            state.level = state.search.observe([Progress(member.done, member.last_done) for member in self._members])
            if state.search.settled:
                self._found[state.job.model, state.job.samples] = state.level

    def _exchange_status(self, budgets: list[int]) -> None:
        import ray

        asked = {
            member.actor.status.remote(budget): member for member, budget in zip(self._members, budgets, strict=True)
        }
        arrived, _ = ray.wait(list(asked), num_returns=len(asked), timeout=_STOP_S)
        for reference in arrived:
            with contextlib.suppress(ray.exceptions.RayError):  # one that died is found by its chunks
                asked[reference].last = ray.get(reference)

    def _counted(
        self, model: str, before: Sequence[Statistics | None], answered: Sequence[int]
    ) -> list[Statistics | None]:
        """What each server counted since; it counts a batch a moment after it has answered it."""
        until = time.monotonic() + _COUNT_S
        while True:
            after = statistics_of(self._servers, model)
            added = [
                None if old is None or new is None else new.since(old, own)
                for old, new, own in zip(before, after, answered, strict=True)
            ]
            if None not in added or time.monotonic() >= until:
                return added
            time.sleep(_TICK_S)

    def _streamed(
        self, state: _PassState, before: Sequence[Statistics | None], seconds: float, sampler: UtilisationSampler
    ) -> Streamed:
        everyone = [*self._members, *state.retired]
        servers = []
        answered = [sum(member.answered(position) for member in everyone) for position in range(len(self.endpoints))]
        counted = self._counted(state.job.model, before, answered)
        for position, endpoint in enumerate(self.endpoints):
            # Every worker finds out for itself that a server is dead.
            dropped = max(member.dropped(position) for member in everyone)
            servers.append((endpoint.address, counted[position], answered[position], dropped))
        counts = {name: sum(member.faults(name) for member in everyone) for name in Faults.model_fields}
        shared = all(all(member.last.reads_shared_memory) for member in self._members)
        measurement = state.figures.measurement(
            seconds=seconds,
            concurrency=state.level,
            mean_concurrency=state.level_seconds / seconds,
            concurrency_found=self._concurrency is None and (state.search is None or state.search.settled),
            workers=self.workers,
            servers=servers,
            transport="shared-memory" if shared else "grpc",
            faults=Faults.model_validate(counts | {"workers_lost": state.workers_lost}),
            utilisation=sampler.utilisation(),
        )
        return Streamed(sorted(state.figures.failures), measurement)
