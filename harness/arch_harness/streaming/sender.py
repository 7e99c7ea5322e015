"""A chunk of clips on its way through the servers: sent, tried again where that helps, given up where it does not."""

from __future__ import annotations

import heapq
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
from arch_common.errors import first_line

from arch_harness.datasets.audio import DecodeError, decode_clip, is_beyond_full_scale, resample_clip
from arch_harness.measuring.chunk import Answer, Chunk
from arch_harness.streaming.balancer import Balancer, Connection, back_off
from arch_harness.streaming.wire import Job, MalformedError, classify, read_answer, request_body, request_head

if TYPE_CHECKING:
    from arch_harness.streaming.buffers import Buffer, BufferPool
    from arch_harness.streaming.clip_counter import ClipCounter
    from arch_harness.streaming.loads.pacer import Due, Pacer
    from arch_harness.streaming.shared_memory import SharedMemory

FIRST_TIMEOUT_S = 600.0
"""Of an attempt before any answer came: a server may compile its model for minutes first."""
LEAST_TIMEOUT_S = 60.0
SLOWEST_TIMES = 10
"""Later an attempt may take so many times as long as the slowest answer, but no less than that: a server that hangs
must not hang the benchmark, and one that computes other people's requests first must not be given up."""
MOST_ATTEMPTS = 6
"""That failed because of the server or the way to it. More would not help: what every server in turn dies of is the
clip."""
MOST_REFUSALS = 100
"""Because of a full queue: some minutes, since the pauses grow to 2 s."""

_TICK_S = 0.2

# Where clips are due at moments, a thread has some decoded, so that several due at once need not wait for a decoder;
# it decodes another only if that much time is left.
_AHEAD = 8
_TIME_TO_DECODE_S = 0.02


@dataclass(eq=False)
class _Request:
    """A clip that is decoded and not done; `calls` are those whose server has not answered, given up or not."""

    index: int
    buffers: BufferPool
    buffer: Buffer
    seconds: float
    beyond_full_scale: bool
    decode_ms: float
    resample_ms: float
    decoded: float
    scheduled: float = 0.0
    sent: float = 0.0
    window: int = 0
    calls: int = 0
    attempts: int = 0
    troubles: int = 0
    refusals: int = 0
    avoid: Connection | None = None
    refused_by: Connection | None = None
    done: bool = False


@dataclass(eq=False)
class _Attempt:
    request: _Request
    connection: Connection
    sent: float
    expires: float
    given_up: bool = False
    call: Any = None


class Sender:
    """Sends one chunk; the thread that calls `run` decodes and sends, gRPC's threads take the answers."""

    def __init__(
        self,
        job: Job,
        balancer: Balancer,
        shared_memory: SharedMemory,
        counter: ClipCounter,
        pacer: Pacer,
        stopped: threading.Event,
        enough: threading.Event,
    ) -> None:
        self._job = job
        self._balancer = balancer
        self._shared_memory = shared_memory
        self._counter = counter
        self._pacer = pacer
        self._stopped = stopped
        self._enough = enough
        self._due: Due | None = None
        self._chunk = Chunk()
        self._changed = threading.Condition()
        self._closed = False
        self._undone = 0
        self._open: dict[_Attempt, None] = {}
        self._look_at = 0.0
        self._to_send: deque[_Request] = deque()
        self._paused: list[tuple[float, int, _Request]] = []

    def run(self, clips: Sequence[tuple[int, str]]) -> Chunk:
        """Embed clips given as (index, path below the job's folder)."""
        coming = iter(clips)
        exhausted = False
        while not self._stopped.is_set():
            self._mend()
            if self._to_send:
                request = self._to_send[0]
                if request.done:
                    self._to_send.popleft()
                    continue
                if self._enough.is_set() and not request.attempts:
                    self._forget(self._to_send.popleft())
                    continue
                early = 0.0 if request.attempts else self._until_due()
                if early > 0:
                    if not exhausted and len(self._to_send) < _AHEAD and early > _TIME_TO_DECODE_S:
                        exhausted = not self._decode_next(coming)
                    else:
                        time.sleep(min(early, _TICK_S))
                    continue
                connection = self._balancer.acquire(_TICK_S, request.avoid)
                if connection is not None:
                    self._to_send.popleft()
                    if not self._send(request, connection):
                        self._balancer.release(connection)
                elif reason := self._balancer.lost():
                    self._chunk.lost = reason
                    break
            elif not exhausted:
                exhausted = not self._decode_next(coming)
            else:
                with self._changed:
                    if not self._undone:
                        break
                    due = self._paused[0][0] - time.perf_counter() if self._paused else _TICK_S
                    self._changed.wait(min(_TICK_S, max(0.0, due)))
        with self._changed:
            self._closed = True
            left = list(self._open)
        for one in left:
            if one.call is not None:  # it could not be sent
                one.call.cancel()
        return self._chunk

    def _until_due(self) -> float:
        """Seconds until the next clip is to be sent; 0 where that is now, or whenever there is a place."""
        if self._due is not None and self._due.pace != self._pacer.pace:
            self._due = None
        self._due = self._due or self._pacer.take()
        return 0.0 if self._due is None else self._due.moment - time.perf_counter()

    def _decode_next(self, coming: Iterator[tuple[int, str]]) -> bool:
        """Decode one more clip; whether there was one to take up."""
        clip = None if self._enough.is_set() else next(coming, None)
        if clip is None:
            return False
        self._decode(*clip)
        return True

    def _forget(self, request: _Request) -> None:
        """Drop a clip that was not sent and need not be."""
        with self._changed:
            request.done = True
            self._undone -= 1
            request.buffers.give_back(request.buffer)

    def _decode(self, index: int, path: str) -> None:
        started = time.perf_counter()
        try:
            job = self._job
            decoded, rate = decode_clip(job.folder / path, job.max_seconds, job.preprocessing)
            resampling = time.perf_counter()
            clip = resample_clip(decoded, rate, job.sample_rate, job.max_seconds, job.preprocessing)
        except Exception as error:  # a library may raise anything: the clip fails then, not the run
            reason = str(error) if isinstance(error, DecodeError) else f"{type(error).__name__}: {error}"
            with self._changed:
                self._chunk.failures.append((index, "decode", reason))
            self._counter.done()
            return
        done = time.perf_counter()
        buffers, buffer = self._shared_memory.take(self._job.samples)
        buffer.fill(clip)
        with self._changed:
            self._undone += 1
        self._to_send.append(
            _Request(
                index,
                buffers,
                buffer,
                len(clip) / self._job.sample_rate,
                is_beyond_full_scale(clip),
                (resampling - started) * 1e3,
                (done - resampling) * 1e3,
                decoded=done,
            )
        )

    def _send(self, request: _Request, connection: Connection) -> bool:
        """Send a clip; False, and nothing is sent, where a late answer came while it waited for a place."""
        now = time.perf_counter()
        with self._changed:
            # From here on the buffer is kept: it may have been given back, and be another clip's already.
            if request.done:
                return False
            request.attempts += 1
            request.calls += 1
        if request.attempts > 1:
            self._counter.count("retries")
        else:
            request.sent, request.window = now, self._counter.window
            request.scheduled = now if self._due is None else self._due.moment
            self._due = None
        slowest = self._counter.slowest_s
        limit = FIRST_TIMEOUT_S if slowest is None else max(LEAST_TIMEOUT_S, SLOWEST_TIMES * slowest)
        attempt = _Attempt(request, connection, now, now + limit)
        if connection.reads_shared_memory and request.buffer.name is not None:
            body = request_head(self._job, request.buffer.name)
        else:
            body = request_body(request_head(self._job), request.buffer.waveform, request.buffer.num_samples)
        with self._changed:
            self._open[attempt] = None
        try:
            # Twice the limit: an answer that comes after its attempt was given up is still taken.
            attempt.call = connection.call.future(body, timeout=2 * limit, metadata=connection.endpoint.headers)
        except ValueError:  # the channel was closed: this worker ends
            self._stopped.set()
            return True
        attempt.call.add_done_callback(partial(self._answered, attempt))
        return True

    def _answered(self, attempt: _Attempt, call: Any) -> None:
        """Take the end of an attempt; runs in gRPC's threads."""
        request, connection = attempt.request, attempt.connection
        now = time.perf_counter()
        code = call.code()
        if code is grpc.StatusCode.OK:
            self._balancer.answered(connection)
            self._counter.took(now - attempt.sent)
            if attempt.given_up:
                self._counter.count("late")
            try:
                embedding = read_answer(self._job, call.result())
            except MalformedError as error:
                self._counter.count("malformed")
                self._end(attempt, failure=str(error))
            else:
                answer = Answer(
                    request.index,
                    embedding,
                    request.seconds,
                    request.beyond_full_scale,
                    connection.position,
                    request.decode_ms,
                    request.resample_ms,
                    (request.sent - request.decoded) * 1e3,
                    (now - request.scheduled) * 1e3,
                    (request.sent - request.scheduled) * 1e3,
                    request.window,
                )
                self._end(attempt, answer=answer)
            return
        words = first_line(call.details(), code.name)
        trouble = classify(code, words)
        if trouble == "queue_full":
            self._balancer.ease(connection)
        elif trouble == "refused":
            self._balancer.refused(connection)
        else:
            self._balancer.release(connection)
        if attempt.given_up or self._closed:
            self._end(attempt)
            return
        if trouble in ("unreachable", "cut_off", "stopping", "shared_memory_lost"):
            self._balancer.drop(connection, words)
        self._counter.count("cut_off" if trouble == "shared_memory_lost" else trouble)
        if trouble == "refused" and (request.refused_by or len(self._balancer.connections) == 1):
            self._end(attempt, failure=words)
            return
        if trouble == "queue_full":
            request.refusals += 1
            attempts, most = request.refusals, MOST_REFUSALS
        else:
            request.troubles += 1
            attempts, most = request.troubles, MOST_ATTEMPTS
            request.avoid = connection
        if trouble == "refused":
            request.refused_by = connection  # what is wrong may be the server, not the clip: another is asked once
        if attempts >= most:
            self._end(attempt, failure=f"{words} (tried {request.attempts} times)")
        else:
            # A server that stops says so before it takes anything on, and the others are as able as before.
            self._end(attempt, again_in=0.0 if trouble == "stopping" and attempts == 1 else back_off(attempts))

    def _end(
        self,
        attempt: _Attempt,
        answer: Answer | None = None,
        failure: str | None = None,
        again_in: float | None = None,
    ) -> None:
        """Close an attempt with what it brought; nothing, where another of the clip is under way or has been made."""
        request = attempt.request
        with self._changed:
            self._open.pop(attempt, None)
            request.calls -= 1
            if not request.done and not self._closed:
                ends = answer is not None or failure is not None
                window = self._counter.done() if ends else 0
                if answer is not None:
                    answer.answered_in = window
                    self._chunk.answers.append(answer)
                elif failure is not None:
                    self._chunk.failures.append((request.index, "infer", failure))
                elif again_in is not None:
                    heapq.heappush(self._paused, (time.perf_counter() + again_in, id(request), request))
                if ends:
                    request.done = True
                    self._undone -= 1
            if request.done and not request.calls:
                request.buffers.give_back(request.buffer)
            self._changed.notify()

    def _mend(self) -> None:
        """Let pauses end, and give up attempts that took too long."""
        now = time.perf_counter()
        late: list[_Attempt] = []
        with self._changed:
            while self._paused and self._paused[0][0] <= now:
                self._to_send.appendleft(heapq.heappop(self._paused)[2])
            if now >= self._look_at:
                self._look_at = now + _TICK_S
                late = [attempt for attempt in self._open if attempt.expires <= now]
            for attempt in late:
                self._give_up(attempt)
        for attempt in late:
            self._counter.count("timed_out")
            self._balancer.suspect(attempt.connection)

    def _give_up(self, attempt: _Attempt) -> None:
        """Try a clip elsewhere while the answer to this attempt may still come; call it with the lock held."""
        del self._open[attempt]
        attempt.given_up = True
        request = attempt.request
        if request.done:
            return
        request.troubles += 1
        request.avoid = attempt.connection
        if request.troubles < MOST_ATTEMPTS:
            heapq.heappush(self._paused, (time.perf_counter() + back_off(request.troubles), id(request), request))
            return
        limit = attempt.expires - attempt.sent
        self._chunk.failures.append(
            (request.index, "infer", f"no answer within {limit:.0f} s (tried {request.attempts} times)")
        )
        request.done = True
        self._undone -= 1
        self._counter.done()
