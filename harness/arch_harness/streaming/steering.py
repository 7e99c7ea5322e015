"""Orders to the workers: what load they put on the servers now, as the plan of the pass wants it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from arch_harness.measuring.collector import statistics_of
from arch_harness.measuring.windows import Progress
from arch_harness.streaming.actors import WorkerHandle
from arch_harness.streaming.loads.pacer import Pace
from arch_harness.streaming.pass_state import PassState
from arch_harness.streaming.worker import Orders
from arch_harness.triton.server import Server

_ANSWER_S = 5.0


class Steering:
    """Steers a pass.

    Args:
        handles: the workers; one that dies is replaced in this list, and `gone` until then.
        servers: that they send to.
    """

    def __init__(self, handles: Sequence[WorkerHandle], servers: Sequence[Server]) -> None:
        self._handles = handles
        self._servers = servers

    def begin(self, state: PassState) -> None:
        """Open the first window; what the workers did in the pass before does not count in this one."""
        self.exchange_status(state)
        for handle in self._handles:
            handle.begin()
        state.open(self.progress(), statistics_of(self._servers, state.job.model))

    def progress(self) -> list[Progress]:
        """How far the workers were when they last told."""
        return [Progress(handle.done, handle.last_done) for handle in self._handles]

    def steer(self, state: PassState) -> None:
        """Learn how far the workers are, and have them put on the servers what the plan wants."""
        self.exchange_status(state)
        drops = sum(handle.dropped(server) for handle in self._handles for server in range(len(self._servers)))
        down = sum(handle.last.dead for handle in self._present())
        # Lost, or back: the other servers, or all, give another throughput from now on.
        others = drops > state.drops or down != state.down
        state.drops, state.down = drops, down
        waits = any(handle.last.waited_s > 0 for handle in self._present())
        # A worker that does not answer has its part of the requests in flight, or had.
        if others or waits or any(handle.asked for handle in self._present()):
            state.disturb(servers=others)
        if state.advance(self.progress(), self._starving(state)) or others:
            self.next_window(state)

    def next_window(self, state: PassState) -> None:
        """Begin a window with the load that now is."""
        self.exchange_status(state, state.window + 1)
        state.open(self.progress(), statistics_of(self._servers, state.job.model))

    def _starving(self, state: PassState) -> bool:
        """Whether a worker may soon have nothing to send."""
        owners = [id(owner) for owner, _ in state.running.values()]
        return state.exhausted and min((owners.count(id(handle)) for handle in self._present()), default=0) <= 1

    def _present(self) -> list[WorkerHandle]:
        return [handle for handle in self._handles if not handle.gone]

    def _orders(self, state: PassState, window: int) -> list[Orders]:
        """What each worker that is there is to do."""
        count, load = len(self._present()), state.load
        enough = state.over and state.clips is None
        return [
            Orders(
                budget=load.concurrency // count + (rank < load.concurrency % count),
                window=window,
                pace=None if load.rate is None else Pace(load.rate / count, rank),
                enough=enough,
            )
            for rank in range(count)
        ]

    def exchange_status(self, state: PassState, window: int | None = None) -> None:
        """Give the workers their orders, and learn how they stood at that moment."""
        import ray

        orders = self._orders(state, max(0, state.window) if window is None else window)
        asked: dict[Any, WorkerHandle] = {}
        late: dict[Any, WorkerHandle] = {}
        for handle, order in zip(self._present(), orders, strict=True):
            # One that has not answered yet, on a machine that is lost perhaps, holds nobody up a second time.
            (late if handle.asked else asked)[handle.asked or handle.actor.status.remote(order)] = handle
            handle.asked = None
        arrived: list[Any] = []
        for references, patience in ((asked, _ANSWER_S), (late, 0.0)):
            if references:
                arrived += ray.wait(list(references), num_returns=len(references), timeout=patience)[0]
        everyone = asked | late
        for reference in everyone.keys() - set(arrived):
            everyone[reference].asked = reference
        for reference in arrived:
            with contextlib.suppress(ray.exceptions.RayError):  # one that died is found by its chunks
                everyone[reference].last = ray.get(reference)
