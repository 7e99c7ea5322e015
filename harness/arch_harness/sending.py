"""A chunk of clips on its way through the servers: sent, tried again where that helps, given up where it does not."""

from __future__ import annotations

import heapq
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import grpc

from arch_harness.audio import DecodeError, decode_clip, resample_clip
from arch_harness.balancer import Balancer, Lane, back_off
from arch_harness.inference import Job, MalformedError, classify, read_answer, request_body, request_head

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from arch_harness.regions import Regions
    from arch_harness.slots import Slot, Slots
    from arch_harness.worker import Tally

FIRST_TIMEOUT_S = 600.0
"""Of a try before any answer came: a server may compile its model for minutes first."""
LEAST_TIMEOUT_S = 60.0
SLOWEST_TIMES = 10
"""Later a try may take so many times as long as the slowest answer, but no less than that: a server that hangs must not
hang the benchmark, and one that computes other people's requests first must not be given up."""
MOST_TRIES = 6
"""That failed because of the server or the way to it. More would not help: what every server in turn dies of is the
clip."""
MOST_REFUSALS = 100
"""Because of a full queue: some minutes, since the pauses grow to 2 s."""

_TICK_S = 0.2

Stage = Literal["decode", "infer"]


@dataclass(frozen=True)
class Answer:
    """A clip that was embedded; times in milliseconds, as `Stages` and `Percentiles` define them.

    Attributes:
        index: position in the dataset.
        embedding: FP32 [1 + layers, embedding size]; row 0 is the embedding, the others are those of the layers.
        seconds: of audio, padding not counted.
        server: position of the server that it came from.
    """

    index: int
    embedding: NDArray[np.float32]
    seconds: float
    server: int
    decode_ms: float
    resample_ms: float
    wait_ms: float
    latency_ms: float


@dataclass
class Chunk:
    """What came of a few clips.

    Attributes:
        answers: the clips that succeeded.
        failures: (index, stage, reason) of those that did not.
        lost: why the servers must be taken for gone; None while one answers.
    """

    answers: list[Answer] = field(default_factory=list)
    failures: list[tuple[int, Stage, str]] = field(default_factory=list)
    lost: str | None = None

    @property
    def embeddings(self) -> list[tuple[int, NDArray[np.float32]]]:
        """(index, FP32 [1 + layers, embedding size]) of each clip that succeeded."""
        return [(answer.index, answer.embedding) for answer in self.answers]

    @property
    def clips(self) -> int:
        """Clips that are done, in whichever way."""
        return len(self.answers) + len(self.failures)


@dataclass(eq=False)
class _Flight:
    """A clip that is decoded and not done; `calls` are those whose server has not answered, given up or not."""

    index: int
    slots: Slots
    slot: Slot
    seconds: float
    decode_ms: float
    resample_ms: float
    decoded: float
    scheduled: float = 0.0
    calls: int = 0
    tries: int = 0
    troubles: int = 0
    refusals: int = 0
    avoid: Lane | None = None
    refused_by: Lane | None = None
    done: bool = False


@dataclass(eq=False)
class _Try:
    flight: _Flight
    lane: Lane
    sent: float
    expires: float
    given_up: bool = False
    call: Any = None


class Sender:
    """Sends one chunk; the thread that calls `run` decodes and sends, gRPC's threads take the answers."""

    def __init__(self, job: Job, balancer: Balancer, regions: Regions, tally: Tally, stopped: threading.Event) -> None:
        self._job = job
        self._balancer = balancer
        self._regions = regions
        self._tally = tally
        self._stopped = stopped
        self._chunk = Chunk()
        self._changed = threading.Condition()
        self._closed = False
        self._undone = 0
        self._open: dict[_Try, None] = {}
        self._look_at = 0.0
        self._to_send: deque[_Flight] = deque()
        self._paused: list[tuple[float, int, _Flight]] = []

    def run(self, clips: Sequence[tuple[int, str]]) -> Chunk:
        """Embed clips given as (index, path below the job's folder)."""
        coming = iter(clips)
        exhausted = False
        while not self._stopped.is_set():
            self._mend()
            if self._to_send:
                flight = self._to_send[0]
                if flight.done:
                    self._to_send.popleft()
                    continue
                lane = self._balancer.acquire(_TICK_S, flight.avoid)
                if lane is not None:
                    self._to_send.popleft()
                    if not self._send(flight, lane):
                        self._balancer.release(lane)
                elif reason := self._balancer.lost():
                    self._chunk.lost = reason
                    break
            elif not exhausted:
                clip = next(coming, None)
                if clip is None:
                    exhausted = True
                else:
                    self._decode(*clip)
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

    def _decode(self, index: int, path: str) -> None:
        started = time.perf_counter()
        try:
            decoded, rate = decode_clip(self._job.folder / path, self._job.max_seconds)
            resampling = time.perf_counter()
            clip = resample_clip(decoded, rate, self._job.sample_rate, self._job.max_seconds)
        except Exception as error:  # a library may raise anything: the clip fails then, not the run
            reason = str(error) if isinstance(error, DecodeError) else f"{type(error).__name__}: {error}"
            with self._changed:
                self._chunk.failures.append((index, "decode", reason))
            self._tally.done()
            return
        done = time.perf_counter()
        slots, slot = self._regions.take(self._job.samples)
        slot.fill(clip)
        with self._changed:
            self._undone += 1
        self._to_send.append(
            _Flight(
                index,
                slots,
                slot,
                len(clip) / self._job.sample_rate,
                (resampling - started) * 1e3,
                (done - resampling) * 1e3,
                decoded=done,
            )
        )

    def _send(self, flight: _Flight, lane: Lane) -> bool:
        """Send a clip; False, and nothing is sent, where a late answer came while it waited for a place."""
        now = time.perf_counter()
        with self._changed:
            # From here on the slot is kept: it may have been given back, and be another clip's already.
            if flight.done:
                return False
            flight.tries += 1
            flight.calls += 1
        if flight.tries > 1:
            self._tally.count("retries")
        else:
            flight.scheduled = now
        slowest = self._tally.slowest_s
        limit = FIRST_TIMEOUT_S if slowest is None else max(LEAST_TIMEOUT_S, SLOWEST_TIMES * slowest)
        attempt = _Try(flight, lane, now, now + limit)
        if lane.reads_regions and flight.slot.name is not None:
            body = request_head(self._job, flight.slot.name)
        else:
            body = request_body(request_head(self._job), flight.slot.waveform, flight.slot.num_samples)
        with self._changed:
            self._open[attempt] = None
        try:
            # Twice the limit: an answer that comes after its try was given up is still taken.
            attempt.call = lane.call.future(body, timeout=2 * limit, metadata=lane.target.headers)
        except ValueError:  # the channel was closed: this worker ends
            self._stopped.set()
            return True
        attempt.call.add_done_callback(partial(self._answered, attempt))
        return True

    def _answered(self, attempt: _Try, call: Any) -> None:
        """Take the end of a try; runs in gRPC's threads."""
        flight, lane = attempt.flight, attempt.lane
        now = time.perf_counter()
        code = call.code()
        if code is grpc.StatusCode.OK:
            self._balancer.answered(lane)
            self._tally.took(now - attempt.sent)
            if attempt.given_up:
                self._tally.count("late")
            try:
                embedding = read_answer(self._job, call.result())
            except MalformedError as error:
                self._tally.count("malformed")
                self._end(attempt, failure=str(error))
            else:
                answer = Answer(
                    flight.index,
                    embedding,
                    flight.seconds,
                    lane.position,
                    flight.decode_ms,
                    flight.resample_ms,
                    (flight.scheduled - flight.decoded) * 1e3,
                    (now - flight.scheduled) * 1e3,
                )
                self._end(attempt, answer=answer)
            return
        words = (call.details() or code.name).strip().splitlines()[0]
        trouble = classify(code, words)
        if trouble == "queue_full":
            self._balancer.ease(lane)
        elif trouble == "refused":
            self._balancer.refused(lane)
        else:
            self._balancer.release(lane)
        if attempt.given_up or self._closed:
            self._end(attempt)
            return
        if trouble in ("unreachable", "cut_off", "stopping", "region_lost"):
            self._balancer.drop(lane, words)
        self._tally.count("cut_off" if trouble == "region_lost" else trouble)
        if trouble == "refused" and (flight.refused_by or len(self._balancer.lanes) == 1):
            self._end(attempt, failure=words)
            return
        if trouble == "queue_full":
            flight.refusals += 1
            tries, most = flight.refusals, MOST_REFUSALS
        else:
            flight.troubles += 1
            tries, most = flight.troubles, MOST_TRIES
            flight.avoid = lane
        if trouble == "refused":
            flight.refused_by = lane  # what is wrong may be the server, not the clip: another is asked once
        if tries >= most:
            self._end(attempt, failure=f"{words} (tried {flight.tries} times)")
        else:
            # A server that stops says so before it takes anything on, and the others are as able as before.
            self._end(attempt, again_in=0.0 if trouble == "stopping" and tries == 1 else back_off(tries))

    def _end(
        self,
        attempt: _Try,
        answer: Answer | None = None,
        failure: str | None = None,
        again_in: float | None = None,
    ) -> None:
        """Close a try with what it brought; nothing, where another try of the clip is under way or has been made."""
        flight = attempt.flight
        with self._changed:
            self._open.pop(attempt, None)
            flight.calls -= 1
            if not flight.done and not self._closed:
                if answer is not None:
                    self._chunk.answers.append(answer)
                elif failure is not None:
                    self._chunk.failures.append((flight.index, "infer", failure))
                elif again_in is not None:
                    heapq.heappush(self._paused, (time.perf_counter() + again_in, id(flight), flight))
                if answer is not None or failure is not None:
                    flight.done = True
                    self._undone -= 1
                    self._tally.done()
            if flight.done and not flight.calls:
                flight.slots.give_back(flight.slot)
            self._changed.notify()

    def _mend(self) -> None:
        """Let pauses end, and give up tries that took too long."""
        now = time.perf_counter()
        late: list[_Try] = []
        with self._changed:
            while self._paused and self._paused[0][0] <= now:
                self._to_send.appendleft(heapq.heappop(self._paused)[2])
            if now >= self._look_at:
                self._look_at = now + _TICK_S
                late = [attempt for attempt in self._open if attempt.expires <= now]
            for attempt in late:
                self._give_up(attempt)
        for attempt in late:
            self._tally.count("timed_out")
            self._balancer.suspect(attempt.lane)

    def _give_up(self, attempt: _Try) -> None:
        """Try a clip elsewhere while the answer to this try may still come; call it with the lock held."""
        del self._open[attempt]
        attempt.given_up = True
        flight = attempt.flight
        if flight.done:
            return
        flight.troubles += 1
        flight.avoid = attempt.lane
        if flight.troubles < MOST_TRIES:
            heapq.heappush(self._paused, (time.perf_counter() + back_off(flight.troubles), id(flight), flight))
            return
        limit = attempt.expires - attempt.sent
        self._chunk.failures.append(
            (flight.index, "infer", f"no answer within {limit:.0f} s (tried {flight.tries} times)")
        )
        flight.done = True
        self._undone -= 1
        self._tally.done()
