"""The workers of a pool: where they run, and who takes the place of one that died."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from arch_common.errors import ArchError, UsageError, last_line

from arch_harness.results.measurement import THREADS_PER_WORKER, NodeShare, Transport
from arch_harness.streaming.actors import (
    START_S,
    WorkerHandle,
    check_ray,
    connect,
    disconnect,
    own_processes,
    start_worker,
)
from arch_harness.streaming.cluster.files import FilePlaces, Files, FilesSeen, read_files
from arch_harness.streaming.cluster.nodes import Node, Place, live_nodes, place_of_this_process
from arch_harness.streaming.cluster.reach import check_reach
from arch_harness.streaming.cluster.versions import check_versions, checked_node
from arch_harness.triton.endpoint import Endpoint

if TYPE_CHECKING:
    import psutil

_ANSWER_S = 5.0
_LOOK_S = 600.0  # a million files of a network's file system
_TICK_S = 0.1
_STARTS_IN_VAIN = 5


class Crew:
    """Starts the workers, sees that each node of a cluster can do the work, and replaces workers that die.

    Args:
        endpoints: the servers.
        count: how many workers there are to be.
        ray_address: of a Ray cluster; None starts Ray on this machine.
        transport: of the audio.
        note: told of nodes that are lost, or that must be sent clips.

    Attributes:
        handles: the workers. One that died stands there, `gone`, until another has started: on a cluster whose nodes
            are fewer now that may be never.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        count: int,
        ray_address: str | None,
        transport: Transport,
        note: Callable[[str], None],
    ) -> None:
        self.handles: list[WorkerHandle] = []
        self._endpoints = endpoints
        self._count = count
        self._ray_address = ray_address
        self._transport = transport
        self._note = note
        self._files = FilePlaces(note)
        self._place = Place(0, "")
        self._ray: dict[str, psutil.Process] = {}
        self._nodes: dict[str, Node] = {}
        self._inspected: set[str] = set()
        self._lost: set[str] = set()
        self._ever_lost: set[str] = set()
        self._coming: dict[int, WorkerHandle] = {}
        self._in_vain = 0
        self._nobody_since: float | None = None

    @property
    def present(self) -> list[WorkerHandle]:
        """The workers that live."""
        return [handle for handle in self.handles if not handle.gone]

    def start(self) -> None:
        """Start all.

        Raises:
            UsageError: if a node cannot do the work: it has other versions, or does not reach a server.
            ArchError: if a worker does not start.
        """
        connect(self._ray_address, self._count)
        self._ray = own_processes()
        try:
            self._place = place_of_this_process()
            if self._ray_address is not None:
                self._nodes = live_nodes()
                check_versions(list(self._nodes.values()))
            self.handles += [self._start_worker() for _ in range(self._count)]
            for handle in self.handles:
                handle.wait_until_started()
                self._inspect(handle)
        except BaseException:
            disconnect()
            raise

    def end(self) -> None:
        """End all, and Ray or the connection to it."""
        import ray

        closing = [handle.actor.close.remote() for handle in self.present]
        with contextlib.suppress(Exception):  # one that does not answer is killed all the same
            ray.wait(closing, num_returns=len(closing), timeout=_ANSWER_S)
        for handle in [*self.handles, *self._coming.values()]:
            ray.kill(handle.actor)
        disconnect()

    def check_ray(self) -> None:
        """See whether Ray still runs, where it was started here.

        Raises:
            ArchError: if one of its processes has ended.
        """
        check_ray(self._ray)

    def muster(self, folder: Path, paths: Sequence[str]) -> None:
        """At the beginning of a pass over files: see who lives, and which nodes have the files.

        Raises:
            ArchError: if no worker lives or starts, or Ray has ended.
        """
        import ray

        self._files.begin(folder, paths)
        asked = {handle.actor.place.remote(): handle for handle in self.present}
        if asked:
            for reference in ray.wait(list(asked), num_returns=len(asked), timeout=_ANSWER_S)[0]:
                try:
                    ray.get(reference)
                except ray.exceptions.RayError:
                    self.lose(asked[reference])
        # On a machine of its own each will come, and figures of fewer would be of something else.
        while not self.present or (self._ray_address is None and self._coming):
            self.wait()
            for _ in self.admit():
                pass
        for handle in self.present:
            self._check_files(handle)

    def files_for(self, handle: WorkerHandle, folder: Path, paths: Sequence[str]) -> Files | None:
        """What a worker must be sent of files; None where its node has them."""
        return read_files(folder, paths) if self._files.lacks(handle.place.node) else None

    def lose(self, handle: WorkerHandle) -> bool:
        """A worker has died: start another; whether its whole node is lost, and it not to blame.

        Raises:
            ArchError: if Ray has ended.
        """
        import ray

        check_ray(self._ray)
        ray.kill(handle.actor)  # it may be only what it brought that was lost
        handle.gone = True
        self._coming[self.handles.index(handle)] = self._start_worker()
        node = self._nodes.get(handle.place.node)
        if node is None or (node.id not in self._lost and node.answers()):
            return False
        if node.id not in self._lost:
            self._lost.add(node.id)
            self._ever_lost.add(node.id)
            there = sum(one.place.node == node.id for one in self.handles)
            workers = "its worker had is" if there == 1 else f"its {there} workers had is"
            self._note(f"warning: node {node.name} is lost; what {workers} sent again")
        return True

    def admit(self) -> Iterator[tuple[WorkerHandle, WorkerHandle]]:
        """Take in those that have started meanwhile: pairs of one that had died, and the one in its stead.

        Raises:
            UsageError: if one runs on a node that cannot do the work, and nobody else is left.
            ArchError: if they do not start, again and again.
        """
        import ray

        for position, handle in list(self._coming.items()):
            if not ray.wait([handle.start], timeout=0)[0]:
                continue
            try:
                handle.wait_until_started()
                self._inspect(handle)
            except UsageError as error:
                if not self.present:
                    raise
                self._note(f"warning: a node that came later does no work: {error}")
                ray.kill(handle.actor)
                del self._coming[position]
                continue
            except ArchError:
                self._in_vain += 1
                if self._in_vain > _STARTS_IN_VAIN:
                    raise
                self._coming[position] = self._start_worker()
                continue
            self._check_files(handle)
            self._lost.discard(handle.place.node)
            del self._coming[position]
            self._in_vain, self._nobody_since = 0, None
            gone, self.handles[position] = self.handles[position], handle
            yield gone, handle

    def wait(self) -> None:
        """Wait for a moment for one that is to start, where nobody has work.

        Raises:
            ArchError: if nobody has lived for long.
        """
        import ray

        self._nobody_since = self._nobody_since or time.monotonic()
        if time.monotonic() - self._nobody_since > START_S:
            raise ArchError(f"no worker is left, and none could be started for {START_S:.0f} s: are nodes left?")
        ray.wait([handle.start for handle in self._coming.values()], timeout=_TICK_S)

    def shares(self, everyone: Sequence[WorkerHandle], clips: Counter[str], lost: Counter[str]) -> list[NodeShare]:
        """What each node of a cluster had of a pass; nothing where Ray was started here.

        Args:
            everyone: the workers of the pass, those that died too.
            clips: that were done, by node.
            lost: workers that died, by node.
        """
        workers = Counter(handle.place.node for handle in everyone)
        return [
            NodeShare(
                name=node.host,
                address=node.address,
                cores=node.cores,
                workers=workers[node.id],
                clips=clips[node.id],
                workers_lost=lost[node.id],
                lost=node.id in self._ever_lost,
                files_sent=self._files.lacks(node.id),
            )
            for node in self._nodes.values()
            if workers[node.id]
        ]

    def _start_worker(self) -> WorkerHandle:
        spread = self._ray_address is not None
        return start_worker(self._endpoints, self._transport, THREADS_PER_WORKER, spread, self._place.machine)

    def _inspect(self, handle: WorkerHandle) -> None:
        """See whether the node of a worker can do the work, once for each.

        Raises:
            UsageError: if it cannot.
            ArchError: if it does not answer.
        """
        import ray

        place = handle.place
        if self._ray_address is None or place.node in self._inspected:
            return
        name = checked_node(place, self._nodes).name

        def ask() -> list[str]:
            try:
                missing: list[str] = ray.get(handle.actor.unreached.remote(), timeout=START_S)
            except ray.exceptions.RayError as error:
                reason = last_line(str(error), type(error).__name__)
                raise ArchError(f"a worker on node {name} ended before its work: {reason}") from error
            return missing

        check_reach(self._endpoints, name, place.network == self._place.network, ask)
        self._inspected.add(place.node)

    def _check_files(self, handle: WorkerHandle) -> None:
        """See whether the node of a worker has the files."""
        import ray

        def look(folder: Path, paths: list[str]) -> FilesSeen | None:
            try:
                seen: FilesSeen = ray.get(handle.actor.look.remote(folder, paths), timeout=_LOOK_S)
            except ray.exceptions.RayError:  # one that died is found by what it is given
                return None
            return seen

        node = self._nodes.get(handle.place.node)
        if node is not None:
            self._files.check(node, look)
