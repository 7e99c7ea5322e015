"""Processes that send one load together, by Ray: on this machine, or on the nodes of a cluster.

Each has a LoadGen of its own, which sends its share: streams of arrivals that are random and independent (Poisson
processes) make one of the sum of their rates. Latencies are taken by the clock of the process that sends and waits, so
that no clock is compared with another's; but all must send in the same time, so clocks are compared for the beginning.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from arch_common import interrupt
from arch_common.errors import ArchError, last_line

from arch_harness.load.logs import Part
from arch_harness.load.sending.client import Clips, writing_logs
from arch_harness.load.sending.messages import Order
from arch_harness.load.sending.remote import RemoteSender, SenderMachine
from arch_harness.results.measurement import Transport
from arch_harness.streaming.actors import START_S, check_ray, connect, disconnect, own_processes
from arch_harness.streaming.cluster.nodes import Node, live_nodes, place_of_this_process
from arch_harness.streaming.cluster.reach import check_reach
from arch_harness.streaming.cluster.versions import check_versions, checked_node
from arch_harness.streaming.wire import Job
from arch_harness.triton.endpoint import Endpoint

if TYPE_CHECKING:
    import psutil

_LOADGEN = "mlcommons-loadgen"
_LOOK_S = 0.2
_CLOSE_S = 10.0
_CLOCK_CALLS = 20
_BEGIN_S = 0.3  # in which an order reaches all
_PIECE = 2**24  # bytes of audio in a call
# Of LoadGen's settings, those that the processes divide among them.
_DIVIDED = ("server_target_qps", "offline_expected_qps")
_LEAST_WAITING = 64
_SEEDS = ("schedule_rng_seed", "sample_index_rng_seed", "qsl_rng_seed")
_NEXT_SEED = 1_000_003
_TOGETHER = ("Server", "Offline")
_SURELY = 4.0  # standard deviations


@dataclass(frozen=True)
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
        machine: that it runs on.
        node: of a cluster; None where Ray was started here.
        clock: of its machine, as it was compared last.
        round_trips: ms to the servers on other machines, by their addresses.
    """

    actor: Any
    machine: SenderMachine
    node: Node | None
    clock: Clock = field(default_factory=lambda: Clock(0.0, 0.0))
    round_trips: Mapping[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """For an error: where it was, if that is not here."""
        return "a process that sends" if self.node is None else f"a process that sends on node {self.node.name}"


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
        self._ray: dict[str, psutil.Process] = {}
        self._brought: Path | None = None
        self.senders: list[SenderHandle] = []

    def __enter__(self) -> Fleet:
        connect(self._ray_address, self._count)
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _start(self) -> None:
        import ray

        self._ray = own_processes()
        self._here = place_of_this_process()
        # A second thread, so that one can be closed while LoadGen runs in it.
        options: dict[str, Any] = {"num_cpus": 1, "max_concurrency": 2}
        nodes: dict[str, Node] = {}
        if self._ray_address is not None:
            nodes = live_nodes()
            check_versions(list(nodes.values()), [_LOADGEN])
            options["scheduling_strategy"] = "SPREAD"
        actor = ray.remote(**options)(RemoteSender)
        self.senders = [SenderHandle(actor.remote(), SenderMachine.unknown(), None) for _ in range(self._count)]
        checked = set()
        for one in self.senders:
            one.machine = self.answer(one, one.actor.machine.remote())
            if self._ray_address is not None:
                one.node = checked_node(one.machine.place, nodes, [_LOADGEN])
                if one.node.id not in checked:
                    self._check(one, one.node)
                    checked.add(one.node.id)
            one.round_trips = self.answer(one, one.actor.round_trips.remote(self._endpoints))
        self.compare_clocks()

    def _check(self, one: SenderHandle, node: Node) -> None:
        def ask() -> list[str]:
            missing: list[str] = self.answer(one, one.actor.unreached.remote(self._endpoints))
            return missing

        check_reach(self._endpoints, node.name, one.machine.place.network == self._here.network, ask)

    def _end(self) -> None:
        """End all that was started, whatever became of it."""
        import ray

        try:
            with contextlib.suppress(Exception):  # one that does not answer is killed all the same
                closing = [one.actor.close.remote() for one in self.senders]
                ray.wait(closing, num_returns=len(closing), timeout=_CLOSE_S)
            for one in self.senders:
                with contextlib.suppress(Exception):
                    ray.kill(one.actor)
        finally:
            disconnect()

    def compare_clocks(self) -> None:
        """Compare each machine's clock with this one's."""
        for one in self.senders:
            found = []
            for _ in range(_CLOCK_CALLS):
                asked = time.time()
                there = self.answer(one, one.actor.now.remote())
                answered = time.time()
                found.append(Clock(there - (asked + answered) / 2, (answered - asked) / 2))
            one.clock = min(found, key=lambda clock: clock.uncertain)

    @contextmanager
    def sending(
        self, endpoints: Sequence[Sequence[Endpoint]], job: Job, clips: Clips, transport: Transport
    ) -> Iterator[FleetDriver]:
        """All of them ready to send clips to servers, each to its own, while the block lasts; each has sent a few.

        Raises:
            ArchError: if one or a server is lost, or a server cannot read its shared memory.
        """
        if self._brought != clips.file:
            self._bring(clips)
        opened = {
            one.actor.open.remote(own, job, transport): one for one, own in zip(self.senders, endpoints, strict=True)
        }
        self.answers(opened)
        yield FleetDriver(self)
        # Waited for: what is opened next must not be what is shut. Where the block fails, all ends with the fleet.
        self.answers({one.actor.shut.remote(): one for one in self.senders})

    def _bring(self, clips: Clips) -> None:
        """Have all hold the clips, which go to each other machine once."""
        files: dict[str, Path] = {self._here.machine: clips.file}
        for one in self.senders:
            machine = one.machine.place.machine
            known = files.get(machine)
            files[machine] = self.answer(one, one.actor.hold.remote(clips.lengths, clips.sample_rate, known))
            if known is None:
                with clips.file.open("rb") as file:
                    while piece := file.read(_PIECE):
                        self.answer(one, one.actor.append.remote(piece))
        self._brought = clips.file

    @contextmanager
    def null_servers(self, opener: Callable[[], AbstractContextManager[str]]) -> Iterator[list[Endpoint]]:
        """A server that answers at once on every machine of the fleet, while the block lasts: one for each process.

        Args:
            opener: starts one and gives its address; goes to the machines as it is.

        Raises:
            ArchError: if one does not start.
        """
        addresses: dict[str, str] = {}
        started: list[SenderHandle] = []
        try:
            for one in self.senders:
                machine = one.machine.place.machine
                if machine not in addresses:
                    addresses[machine] = self.answer(one, one.actor.null.remote(opener))
                    started.append(one)
            yield [Endpoint(addresses[one.machine.place.machine], started_by_arch=True) for one in self.senders]
        except BaseException:
            with contextlib.suppress(ArchError):  # what failed first is what is told
                self._end_null(started)
            raise
        self._end_null(started)

    def _end_null(self, started: Sequence[SenderHandle]) -> None:
        self.answers({one.actor.end_null.remote(): one for one in started})

    def answer(self, one: SenderHandle, reference: Any) -> Any:
        """What a process answers, as `answers`."""
        return self.answers({reference: one})[0]

    def answers(self, asked: Mapping[Any, SenderHandle], timeout_s: float | None = START_S) -> list[Any]:
        """What processes answer, in the order in which they were asked; looked at often enough for Ctrl-C.

        Raises:
            ArchError: what the first raised that failed, or that it has ended or does not answer.
        """
        import ray

        ends = math.inf if timeout_s is None else time.monotonic() + timeout_s
        waiting, found = list(asked), {}
        while waiting:
            done, waiting = ray.wait(waiting, timeout=_LOOK_S)
            for reference in done:
                found[reference] = _result(asked[reference], reference)
            interrupt.check()
            check_ray(self._ray)
            if waiting and time.monotonic() > ends:
                raise ArchError(f"{asked[waiting[0]].name} does not answer for {timeout_s:.0f} s")
        return [found[reference] for reference in asked]


class FleetDriver:
    """Has all processes of a fleet send one run together, as `client.Driver` has one."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def parts(self, order: Order) -> list[Part]:
        """Have LoadGen run once in each, with its share of the rate; alone in the first where answers are waited for.

        Raises:
            ArchError: if a server or a process is lost, or its logs cannot be written.
        """
        senders = self._fleet.senders if order.scenario in _TOGETHER else self._fleet.senders[:1]
        if len(senders) > 1:
            self._fleet.compare_clocks()
        begin = time.time() + _BEGIN_S
        most = order.most_in_flight
        asked = {}
        for number, one in enumerate(senders):
            own = replace(
                order,
                settings=_share(order.settings, number, len(senders)),
                most_in_flight=None if most is None else math.ceil(most / len(senders)),
                begin=begin + one.clock.offset,
            )
            asked[one.actor.run.remote(own)] = one
        parts = []
        for number, ((part, logs), one) in enumerate(zip(self._fleet.answers(asked, None), senders, strict=True), 1):
            _write(order.folder / str(number) if len(senders) > 1 else order.folder, logs)
            parts.append(replace(part, began=part.began - one.clock.offset))
        return parts


def _share(settings: Mapping[str, float | int | bool], number: int, count: int) -> dict[str, float | int | bool]:
    """LoadGen's settings of one of several processes."""
    own = {name: value / count if name in _DIVIDED else value for name, value in settings.items()}
    for name in _SEEDS:
        if name in own:
            own[name] = int(own[name]) + number * _NEXT_SEED
    waiting = own.get("server_max_async_queries")
    if waiting is not None and count > 1:
        own["server_max_async_queries"] = max(_LEAST_WAITING, math.ceil(waiting / count))
    rate, queries = own.get("server_target_qps"), own.get("min_query_count", 0)
    if rate is not None and count > 1:
        # LoadGen sends on until it has its queries. All must end at one time, or the load thins out: so long that
        # hardly any process has too few of them by then.
        needed_ms = 1e3 * (queries + _SURELY * math.sqrt(queries)) / rate
        own["min_duration_ms"] = max(own.get("min_duration_ms", 0), math.ceil(needed_ms))
    return own


def _write(folder: Path, logs: dict[str, bytes]) -> None:
    with writing_logs(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in logs.items():
            (folder / name).write_bytes(content)


def _result(one: SenderHandle, reference: Any) -> Any:
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ArchError):
            raise error.cause from None
        raise ArchError(f"{one.name} failed: {last_line(str(error), 'no reason given')}") from error
    except ray.exceptions.RayError as error:
        raise ArchError(f"{one.name} was lost: {last_line(str(error), type(error).__name__)}") from error
