"""Where a request goes: to the server with the fewest outstanding, of those alive and with a place free."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from arch_harness.inference import INFER

if TYPE_CHECKING:
    from arch_harness.triton import Target

NO_SERVER_S = 60.0
"""How long to wait while every server is dead: longer than a restart with its models takes, shorter than anyone would
watch a benchmark that stands still."""

_CHECK_TIMEOUT_S = 5.0
_FIRST_CHECK_S = 0.1
_LAST_CHECK_S = 5.0
_REFUSALS = 5


def back_off(tries: int, first_s: float = 0.05, most_s: float = 2.0) -> float:
    """Seconds to wait after so many tries in vain: twice as long each time, at random between half and all of it."""
    return min(most_s, first_s * 2.0 ** min(tries - 1, 30)) * random.uniform(0.5, 1.0)  # noqa: S311


@dataclass(eq=False)
class Lane:
    """The way to one server.

    Attributes:
        position: of its target among the targets.
        call: sends a serialised request.
        outstanding: requests that it has not answered; those given up count until their call ends.
        limit: most outstanding, lowered while its queue is full.
        alive: whether requests may go to it.
        suspect: whether it is to be checked, alive or not.
        reads_regions: whether it was told of our shared memory and could open it.
        answered: requests that it answered without an error.
        refused: requests that it answered with an error since the last without.
        dropped: times that it was taken for dead.
        reason: why it was last dropped.
    """

    position: int
    target: Target
    channel: grpc.Channel
    call: Any
    stub: Any
    limit: float
    outstanding: int = 0
    alive: bool = True
    suspect: bool = False
    reads_regions: bool = False
    answered: int = 0
    refused: int = 0
    dropped: int = 0
    reason: str = ""
    checks: int = 0
    check_at: float = field(default=0.0)


class Balancer:
    """Shares requests out over servers; safe to use from several threads.

    Args:
        targets: the servers.
        revive: called in the checking thread with a lane whose server is ready again, before requests go to it.
    """

    def __init__(self, targets: Sequence[Target], revive: Callable[[Lane], None] = lambda _lane: None) -> None:
        self._revive = revive
        lock = threading.Lock()
        self._changed = threading.Condition(lock)
        self._to_check = threading.Condition(lock)
        self._budget = 1
        self._most = 1
        self._closed = False
        self._model = ""
        self._dead_since: float | None = None
        self.lanes = [self._lane(position, target) for position, target in enumerate(targets)]
        self._checker = threading.Thread(target=self._check, name="server health", daemon=True)
        self._checker.start()

    def _lane(self, position: int, target: Target) -> Lane:
        channel = target.channel()
        return Lane(
            position, target, channel, channel.unary_unary(INFER), service_pb2_grpc.GRPCInferenceServiceStub(channel), 1
        )

    def ask_for(self, model: str) -> None:
        """Say which model a server must have ready to count as alive."""
        self._model = model

    def allow(self, budget: int) -> None:
        """Set how many requests may be outstanding, over all servers; each may have its share of them, rounded up."""
        with self._changed:
            most = -(-budget // len(self.lanes))
            for lane in self.lanes:
                # One whose queue was full keeps what it was lowered to.
                lane.limit = float(most) if lane.limit >= self._most else min(lane.limit, float(most))
            self._budget, self._most = budget, most
            self._changed.notify_all()

    def acquire(self, timeout_s: float, avoid: Lane | None = None) -> Lane | None:
        """A place at the best server, or None if none became free in time.

        Args:
            timeout_s: how long to wait for a place.
            avoid: a server that just failed the request; taken only if no other is alive.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                lane = self._best(avoid)
                if lane is not None:
                    lane.outstanding += 1
                    return lane
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(left)

    def _best(self, avoid: Lane | None) -> Lane | None:
        if sum(lane.outstanding for lane in self.lanes) >= self._budget:
            return None
        alive = [lane for lane in self.lanes if lane.alive]
        if avoid is not None and len(alive) > 1:
            alive = [lane for lane in alive if lane is not avoid]
        free = [lane for lane in alive if lane.outstanding < max(1, int(lane.limit))]
        # Among equals by chance: many workers with a place or two each would all begin with the first.
        return min(free, key=lambda lane: (lane.outstanding, random.random()), default=None)  # noqa: S311

    def answered(self, lane: Lane) -> None:
        """Free the place of a request that the server answered with an embedding."""
        with self._changed:
            lane.outstanding -= 1
            lane.answered += 1
            lane.refused = 0
            # One more after each round of answers, as TCP does.
            lane.limit = min(float(self._most), lane.limit + 1 / max(1.0, lane.limit))
            self._changed.notify_all()

    def release(self, lane: Lane) -> None:
        """Free the place of a request that got no embedding, or was not sent."""
        with self._changed:
            lane.outstanding -= 1
            self._changed.notify_all()

    def refused(self, lane: Lane) -> None:
        """Free the place of a request that the server answered with an error; after several in a row, check it."""
        with self._changed:
            lane.outstanding -= 1
            lane.refused += 1
            if lane.refused % _REFUSALS == 0:
                lane.suspect = True
                self._to_check.notify()
            self._changed.notify_all()

    def ease(self, lane: Lane) -> None:
        """Free the place of a request for which the server's queue had no room, and send it fewer at a time."""
        with self._changed:
            lane.outstanding -= 1
            # Not below what it holds: the many that one full queue refuses at once are one sign, not many.
            lane.limit = max(1.0, min(lane.limit, max(lane.limit / 2, float(lane.outstanding))))
            self._changed.notify_all()

    def drop(self, lane: Lane, reason: str) -> None:
        """Send nothing to a server until it is ready again."""
        with self._changed:
            if lane.alive:
                lane.alive, lane.reason, lane.checks = False, reason, 0
                lane.dropped += 1
                lane.check_at = time.monotonic() + back_off(1, _FIRST_CHECK_S)
            if self._dead_since is None and not any(other.alive for other in self.lanes):
                self._dead_since = time.monotonic()
            self._to_check.notify()
            self._changed.notify_all()

    def suspect(self, lane: Lane) -> None:
        """Ask a server that did not answer in time whether it is alive, and drop it if it does not say so."""
        with self._changed:
            lane.suspect = True
            self._to_check.notify()

    def lost(self) -> str | None:
        """Why the servers must be given up, all of them; None while one is alive or may come back."""
        with self._changed:
            if self._dead_since is None or time.monotonic() - self._dead_since < NO_SERVER_S:
                return None
            reasons = "; ".join(f"{lane.target.address}: {lane.reason}" for lane in self.lanes)
            return f"no server for {NO_SERVER_S:.0f} s ({reasons})"

    def close(self) -> None:
        """End the checks and the connections."""
        with self._changed:
            self._closed = True
            self._to_check.notify()
            self._changed.notify_all()
        for lane in self.lanes:
            lane.channel.close()

    def _check(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                now = time.monotonic()
                due = [lane for lane in self.lanes if lane.suspect or (not lane.alive and lane.check_at <= now)]
                if not due:
                    waits = [lane.check_at - now for lane in self.lanes if not lane.alive]
                    self._to_check.wait(min(waits, default=None))
                    continue
            for lane in due:
                self._check_one(lane)

    def _check_one(self, lane: Lane) -> None:
        try:
            request = service_pb2.ModelReadyRequest(name=self._model)
            answer = lane.stub.ModelReady(request, timeout=_CHECK_TIMEOUT_S, metadata=lane.target.headers)
            ready, reason = answer.ready, "its model is not ready"
            if ready and not lane.alive:
                self._revive(lane)
        except (grpc.RpcError, ValueError) as error:  # ValueError: the channel was closed meanwhile
            ready, reason = False, error.details() if isinstance(error, grpc.RpcError) else str(error)
        with self._changed:
            suspect, lane.suspect = lane.suspect, False
            if ready:
                lane.alive, lane.checks, self._dead_since = True, 0, None
            else:
                lane.checks += 1
                lane.check_at = time.monotonic() + back_off(lane.checks, _FIRST_CHECK_S, _LAST_CHECK_S)
            self._changed.notify_all()
        if suspect and not ready:
            self.drop(lane, reason)
