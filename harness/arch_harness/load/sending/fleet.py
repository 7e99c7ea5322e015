"""Processes that send one load together, by Ray: on this machine, or on the nodes of a cluster.

Each has a LoadGen of its own, which sends its share: streams of arrivals that are random and independent (Poisson
processes) make one of the sum of their rates. Latencies are taken by the clock of the process that sends and waits, so
that no clock is compared with another's; but all must send in the same time, so clocks are compared for the beginning.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from arch_common import interrupt
from arch_common.errors import ArchError, last_line

from arch_harness.load.logs import Part
from arch_harness.load.sending.client import Clips
from arch_harness.load.sending.messages import Order
from arch_harness.load.sending.remote import RemoteSender
from arch_harness.results.measurement import Transport
from arch_harness.streaming.actors import START_S, connect, disconnect
from arch_harness.streaming.cluster.nodes import Node, Place, live_nodes, place_of_this_process
from arch_harness.streaming.cluster.reach import check_reach
from arch_harness.streaming.cluster.versions import check_versions
from arch_harness.streaming.wire import Job
from arch_harness.triton.endpoint import Endpoint

_LOOK_S = 0.2
_CLOCK_CALLS = 20
_BEGIN_S = 0.3  # in which an order reaches all
_PIECE = 2**24  # bytes of audio in a call
# Of LoadGen's settings, those that the processes divide among them.
_DIVIDED = ("server_target_qps", "offline_expected_qps")
_LEAST_WAITING = 64
_SEEDS = ("schedule_rng_seed", "sample_index_rng_seed", "qsl_rng_seed")
_NEXT_SEED = 1_000_003
_TOGETHER = ("Server", "Offline")


@dataclass
class Clock:
    """How far a machine's clock is ahead of this one's, in seconds: that of the fastest of several calls.

    Attributes:
        offset: what to add to this machine's time; the call was answered in its middle.
        uncertain: half of what the call took.
    """

    offset: float
    uncertain: float


@dataclass
class SenderHandle:
    """A process of the fleet, and where it runs.

    Attributes:
        actor: its handle.
        place: where it runs.
        node: of a cluster; None where Ray was started here.
        clock: of its machine.
    """

    actor: Any
    place: Place
    node: Node | None
    clock: Clock


class Fleet:
    """Starts the processes, sees that each node can do the work, and compares the clocks; a context manager.

    Args:
        count: of the processes.
        ray_address: of a Ray cluster; None starts Ray on this machine.
        endpoints: the servers.

    Raises:
        UsageError: on entry, if a node has other versions or does not reach a server, or the cluster is too small.
        ArchError: on entry, if a process does not start.
    """

    def __init__(self, count: int, ray_address: str | None, endpoints: Sequence[Endpoint]) -> None:
        self._count = count
        self._ray_address = ray_address
        self._endpoints = endpoints
        self.senders: list[SenderHandle] = []

    def __enter__(self) -> Fleet:
        import ray

        connect(self._ray_address, self._count)
        try:
            here = place_of_this_process()
            nodes: dict[str, Node] = {}
            options: dict[str, Any] = {"num_cpus": 1}
            if self._ray_address is not None:
                nodes = live_nodes()
                check_versions(list(nodes.values()))
                options["scheduling_strategy"] = "SPREAD"
            actors = [ray.remote(**options)(RemoteSender).remote() for _ in range(self._count)]
            for actor in actors:
                place = _answer(actor.place.remote(), START_S)
                self.senders.append(SenderHandle(actor, place, nodes.get(place.node), _clock_of(actor)))
            self._here = here
            self._check()
        except BaseException:
            disconnect()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        import ray

        closing = [one.actor.close.remote() for one in self.senders]
        ray.wait(closing, num_returns=len(closing), timeout=START_S if kind is None else _LOOK_S)
        for one in self.senders:
            ray.kill(one.actor)
        disconnect()

    def _check(self) -> None:
        seen = set()
        for one in self.senders:
            if one.node is None or one.node.id in seen:
                continue
            seen.add(one.node.id)
            asked = one.actor.unreached.remote(self._endpoints)
            same = one.place.network == self._here.network
            check_reach(self._endpoints, one.node.name, same, lambda asked=asked: _answer(asked, START_S))  # type: ignore[misc]

    @contextmanager
    def sending(
        self, endpoints: Sequence[Sequence[Endpoint]], job: Job, clips: Clips, transport: Transport
    ) -> Iterator[FleetDriver]:
        """All of them ready to send clips to servers, each to its own, while the block lasts.

        Raises:
            ArchError: if one is lost, or a server cannot read its shared memory.
        """
        for one in self.senders:
            local = one.place.machine == self._here.machine
            _answer(one.actor.hold.remote(clips.lengths, clips.sample_rate, clips.file if local else None), START_S)
            if not local:
                with clips.file.open("rb") as file:
                    while piece := file.read(_PIECE):
                        _answer(one.actor.append.remote(piece), START_S)
        opened = [one.actor.open.remote(own, job, transport) for one, own in zip(self.senders, endpoints, strict=True)]
        for answer in opened:
            _answer(answer, START_S)
        try:
            yield FleetDriver(self.senders)
        finally:
            for one in self.senders:
                one.actor.shut.remote()

    @contextmanager
    def null_servers(self, opener: Callable[[], AbstractContextManager[str]]) -> Iterator[list[Endpoint]]:
        """A server that answers at once on every machine of the fleet, while the block lasts: one for each process.

        Args:
            opener: starts one and gives its address; goes to the machines as it is.

        Raises:
            ArchError: if one does not start.
        """
        addresses: dict[str, str] = {}
        with ExitStack() as stack:
            for one in self.senders:
                if one.place.machine not in addresses:
                    addresses[one.place.machine] = _answer(one.actor.null.remote(opener), START_S)
                    stack.callback(_end_null, one.actor)
            yield [Endpoint(addresses[one.place.machine], started_by_arch=True) for one in self.senders]


class FleetDriver:
    """Has all processes of a fleet send one run together, as `client.Driver` has one."""

    def __init__(self, senders: Sequence[SenderHandle]) -> None:
        self._senders = senders

    def parts(self, order: Order) -> list[Part]:
        """Have LoadGen run once in each, with its share of the rate; alone in the first where answers are waited for.

        Raises:
            ArchError: if a server or a process is lost.
        """
        senders = self._senders if order.scenario in _TOGETHER else self._senders[:1]
        begin = time.time() + _BEGIN_S
        asked = []
        for number, one in enumerate(senders):
            most = order.most_in_flight
            own = replace(
                order,
                settings=_share(order.settings, number, len(senders)),
                most_in_flight=None if most is None else math.ceil(most / len(senders)),
                begin=begin + one.clock.offset,
            )
            asked.append(one.actor.run.remote(own))
        parts = []
        for number, (one, answer) in enumerate(zip(senders, asked, strict=True), 1):
            part, logs = _answer(answer, None)
            folder = order.folder / str(number) if len(senders) > 1 else order.folder
            _write(folder, logs)
            parts.append(replace(part, began=part.began - one.clock.offset))
        return parts


def _share(settings: dict[str, float | int | bool], number: int, count: int) -> dict[str, float | int | bool]:
    own = {name: value / count if name in _DIVIDED else value for name, value in settings.items()}
    for name in _SEEDS:
        if name in own:
            own[name] = int(own[name]) + number * _NEXT_SEED
    waiting = own.get("server_max_async_queries")
    if waiting is not None:
        own["server_max_async_queries"] = max(_LEAST_WAITING, math.ceil(waiting / count))
    return own


def _write(folder: Path, logs: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in logs.items():
        (folder / name).write_bytes(content)


def _end_null(actor: Any) -> None:
    _answer(actor.end_null.remote(), START_S)


def _clock_of(actor: Any) -> Clock:
    found = []
    for _ in range(_CLOCK_CALLS):
        asked = time.time()
        there = _answer(actor.now.remote(), START_S)
        answered = time.time()
        found.append(Clock(there - (asked + answered) / 2, (answered - asked) / 2))
    return min(found, key=lambda one: one.uncertain)


def _answer(reference: Any, timeout_s: float | None) -> Any:
    """What a process answers; looked at often enough for Ctrl-C.

    Raises:
        ArchError: what it raised, or that it has ended or does not answer.
    """
    import ray

    ends = math.inf if timeout_s is None else time.monotonic() + timeout_s
    while not ray.wait([reference], timeout=_LOOK_S)[0]:
        interrupt.check()
        if time.monotonic() > ends:
            raise ArchError(f"a process that is to send does not answer for {timeout_s:.0f} s")
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ArchError):
            raise error.cause from None
        raise ArchError(f"a process that sends failed: {last_line(str(error), 'no reason given')}") from error
    except ray.exceptions.RayError as error:
        raise ArchError(f"a process that sends was lost: {last_line(str(error), type(error).__name__)}") from error
