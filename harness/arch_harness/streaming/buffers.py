"""Buffers that clips are sent from; where a server on this machine can read them itself, they are shared memory."""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDER = Path("/dev/shm")  # noqa: S108 - where shm_open, which Triton calls, looks
PREFIX = "arch_bench_"
_PAGE = mmap.ALLOCATIONGRANULARITY


class Buffer:
    """Room for one clip: the audio, padding included, and how many samples of it are audio.

    Attributes:
        name: of its shared memory, as `shm_open` and the servers know it; None in ordinary memory.
        num_samples: of the clip that is in it.
        waveform: FP32 [samples].
    """

    def __init__(self, samples: int, name: str | None = None, memory: mmap.mmap | None = None) -> None:
        self.name = name
        self.num_samples = samples
        room = bytearray(buffer_bytes(samples)) if memory is None else memory
        self.waveform: NDArray[np.float32] = np.frombuffer(room, dtype=np.float32, count=samples)
        self._length = np.frombuffer(room, dtype=np.int64, count=1, offset=-(-samples * 4 // 8) * 8)

    def fill(self, clip: NDArray[np.float32]) -> None:
        """Put a clip FP32 [n], n at most the buffer's samples, in place of the one before, zero-padded at the end."""
        self.waveform[: len(clip)] = clip
        self.waveform[len(clip) : self.num_samples] = 0
        self.num_samples = len(clip)
        self._length[0] = len(clip)


def buffer_bytes(samples: int) -> int:
    """Size of a buffer for so many samples, whole pages."""
    return -(-(samples * 4 + 16) // _PAGE) * _PAGE


class BufferPool:
    """Buffers of one size, made as they are needed and used again.

    Shared memory is a file for each buffer, since Triton does not see one grow, and a lock that is held as long as this
    process lives, by which others tell what nobody uses any more.

    Args:
        samples: of a clip, padding included.
        shared: whether to make them in shared memory, as far as there is room.
    """

    def __init__(self, samples: int, shared: bool) -> None:
        self.samples = samples
        self.buffers: list[Buffer] = []
        self._free: list[Buffer] = []
        self._lock = threading.Lock()
        self._base = f"{PREFIX}{os.getpid()}.{secrets.token_hex(4)}"
        self._held: FileLock | None = None
        if shared:
            with contextlib.suppress(OSError):
                held = FileLock(FOLDER / self._base, mode=0o600)
                held.acquire()
                self._held = held

    def take(self) -> tuple[Buffer, bool]:
        """A free buffer, and whether it is new, so that the servers do not know it yet."""
        with self._lock:
            if self._free:
                return self._free.pop(), False
            buffer = self._shared_buffer() or Buffer(self.samples)
            self.buffers.append(buffer)
            return buffer, True

    def _shared_buffer(self) -> Buffer | None:
        """A buffer in shared memory; None where there is none, or no room for another."""
        if self._held is None:
            return None
        name, size = f"{self._base}_{len(self.buffers)}", buffer_bytes(self.samples)
        try:
            file = os.open(FOLDER / name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
            try:
                # Not ftruncate: writing to pages for which there is no room would end this process.
                os.posix_fallocate(file, 0, size)
                return Buffer(self.samples, name, mmap.mmap(file, size))
            except OSError:
                (FOLDER / name).unlink(missing_ok=True)
                return None
            finally:
                os.close(file)
        except OSError:
            return None

    def give_back(self, buffer: Buffer) -> None:
        """Let a buffer be used again: no request that a server may still answer to anyone refers to it."""
        with self._lock:
            self._free.append(buffer)

    def close(self) -> None:
        """Remove the files; the memory goes when the last server that knows it forgets it."""
        if self._held is None:
            return
        for name in (*(buffer.name for buffer in self.buffers if buffer.name), self._base):
            (FOLDER / name).unlink(missing_ok=True)
        self._held.release()
        self._held = None


def in_use(name: str) -> bool:
    """Whether the process that made a shared memory of ours still lives."""
    base = FOLDER / (PREFIX + name.removeprefix(PREFIX).split("_")[0])
    if not base.exists():
        return False
    lock = FileLock(base, mode=0o600)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:  # another user's, which is not ours to judge
        return True
    lock.release()
    return False


def remove_stale() -> None:
    """Remove the files of processes that were killed."""
    # The locks last: without them their buffers could not be told from used ones.
    for path in sorted(FOLDER.glob(f"{PREFIX}*"), reverse=True):
        if not in_use(path.name):
            with contextlib.suppress(OSError):  # another user's
                path.unlink()
