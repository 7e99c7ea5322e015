"""The process that sends: LoadGen says when, gRPC sends, the answers go back to LoadGen.

It is a process of its own because LoadGen cannot be stopped before its end but with its process, and so that nothing
else takes the interpreter's lock. `client.Driver` starts it as `python -m arch_harness.load.sending.driver FD`.

LoadGen's thread hands each clip over and returns: the requests are serialised beforehand, and gRPC's own threads send
them and take the answers.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import grpc
import mlperf_loadgen
import numpy as np
from arch_common.errors import first_line

from arch_harness.load.sending.messages import Ended, Lost, Order, Setup
from arch_harness.streaming.wire import INFER, MalformedError, classify, read_answer, request_body, request_head

if TYPE_CHECKING:
    from arch_harness.triton.endpoint import Endpoint

TIMEOUT_S = 120.0
"""Of a request; one that is not answered by then has failed."""

_LOST = ("unreachable", "cut_off", "stopping", "shared_memory_lost")
_MOST_IN_A_ROW = 20  # failures before any answer: the model answers nothing at all


@dataclass(eq=False)
class _Way:
    endpoint: Endpoint
    call: Any
    outstanding: int = 0


class _Sender:
    def __init__(self, setup: Setup, answer: Connection) -> None:
        self._answer = answer
        self._ways = [_Way(one, one.channel().unary_unary(INFER)) for one in setup.endpoints]
        self._job = setup.job
        self.bodies = _bodies(setup)
        self._lock = threading.Lock()
        self.begin(None)

    def begin(self, most_in_flight: int | None) -> None:
        self.ended = Ended()
        self._most = most_in_flight
        self._waiting: deque[tuple[int, int, int]] = deque()
        self._under_way = 0
        self._issued = 0
        self._answered = 0

    def issue(self, query: Sequence[Any]) -> None:
        """Take a query from LoadGen; does not wait."""
        with self._lock:
            self.ended.first = self.ended.first or time.time()
            for sample in query:
                self._waiting.append((self._issued, sample.id, sample.index))
                self._issued += 1
        self._send()

    def _send(self) -> None:
        while True:
            with self._lock:
                if not self._waiting or (self._most is not None and self._under_way >= self._most):
                    return
                number, response, clip = self._waiting.popleft()
                # Among equals by chance: many workers with a clip or two each would all begin with the first.
                way = min(self._ways, key=lambda way: (way.outstanding, random.random()))  # noqa: S311
                way.outstanding += 1
                self._under_way += 1
            call = way.call.future(self.bodies[clip], timeout=TIMEOUT_S, metadata=way.endpoint.headers)
            call.add_done_callback(partial(self._done, way, number, response))

    def _done(self, way: _Way, number: int, response: int, call: Any) -> None:
        code = call.code()
        reason = None
        if code is grpc.StatusCode.OK:
            try:
                read_answer(self._job, call.result())
            except MalformedError as error:
                reason = str(error)
        else:
            words = first_line(call.details(), code.name)
            trouble = classify(code, words)
            if trouble in _LOST:
                self._give_up(f"the server at {way.endpoint.address} was lost: {words}")
            reason = f"no answer in {TIMEOUT_S:.0f} s" if trouble == "timed_out" else words
        with self._lock:  # before LoadGen knows: with its last sample the run ends, and what is known of it is sent
            way.outstanding -= 1
            self._under_way -= 1
            if reason is None:
                self._answered += 1
            else:
                self.ended.failed.append(number)
                self.ended.reasons[reason] = self.ended.reasons.get(reason, 0) + 1
            hopeless = not self._answered and len(self.ended.failed) >= _MOST_IN_A_ROW
        if hopeless:
            self._give_up(f"the server at {way.endpoint.address} answers no clip: {reason}")
        mlperf_loadgen.QuerySamplesComplete([mlperf_loadgen.QuerySampleResponse(response, 0, 0)])
        if self._most is not None:
            self._send()

    def _give_up(self, reason: str) -> None:
        with self._lock:  # held to the end: the first reason is the one that counts
            self._answer.send(Lost(reason))
            os._exit(1)


def _bodies(setup: Setup) -> list[bytes]:
    """The serialised request of each clip, which holds its audio or says where it is."""
    rate = setup.job.sample_rate
    own = [replace(setup.job, max_seconds=samples / rate) for samples in setup.lengths]
    if setup.shared is not None:
        places = zip(own, setup.shared.starts, strict=True)
        return [request_head(job, setup.shared.region, start) for job, start in places]
    clips = np.split(np.fromfile(setup.clips, dtype=np.float32), np.cumsum(setup.lengths)[:-1])
    return [request_body(request_head(job), clip, len(clip)) for job, clip in zip(own, clips, strict=True)]


def _run(sender: _Sender, order: Order) -> Ended:
    settings = mlperf_loadgen.TestSettings()
    settings.scenario = getattr(mlperf_loadgen.TestScenario, order.scenario)
    settings.mode = mlperf_loadgen.TestMode.PerformanceOnly
    for name, value in order.settings.items():
        setattr(settings, name, value)
    logs = mlperf_loadgen.LogSettings()
    logs.log_output.outdir = str(order.folder)
    logs.log_output.copy_summary_to_stdout = False
    logs.enable_trace = True  # where every sample's times are
    sender.begin(order.most_in_flight)
    sut = mlperf_loadgen.ConstructSUT(sender.issue, lambda: None)
    count = len(sender.bodies)
    library = mlperf_loadgen.ConstructQSL(count, count, lambda _: None, lambda _: None)
    time.sleep(max(0.0, order.begin - time.time()))
    try:
        # A file of that name in the working directory would change the settings.
        nowhere = str(order.folder / "no-audit.config")
        mlperf_loadgen.StartTestWithLogSettings(sut, library, settings, logs, nowhere)
    finally:
        mlperf_loadgen.DestroyQSL(library)
        mlperf_loadgen.DestroySUT(sut)
    return sender.ended


def _end_with_parent() -> None:
    """End as soon as the standard input does: whoever started this is gone, or has enough."""
    sys.stdin.buffer.read()
    os._exit(1)


def main() -> None:
    """Take a setup and then orders through a connection, until it is closed."""
    # Ctrl-C goes to all of a terminal's processes; this one is ended by the one that started it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    connection = Connection(int(sys.argv[1]))
    sender = _Sender(connection.recv(), connection)
    while True:
        try:
            order = connection.recv()
        except EOFError:
            return
        connection.send(_run(sender, order))


if __name__ == "__main__":
    main()
