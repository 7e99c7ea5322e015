"""Where a request goes: to the server with the fewest outstanding, of those alive and with a place free."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
from arch_common.errors import first_line
from tritonclient.grpc import service_pb2, service_pb2_grpc

from arch_harness.streaming.wire import INFER

if TYPE_CHECKING:
    from arch_harness.triton.endpoint import Endpoint

NO_SERVER_S = 60.0
"""How long to wait while every server is dead: longer than a restart with its models takes, shorter than anyone would
watch a benchmark that stands still."""

_CHECK_TIMEOUT_S = 5.0
_FIRST_CHECK_S = 0.1
_LAST_CHECK_S = 5.0
_REFUSALS = 5


def back_off(attempts: int, first_s: float = 0.05, most_s: float = 2.0) -> float:
    """Seconds to wait after so many attempts in vain: twice as long each time, at random between half and all of it."""
    return min(most_s, first_s * 2.0 ** min(attempts - 1, 30)) * random.uniform(0.5, 1.0)  # noqa: S311


@dataclass(eq=False)
class Connection:
    """The way to one server.

    Attributes:
        position: of its endpoint among the endpoints.
        call: sends a serialised request.
        outstanding: requests that it has not answered; those given up count until their call ends.
        limit: most outstanding, lowered while its queue is full.
        alive: whether requests may go to it.
        suspect: whether it is to be checked, alive or not.
        reads_shared_memory: whether it was told of our shared memory and could open it.
        answered: requests that it answered without an error.
        refused: requests that it answered with an error since the last without.
        dropped: times that it was taken for dead.
        reason: why it was last dropped.
    """

    position: int
    endpoint: Endpoint
    channel: grpc.Channel
    call: Any
    stub: Any
    limit: float
    outstanding: int = 0
    alive: bool = True
    suspect: bool = False
    reads_shared_memory: bool = False
    answered: int = 0
    refused: int = 0
    dropped: int = 0
    reason: str = ""
    checks: int = 0
    check_at: float = field(default=0.0)


def connections(endpoints: Sequence[Endpoint]) -> list[Connection]:
    """The ways to servers, not yet connected."""
    channels = [endpoint.channel() for endpoint in endpoints]
    return [
        Connection(
            position,
            endpoint,
            channel,
            channel.unary_unary(INFER),
            service_pb2_grpc.GRPCInferenceServiceStub(channel),
            1,
        )
        for position, (endpoint, channel) in enumerate(zip(endpoints, channels, strict=True))
    ]


class Balancer:
    """Shares requests out over servers; safe to use from several threads.

    Args:
        endpoints: the servers.
        revive: called in the checking thread with a connection whose server is ready again, before requests go to it.
    """

    def __init__(self, endpoints: Sequence[Endpoint], revive: Callable[[Connection], None] = lambda _: None) -> None:
        self._revive = revive
        lock = threading.Lock()
        self._changed = threading.Condition(lock)
        self._to_check = threading.Condition(lock)
        self._budget = 1
        self._most = 1
        self._closed = False
        self._model = ""
        self._dead_since: float | None = None
        self.connections = connections(endpoints)
        self._checker = threading.Thread(target=self._check, name="server health", daemon=True)
        self._checker.start()

    def ask_for(self, model: str) -> None:
        """Say which model a server must have ready to count as alive."""
        self._model = model

    def allow(self, budget: int) -> None:
        """Set how many requests may be outstanding, over all servers; each may have its share of them, rounded up."""
        with self._changed:
            most = -(-budget // len(self.connections))
            for connection in self.connections:
                # One whose queue was full keeps what it was lowered to.
                connection.limit = float(most) if connection.limit >= self._most else min(connection.limit, float(most))
            self._budget, self._most = budget, most
            self._changed.notify_all()

    def acquire(self, timeout_s: float, avoid: Connection | None = None) -> Connection | None:
        """A place at the best server, or None if none became free in time.

        Args:
            timeout_s: how long to wait for a place.
            avoid: a server that just failed the request; taken only if no other is alive.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                connection = self._best(avoid)
                if connection is not None:
                    connection.outstanding += 1
                    return connection
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(left)

    def _best(self, avoid: Connection | None) -> Connection | None:
        if sum(connection.outstanding for connection in self.connections) >= self._budget:
            return None
        alive = [connection for connection in self.connections if connection.alive]
        if avoid is not None and len(alive) > 1:
            alive = [connection for connection in alive if connection is not avoid]
        free = [connection for connection in alive if connection.outstanding < max(1, int(connection.limit))]
        # Among equals by chance: many workers with a place or two each would all begin with the first.
        return min(free, key=lambda connection: (connection.outstanding, random.random()), default=None)  # noqa: S311

    def answered(self, connection: Connection) -> None:
        """Free the place of a request that the server answered with an embedding."""
        with self._changed:
            connection.outstanding -= 1
            connection.answered += 1
            connection.refused = 0
            # One more after each round of answers, as TCP does.
            connection.limit = min(float(self._most), connection.limit + 1 / max(1.0, connection.limit))
            self._changed.notify_all()

    def release(self, connection: Connection) -> None:
        """Free the place of a request that got no embedding, or was not sent."""
        with self._changed:
            connection.outstanding -= 1
            self._changed.notify_all()

    def refused(self, connection: Connection) -> None:
        """Free the place of a request that the server answered with an error; after several in a row, check it."""
        with self._changed:
            connection.outstanding -= 1
            connection.refused += 1
            if connection.refused % _REFUSALS == 0:
                connection.suspect = True
                self._to_check.notify()
            self._changed.notify_all()

    def ease(self, connection: Connection) -> None:
        """Free the place of a request for which the server's queue had no room, and send it fewer at a time."""
        with self._changed:
            connection.outstanding -= 1
            # Not below what it holds: the many that one full queue refuses at once are one sign, not many.
            connection.limit = max(1.0, min(connection.limit, max(connection.limit / 2, float(connection.outstanding))))
            self._changed.notify_all()

    def drop(self, connection: Connection, reason: str) -> None:
        """Send nothing to a server until it is ready again."""
        with self._changed:
            if connection.alive:
                connection.alive, connection.reason, connection.checks = False, reason, 0
                connection.dropped += 1
                connection.check_at = time.monotonic() + back_off(1, _FIRST_CHECK_S)
            if self._dead_since is None and not any(other.alive for other in self.connections):
                self._dead_since = time.monotonic()
            self._to_check.notify()
            self._changed.notify_all()

    def suspect(self, connection: Connection) -> None:
        """Ask a server that did not answer in time whether it is alive, and drop it if it does not say so."""
        with self._changed:
            connection.suspect = True
            self._to_check.notify()

    def lost(self) -> str | None:
        """Why the servers must be given up, all of them; None while one is alive or may come back."""
        with self._changed:
            if self._dead_since is None or time.monotonic() - self._dead_since < NO_SERVER_S:
                return None
            reasons = "; ".join(
                f"{connection.endpoint.address}: {connection.reason}" for connection in self.connections
            )
            return f"no server for {NO_SERVER_S:.0f} s ({reasons})"

    def waited_s(self) -> float:
        """Seconds for which every server has been dead; 0 while one is alive."""
        with self._changed:
            return 0.0 if self._dead_since is None else time.monotonic() - self._dead_since

    def close(self) -> None:
        """End the checks and the connections."""
        with self._changed:
            self._closed = True
            self._to_check.notify()
            self._changed.notify_all()
        for connection in self.connections:
            connection.channel.close()

    def _check(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                now = time.monotonic()
                due = [
                    connection
                    for connection in self.connections
                    if connection.suspect or (not connection.alive and connection.check_at <= now)
                ]
                if not due:
                    waits = [connection.check_at - now for connection in self.connections if not connection.alive]
                    self._to_check.wait(min(waits, default=None))
                    continue
            for connection in due:
                self._check_one(connection)

    def _check_one(self, connection: Connection) -> None:
        try:
            request = service_pb2.ModelReadyRequest(name=self._model)
            answer = connection.stub.ModelReady(request, timeout=_CHECK_TIMEOUT_S, metadata=connection.endpoint.headers)
            ready, reason = answer.ready, "its model is not ready"
            if ready and not connection.alive:
                self._revive(connection)
        except (grpc.RpcError, ValueError) as error:  # ValueError: the channel was closed meanwhile
            words = error.details() if isinstance(error, grpc.RpcError) else str(error)
            ready, reason = False, first_line(words, type(error).__name__)
        with self._changed:
            suspect, connection.suspect = connection.suspect, False
            if ready:
                connection.alive, connection.checks, self._dead_since = True, 0, None
            else:
                connection.checks += 1
                connection.check_at = time.monotonic() + back_off(connection.checks, _FIRST_CHECK_S, _LAST_CHECK_S)
            self._changed.notify_all()
        if suspect and not ready:
            self.drop(connection, reason)
