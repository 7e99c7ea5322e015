"""Shared memory that servers on this machine read clips from: telling them of it, and telling them to forget it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import grpc
from tritonclient.grpc import service_pb2

from arch_harness.slots import PREFIX, Slot, Slots, in_use, remove_stale, slot_bytes

if TYPE_CHECKING:
    from arch_harness.balancer import Lane

_TIMEOUT_S = 10.0


class Regions:
    """The slots of one worker, and which servers know them.

    A server that cannot open them (one in a container, or run by somebody else) is sent the audio itself.

    Against a model that answers at once, a 5 s clip took 0.72 ms of the client's processor and 0.42 ms of the server's
    instead of 0.93 and 0.65, and 1,244 a second went through instead of 981, on two cores of a busy machine
    (benchmarks/transport.py).

    Args:
        lanes: the ways to the servers.
        shared_memory: whether servers on this machine may be given the audio through it.
    """

    def __init__(self, lanes: Sequence[Lane], shared_memory: bool) -> None:
        self._lanes = lanes
        self._lock = threading.Lock()
        self._slots: Slots | None = None
        for lane in lanes:
            lane.reads_regions = shared_memory and lane.target.loopback

    def take(self, samples: int) -> tuple[Slots, Slot]:
        """A free slot for a clip of so many samples, known to the servers that can know it."""
        with self._lock:
            if self._slots is None or self._slots.samples != samples:
                self._forget()
                remove_stale()
                self._slots = Slots(samples, any(lane.reads_regions for lane in self._lanes))
                for lane in self._lanes:
                    _forget_stale(lane)
            slots = self._slots
        slot, new = slots.take()
        if new:
            for lane in self._lanes:
                self._tell(lane, slots, [slot])
        return slots, slot

    def revive(self, lane: Lane) -> None:
        """Tell a server that may have been restarted of all slots."""
        with self._lock:
            slots = self._slots
        if slots is not None:
            _forget_stale(lane)
            self._tell(lane, slots, list(slots.slots))

    def _tell(self, lane: Lane, slots: Slots, new: list[Slot]) -> None:
        for slot in new:
            if slot.name is None or not lane.reads_regions:
                continue
            request = service_pb2.SystemSharedMemoryRegisterRequest(
                name=slot.name, key=f"/{slot.name}", offset=0, byte_size=slot_bytes(slots.samples)
            )
            try:
                lane.stub.SystemSharedMemoryRegister(request, timeout=_TIMEOUT_S, metadata=lane.target.headers)
            except grpc.RpcError as error:
                # A server that is dead is told again when it is back.
                known = error.code() is grpc.StatusCode.ALREADY_EXISTS
                gone = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
                lane.reads_regions = known or gone

    def close(self) -> None:
        """Tell the servers to forget the slots, and remove them."""
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        slots, self._slots = self._slots, None
        if slots is None:
            return
        for lane in self._lanes:
            for slot in slots.slots:
                if slot.name is not None and lane.reads_regions and lane.alive:
                    _unregister(lane, slot.name)
        slots.close()


def _unregister(lane: Lane, name: str) -> None:
    request = service_pb2.SystemSharedMemoryUnregisterRequest(name=name)
    with contextlib.suppress(grpc.RpcError, ValueError):
        lane.stub.SystemSharedMemoryUnregister(request, timeout=_TIMEOUT_S, metadata=lane.target.headers)


def _forget_stale(lane: Lane) -> None:
    """Have a server unmap what processes that were killed had told it of."""
    if not lane.reads_regions:
        return
    with contextlib.suppress(grpc.RpcError, ValueError):
        request = service_pb2.SystemSharedMemoryStatusRequest()
        status = lane.stub.SystemSharedMemoryStatus(request, timeout=_TIMEOUT_S, metadata=lane.target.headers)
        for name in status.regions:
            if name.startswith(PREFIX) and not in_use(name):
                _unregister(lane, name)
