"""Clips through served encoders: Ray workers read and send them, the driver hands on what comes back."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

from arch_common import interrupt
from arch_common.errors import ArchError, UsageError

from arch_harness.measuring.chunk import Chunk
from arch_harness.measuring.collector import MeasurementCollector, statistics_of
from arch_harness.measuring.utilisation import UtilisationSampler
from arch_harness.results.measurement import THREADS_PER_WORKER, Faults, Measurement, Transport
from arch_harness.streaming.actors import WorkerHandle, connect, start_worker
from arch_harness.streaming.buffers import buffer_bytes, remove_stale
from arch_harness.streaming.concurrency import ConcurrencySearch, Progress
from arch_harness.streaming.pass_state import WHOLE_AGAIN, PassState, PendingChunk
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
        self._handles: list[WorkerHandle] = []
        self._servers = [Server(endpoint) for endpoint in self.endpoints]
        self._found: dict[tuple[str, int], int] = {}

    def __enter__(self) -> WorkerPool:
        import ray

        remove_stale()
        connect(self._ray_address, self.workers)
        try:
            self._handles = [self._start_worker() for _ in range(self.workers)]
            for handle in self._handles:
                handle.wait_until_started()
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
            ray.get([handle.actor.close.remote() for handle in self._handles], timeout=_STOP_S)
        for handle in self._handles:
            ray.kill(handle.actor)
        ray.shutdown()
        remove_stale()

    def _start_worker(self) -> WorkerHandle:
        return start_worker(self.endpoints, self._transport, THREADS_PER_WORKER, spread=self._ray_address is not None)

    def _check_places(self) -> None:
        elsewhere = [handle.place.host for handle in self._handles if handle.place.host != os.uname().nodename]
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
        if not all(self._sees(position, job.folder) for position in range(len(self._handles))):
            raise ArchError(f"a worker on another machine does not see {job.folder}: put the data where all of them do")
        state = self._new_pass(job, clips)
        # Before anything is steered by it: what the workers did in the pass before must not count in this one.
        self._exchange_status(self._budgets(state))
        for handle in self._handles:
            handle.begin()
        before = statistics_of(self._servers, job.model)
        started = state.level_since = time.perf_counter()
        state.level_seconds = 0.0
        sampler = UtilisationSampler(
            pids=lambda: [os.getpid(), *(handle.place.pid for handle in self._handles if handle.local)],
            clips=lambda: sum(handle.done for handle in [*self._handles, *state.retired]),
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
            return bool(ray.get(self._handles[position].actor.sees.remote(folder)))
        except ray.exceptions.RayError:
            self._handles[position] = self._start_worker()
            self._handles[position].wait_until_started()
            return bool(ray.get(self._handles[position].actor.sees.remote(folder)))

    def _new_pass(self, job: Job, clips: Sequence[tuple[int, str]]) -> PassState:
        search = None
        level = self._concurrency or self._found.get((job.model, job.samples))
        if level is None:
            servers = len(self.endpoints)
            most = min(_MOST_PER_SERVER * servers, _MOST_IN_FLIGHT_BYTES // buffer_bytes(job.samples))
            start = max(self.workers, _START_PER_SERVER * servers)
            search = ConcurrencySearch(start, _BATCHES_IN_FLIGHT * job.max_batch_size * servers, max(start, most))
            level = start
        return PassState(job, MeasurementCollector(len(self.endpoints)), iter(clips), search, level)

    @contextlib.contextmanager
    def _handing_over(self, state: PassState, on_chunk: Callable[[Chunk], None]) -> Iterator[Callable[[Chunk], None]]:
        """Give the function that hands a chunk on; where the block fails, what the workers have is handed on too."""
        broken = False

        def take(chunk: Chunk) -> None:
            nonlocal broken
            state.collector.add(chunk)
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

    def _rest(self, state: PassState) -> Iterator[Chunk]:
        """Stop the workers' calls, and give what they bring."""
        import ray

        for handle in self._handles:
            handle.actor.stop.remote()
        arrived, _ = (
            ray.wait(list(state.running), num_returns=len(state.running), timeout=_STOP_S)
            if state.running
            else ([], [])
        )
        for reference in arrived:
            with contextlib.suppress(ray.exceptions.RayError):
                yield ray.get(reference)

    def _drive(self, state: PassState, take: Callable[[Chunk], None], on_progress: ProgressTold) -> None:
        import ray

        looked = 0.0
        while self._dispatch(state):
            interrupt.check()
            arrived, _ = ray.wait(list(state.running), timeout=_TICK_S)
            for reference in arrived:
                handle, _ = state.running[reference]
                try:
                    chunk = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    raise ArchError(f"a worker failed: {str(error).strip().splitlines()[-1]}") from error
                except ray.exceptions.RayError as error:  # it, its machine or what it brought is gone
                    self._replace(state, handle, error)
                    break  # `running` is another now
                del state.running[reference]
                state.deaths_in_vain = 0
                take(chunk)
                on_progress(state.collector.clips, state.collector.audio_seconds)
                if chunk.lost:
                    raise ArchError(
                        f"gave up after {state.collector.clips} clips, which are kept: {chunk.lost}; the same command "
                        "goes on from here"
                    )
            if time.monotonic() - looked >= _TICK_S:
                self._steer(state)
                looked = time.monotonic()
        self._steer(state)

    def _dispatch(self, state: PassState) -> bool:
        """Give each worker as many chunks as it can have at a time; whether any are under way."""
        size = max(_SMALLEST_CHUNK, -(-state.level // len(self._handles)))
        busy = {id(handle): 0 for handle in self._handles}
        for handle, pending in state.running.values():
            busy[id(handle)] += THREADS_PER_WORKER if pending.suspect else 1
        while True:
            handle = min(self._handles, key=lambda one: busy[id(one)])
            if busy[id(handle)] >= THREADS_PER_WORKER:
                return True
            if state.waiting and state.waiting[-1].suspect and busy[id(handle)]:
                return True  # until a worker has nothing else to do
            pending = state.waiting.pop() if state.waiting else PendingChunk(list(itertools.islice(state.coming, size)))
            if not pending.clips:
                return bool(state.running)
            state.running[handle.actor.embed.remote(state.job, pending.clips)] = (handle, pending)
            busy[id(handle)] += THREADS_PER_WORKER if pending.suspect else 1

    def _replace(self, state: PassState, handle: WorkerHandle, error: Exception) -> None:
        """Put a new worker in the place of one that died, and have its clips done again."""
        import ray

        ray.kill(handle.actor)  # it may be only what it brought that was lost
        state.workers_lost += 1
        state.deaths_in_vain += 1
        if state.deaths_in_vain > _DEATHS_IN_VAIN:
            raise ArchError(f"workers die again and again: {str(error).strip().splitlines()[-1]}") from error
        for reference, (owner, pending) in list(state.running.items()):
            if owner is not handle:
                continue
            del state.running[reference]
            if len(pending.clips) == 1 and pending.deaths >= _MOST_DEATHS:
                state.collector.fail(pending.clips[0][0], "decode", "workers die while they read or send it")
            elif pending.deaths >= WHOLE_AGAIN and len(pending.clips) > 1:
                half = len(pending.clips) // 2
                halves = (pending.clips[:half], pending.clips[half:])
                state.waiting += [PendingChunk(part, pending.deaths + 1) for part in halves]
            else:
                state.waiting.append(PendingChunk(pending.clips, pending.deaths + 1))
        state.retired.append(handle)
        substitute = self._start_worker()
        self._handles[self._handles.index(handle)] = substitute
        substitute.wait_until_started()
        substitute.begin()
        if state.search is not None:
            state.search.restart_window()

    def _steer(self, state: PassState) -> None:
        """Learn how far the workers are, and set how many requests may be in flight."""
        now = time.perf_counter()
        state.level_seconds += state.level * (now - state.level_since)
        state.level_since = now
        self._exchange_status(self._budgets(state))
        if state.search is not None:
            drops = sum(handle.dropped(server) for handle in self._handles for server in range(len(self.endpoints)))
            if drops > state.drops:
                state.search.restart_window()
            state.drops = drops
            state.level = state.search.observe([Progress(handle.done, handle.last_done) for handle in self._handles])
            if state.search.settled:
                self._found[state.job.model, state.job.samples] = state.level

    def _budgets(self, state: PassState) -> list[int]:
        """How many requests each worker may keep in flight."""
        count = len(self._handles)
        return [state.level // count + (rank < state.level % count) for rank in range(count)]

    def _exchange_status(self, budgets: list[int]) -> None:
        import ray

        asked = {
            handle.actor.status.remote(budget): handle for handle, budget in zip(self._handles, budgets, strict=True)
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
        self, state: PassState, before: Sequence[Statistics | None], seconds: float, sampler: UtilisationSampler
    ) -> Streamed:
        everyone = [*self._handles, *state.retired]
        servers = []
        answered = [sum(handle.answered(position) for handle in everyone) for position in range(len(self.endpoints))]
        counted = self._counted(state.job.model, before, answered)
        for position, endpoint in enumerate(self.endpoints):
            # Every worker finds out for itself that a server is dead.
            dropped = max(handle.dropped(position) for handle in everyone)
            servers.append((endpoint.address, counted[position], answered[position], dropped))
        counts = {name: sum(handle.faults(name) for handle in everyone) for name in Faults.model_fields}
        shared = all(all(handle.last.reads_shared_memory) for handle in self._handles)
        measurement = state.collector.measurement(
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
        return Streamed(sorted(state.collector.failures), measurement)
