"""Clips through served encoders: Ray workers read and send them, the driver hands on what comes back."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

from arch_common import interrupt
from arch_common.errors import ArchError, last_line

from arch_harness.measuring.chunk import Chunk
from arch_harness.measuring.collector import ServerCounts, statistics_of
from arch_harness.measuring.consumption.hardware import ServerHardware
from arch_harness.measuring.utilisation import UtilisationSampler
from arch_harness.results.measurement import THREADS_PER_WORKER, Faults, LoadPoint, Measurement, Transport
from arch_harness.streaming.actors import WorkerHandle
from arch_harness.streaming.buffers import buffer_bytes, remove_stale
from arch_harness.streaming.cluster.crew import Crew
from arch_harness.streaming.loads.concurrency import ConcurrencySearch
from arch_harness.streaming.loads.phases import embedding_plan, rate_plan, repeat_plan, unmeasured_plan
from arch_harness.streaming.pass_state import PassState, PendingChunk
from arch_harness.streaming.steering import Steering
from arch_harness.streaming.wire import Job
from arch_harness.triton.endpoint import Endpoint
from arch_harness.triton.server import Server
from arch_harness.triton.statistics import Statistics

_SMALLEST_CHUNK = 16

_START_PER_SERVER = 4
_BATCHES_IN_FLIGHT = 2  # that the search tries at least: one forms while another is computed
_MOST_PER_SERVER = 256
_MOST_IN_FLIGHT_BYTES = 512 * 1024**2
_TICK_S, _RAREST_LOOK_S = 0.1, 0.5
_STOP_S = 5.0
_COUNT_S = 1.0
_TELL_WAIT_S = 2.0
_DEATHS_IN_VAIN = 20

ProgressTold = Callable[[int, float, str], None]
"""Told often: the clips done (failed ones included), the seconds of audio embedded, and the phase of the pass."""


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
        note: told, in a line, what becomes of the nodes of a cluster.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        workers: int,
        concurrency: int | None = None,
        ray_address: str | None = None,
        transport: Transport = "grpc",
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.endpoints = list(endpoints)
        self.workers = workers if concurrency is None else min(workers, concurrency)
        self._concurrency = concurrency
        self._crew = Crew(self.endpoints, self.workers, ray_address, transport, note)
        self._servers = [Server(endpoint) for endpoint in self.endpoints]
        self._hardware = ServerHardware(self._servers)
        self._steering = Steering(self._crew.handles, self._servers)
        self._found: dict[tuple[str, int], int] = {}

    def __enter__(self) -> WorkerPool:
        remove_stale()
        self._crew.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._crew.end()
        remove_stale()

    def embed(
        self,
        job: Job,
        clips: Sequence[tuple[int, str]],
        on_chunk: Callable[[Chunk], None],
        on_progress: ProgressTold = lambda *_: None,
        measured: bool = True,
    ) -> Streamed:
        """Embed clips given as (index, path below the job's folder), as single-clip requests.

        Args:
            job: what is the same for all of them.
            clips: each once.
            on_chunk: given what came of a few clips as soon as it arrives, each clip in one chunk; its arrays may lie
                in memory that Ray shares, and should be copied if they are kept.
            on_progress: told how far it is.
            measured: whether loads are put on the servers by which speed and latency are measured.

        Raises:
            ArchError: if no server answers for long, or workers die again and again. What had arrived was handed on
                before; so it was where a KeyboardInterrupt ends the call.
        """
        level, search = self._level(job, len(clips))
        loads = embedding_plan(len(clips), level, search, self._most(job), self._taken_up)
        plan = loads if measured else unmeasured_plan(len(clips), level, search)
        return self._run(PassState(job, plan, level, search, len(clips), iter(clips)), clips, on_chunk, on_progress)

    def measure(
        self,
        job: Job,
        clips: Sequence[tuple[int, str]],
        level: int,
        paced_rate: float | Literal["own"] | None,
        on_progress: ProgressTold = lambda *_: None,
    ) -> Measurement:
        """Measure the speed once more, with clips that are sent again and again and whose embeddings are dropped.

        Args:
            job: what is the same for all of them.
            clips: to take in turn.
            level: requests in flight that saturate the servers.
            paced_rate: clips/s of the `paced` load; `own` is 70 % of what this measurement finds, None leaves it out.
            on_progress: told how far it is.

        Raises:
            ArchError: as `embed` does.
        """
        plan = repeat_plan(level, paced_rate, self._most(job))
        state = PassState(job, plan, level, None, None, itertools.cycle(clips))
        return self._run(state, clips, lambda _: None, on_progress).measurement

    def measure_at(
        self, job: Job, clips: Sequence[tuple[int, str]], rate: float, on_progress: ProgressTold = lambda *_: None
    ) -> LoadPoint | None:
        """Measure the latency where clips are sent at a rate, as `measure` does; None if no request was answered."""
        state = PassState(job, rate_plan(rate, self._most(job)), self.workers, None, None, itertools.cycle(clips))
        point = self._run(state, clips, lambda _: None, on_progress).measurement.at("paced")
        return point and point.model_copy(update={"load": "equal rate"})

    def _run(
        self,
        state: PassState,
        clips: Sequence[tuple[int, str]],
        on_chunk: Callable[[Chunk], None],
        on_progress: ProgressTold,
    ) -> Streamed:
        self._crew.muster(state.job.folder, [path for _, path in clips])
        self._hardware.measure_idle(lambda: on_progress(0, 0.0, "idle power"))
        sampler = UtilisationSampler(
            pids=lambda: [os.getpid(), *(handle.place.pid for handle in self._crew.present if handle.local)],
            clips=lambda: sum(handle.done for handle in [*self._crew.handles, *state.retired]),
            log=self._hardware.log(),
        )
        state.started = sampler.log.begin()
        self._steering.begin(state)
        with sampler:
            with self._handing_over(state, on_chunk) as take:
                self._drive(state, take, on_progress)
            seconds = time.perf_counter() - state.started
        return self._streamed(state, seconds, sampler)

    def _level(self, job: Job, clips: int) -> tuple[int, ConcurrencySearch | None]:
        """How many requests to keep in flight at first, and the search for more; None where that is known."""
        level = self._concurrency or self._found.get((job.model, job.samples))
        if level is not None:
            return level, None
        servers = len(self.endpoints)
        start = max(self.workers, _START_PER_SERVER * servers)
        least = _BATCHES_IN_FLIGHT * job.max_batch_size * servers
        return start, ConcurrencySearch(start, least, max(start, self._most(job)), clips)

    def _most(self, job: Job) -> int:
        """Requests in flight, over all workers and servers."""
        return min(_MOST_PER_SERVER * len(self.endpoints), _MOST_IN_FLIGHT_BYTES // buffer_bytes(job.samples))

    def _taken_up(self, level: int) -> int:
        """Clips that the workers may have decoded, or hold in a chunk that is their last, beyond those in flight."""
        return self.workers * max(_SMALLEST_CHUNK, -(-level // self.workers))

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

        for handle in self._crew.present:
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
            if not state.running:
                self._crew.wait()
            for reference in ray.wait(list(state.running), timeout=_TICK_S)[0] if state.running else []:
                handle, _ = state.running[reference]
                try:
                    chunk = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    raise ArchError(f"a worker failed: {last_line(str(error), type(error).__name__)}") from error
                except ray.exceptions.RayError as error:  # it, its machine or what it brought is gone
                    self._replace(state, handle, error)
                    break  # `running` is another now
                del state.running[reference]
                state.deaths_in_vain = 0
                state.clips_by_node[handle.place.node] += chunk.clips
                take(chunk)
                if chunk.lost:
                    raise ArchError(f"gave up after {state.collector.clips} clips, which are kept: {chunk.lost}")
            if time.monotonic() - looked >= self._look_every_s(state):
                self._crew.check_ray()
                self._admit(state)
                self._steering.steer(state)
                on_progress(state.collector.clips, state.collector.audio_seconds, self._doing(state))
                looked = time.monotonic()
        on_progress(state.collector.clips, state.collector.audio_seconds, self._doing(state))

    def _look_every_s(self, state: PassState) -> float:
        """Not more often than clips come: each look costs driver and workers some milliseconds of the processor."""
        done = sum(handle.done for handle in self._crew.present)
        return min(_RAREST_LOOK_S, max(_TICK_S, (time.perf_counter() - state.started) / max(1, done)))

    def _doing(self, state: PassState) -> str:
        """The phase of a pass; or that it waits, where every worker finds every server dead."""
        waited = min((handle.last.waited_s for handle in self._crew.present), default=0.0)
        return f"waiting for the server for {waited:.0f} s" if waited >= _TELL_WAIT_S else state.load.phase

    def _dispatch(self, state: PassState) -> bool:
        """Give each worker as many chunks as it can have at a time; whether any are under way."""
        present = self._crew.present
        if state.over and state.clips is None:
            return bool(state.running)
        if not present:
            return True  # until one has started
        size = max(_SMALLEST_CHUNK, -(-state.level // len(present)))
        busy = {id(handle): 0 for handle in present}
        for handle, pending in state.running.values():
            busy[id(handle)] += THREADS_PER_WORKER if pending.suspect else 1
        while True:
            handle = min(present, key=lambda one: busy[id(one)])
            if busy[id(handle)] >= THREADS_PER_WORKER:
                return True
            if state.waiting and state.waiting[-1].suspect and busy[id(handle)]:
                return True  # until a worker has nothing else to do
            pending = state.waiting.pop() if state.waiting else PendingChunk(list(itertools.islice(state.coming, size)))
            if not pending.clips:
                state.exhausted = True
                return bool(state.running)
            files = self._crew.files_for(handle, state.job.folder, [path for _, path in pending.clips])
            state.running[handle.actor.embed.remote(state.job, pending.clips, files)] = (handle, pending)
            busy[id(handle)] += THREADS_PER_WORKER if pending.suspect else 1

    def _replace(self, state: PassState, handle: WorkerHandle, error: Exception) -> None:
        """Have another worker start in the place of one that died, and its clips done again."""
        state.deaths_in_vain += 1
        # All workers of a node die at once.
        if state.deaths_in_vain > max(_DEATHS_IN_VAIN, 2 * self.workers):
            raise ArchError(f"workers die again and again: {last_line(str(error), type(error).__name__)}") from error
        state.lost_by_node[handle.place.node] += 1
        state.take_back(handle, with_node=self._crew.lose(handle))
        state.disturb()
        self._steering.next_window(state)

    def _admit(self, state: PassState) -> None:
        """Give work to those that have started in the place of others."""
        for gone, handle in self._crew.admit():
            state.retired.append(gone)
            self._steering.exchange_status(state)  # its counts begin with what it tells, as those of all do
            handle.begin()
            state.disturb()
            self._steering.next_window(state)

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

    def _streamed(self, state: PassState, seconds: float, sampler: UtilisationSampler) -> Streamed:
        self._steering.exchange_status(state)
        progress = self._steering.progress()
        if state.search is not None and state.search.found:
            self._found[state.job.model, state.job.samples] = state.search.level
        everyone = [*self._crew.handles, *state.retired]
        answered = [sum(handle.answered(position) for handle in everyone) for position in range(len(self.endpoints))]
        counted = self._counted(state.job.model, state.windows[0].counted_before, answered)
        state.close(progress, statistics_of(self._servers, state.job.model), seconds)
        servers = [
            # Every worker finds out for itself that a server is dead.
            ServerCounts(endpoint.address, counted[at], answered[at], max(handle.dropped(at) for handle in everyone))
            for at, endpoint in enumerate(self.endpoints)
        ]
        counts = {name: sum(handle.faults(name) for handle in everyone) for name in Faults.model_fields}
        shared = all(all(handle.last.reads_shared_memory) for handle in self._crew.handles)
        measurement = state.collector.measurement(
            windows=state.windows,
            seconds=seconds,
            concurrency_found=self._concurrency is None and (state.search is None or state.search.found),
            workers=self.workers,
            nodes=self._crew.shares(everyone, state.clips_by_node, state.lost_by_node),
            servers=servers,
            transport="shared-memory" if shared else "grpc",
            faults=Faults.model_validate(counts | {"workers_lost": state.lost_by_node.total()}),
            utilisation=sampler.utilisation(),
            consumption=sampler.log.consumption,
        )
        return Streamed(sorted(state.collector.failures), measurement)
