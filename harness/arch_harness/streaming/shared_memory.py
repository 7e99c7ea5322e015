"""Shared memory that servers on this machine read clips from: telling them of it, and telling them to forget it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import grpc
import numpy as np
from arch_common.errors import ArchError
from tritonclient.grpc import service_pb2

from arch_harness.streaming.balancer import Connection, connections
from arch_harness.streaming.buffers import PREFIX, Buffer, BufferPool, buffer_bytes, in_use, remove_stale
from arch_harness.triton.endpoint import Endpoint
from arch_harness.triton.refusal import is_forbidden

_TIMEOUT_S = 10.0


class SharedMemory:
    """The buffers of one worker, and which servers know them.

    A server that cannot open them (one in a container, or run by somebody else) or may not is sent the audio itself.

    Against a model that answers at once, a 5 s clip took 0.72 ms of the client's processor and 0.42 ms of the server's
    instead of 0.93 and 0.65, and 1,244 a second went through instead of 981, on two cores of a busy machine
    (benchmarks/transport.py).

    Args:
        connections: the ways to the servers.
        shared_memory: whether servers on this machine may be given the audio through it.
    """

    def __init__(self, connections: Sequence[Connection], shared_memory: bool) -> None:
        self._connections = connections
        self._lock = threading.Lock()
        self._buffers: BufferPool | None = None
        for connection in connections:
            connection.reads_shared_memory = shared_memory and connection.endpoint.loopback

    def take(self, samples: int) -> tuple[BufferPool, Buffer]:
        """A free buffer for a clip of so many samples, known to the servers that can know it."""
        with self._lock:
            if self._buffers is None or self._buffers.samples != samples:
                self._forget()
                remove_stale()
                self._buffers = BufferPool(
                    samples, any(connection.reads_shared_memory for connection in self._connections)
                )
                for connection in self._connections:
                    _forget_stale(connection)
            buffers = self._buffers
        buffer, new = buffers.take()
        if new:
            for connection in self._connections:
                self._tell(connection, buffers, [buffer])
        return buffers, buffer

    def revive(self, connection: Connection) -> None:
        """Tell a server that may have been restarted of all buffers."""
        with self._lock:
            buffers = self._buffers
        if buffers is not None:
            _forget_stale(connection)
            self._tell(connection, buffers, list(buffers.buffers))

    def _tell(self, connection: Connection, buffers: BufferPool, new: list[Buffer]) -> None:
        for buffer in new:
            if buffer.name is None or not connection.reads_shared_memory:
                continue
            request = service_pb2.SystemSharedMemoryRegisterRequest(
                name=buffer.name, key=f"/{buffer.name}", offset=0, byte_size=buffer_bytes(buffers.samples)
            )
            try:
                connection.stub.SystemSharedMemoryRegister(
                    request, timeout=_TIMEOUT_S, metadata=connection.endpoint.headers
                )
            except grpc.RpcError as error:
                # A server that is dead is told again when it is back.
                known = error.code() is grpc.StatusCode.ALREADY_EXISTS
                gone = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
                forbidden = is_forbidden(error.code(), error.details() or "")
                connection.reads_shared_memory = known or (gone and not forbidden)

    def close(self) -> None:
        """Tell the servers to forget the buffers, and remove them."""
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        buffers, self._buffers = self._buffers, None
        if buffers is None:
            return
        for connection in self._connections:
            for buffer in buffers.buffers:
                if buffer.name is not None and connection.reads_shared_memory and connection.alive:
                    _unregister(connection, buffer.name)
        buffers.close()


@dataclass(frozen=True)
class SharedPlaces:
    """Where clips are in a shared memory: its name, and for each clip where its audio begins, in bytes."""

    region: str
    starts: Sequence[int]


class SharedClips:
    """Clips that stay as they are, in one shared memory; servers know it as long as the block lasts.

    Each has its own length: audio FP32 [samples], then, at the next multiple of 8 bytes, how many samples these are.

    Args:
        endpoints: servers on this machine.
        file: of all samples, FP32, one clip behind the other.
        lengths: samples of each clip.

    Raises:
        ArchError: on entry, if a server cannot or may not read it, or there is no room.
    """

    def __init__(self, endpoints: Sequence[Endpoint], file: Path, lengths: Sequence[int]) -> None:
        self._endpoints = endpoints
        self._file = file
        self._lengths = lengths

    def __enter__(self) -> SharedPlaces:
        self._connections = connections(self._endpoints)
        self._memory = SharedMemory(self._connections, shared_memory=True)
        rooms = [-(-length // 2) * 2 + 2 for length in self._lengths]  # in samples; two of them hold the length
        starts = [0, *np.cumsum(rooms)[:-1].tolist()]
        try:
            _, buffer = self._memory.take(sum(rooms))
            if buffer.name is None:
                raise ArchError(
                    f"no room in /dev/shm for {4 * sum(rooms):,} bytes of audio: take fewer --clips, or grpc"
                )
            for one in self._connections:
                if not one.reads_shared_memory:
                    raise ArchError(
                        f"the server at {one.endpoint.address} cannot or may not read shared memory: use grpc"
                    )
            samples = np.fromfile(self._file, dtype=np.float32)
            clips = np.split(samples, np.cumsum(self._lengths)[:-1])
            for start, room, clip in zip(starts, rooms, clips, strict=True):
                buffer.waveform[start : start + len(clip)] = clip
                buffer.waveform[start + room - 2 : start + room].view(np.int64)[0] = len(clip)
        except BaseException:
            self._close()
            raise
        return SharedPlaces(buffer.name, [4 * start for start in starts])

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            # Of requests that were under way a server may be reading still. It forgets the memory, of which the file
            # goes now, when the next process tells it what nobody uses any more.
            for connection in self._connections:
                connection.alive = False
        self._close()

    def _close(self) -> None:
        self._memory.close()
        for connection in self._connections:
            connection.channel.close()


def _unregister(connection: Connection, name: str) -> None:
    request = service_pb2.SystemSharedMemoryUnregisterRequest(name=name)
    with contextlib.suppress(grpc.RpcError, ValueError):
        connection.stub.SystemSharedMemoryUnregister(request, timeout=_TIMEOUT_S, metadata=connection.endpoint.headers)


def _forget_stale(connection: Connection) -> None:
    """Have a server unmap what processes that were killed had told it of."""
    if not connection.reads_shared_memory:
        return
    with contextlib.suppress(grpc.RpcError, ValueError):
        request = service_pb2.SystemSharedMemoryStatusRequest()
        status = connection.stub.SystemSharedMemoryStatus(
            request, timeout=_TIMEOUT_S, metadata=connection.endpoint.headers
        )
        for name in status.regions:
            if name.startswith(PREFIX) and not in_use(name):
                _unregister(connection, name)
