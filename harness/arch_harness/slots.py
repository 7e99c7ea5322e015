"""Buffers that clips are sent from; where a server on this machine can read them itself, they are shared memory."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import secrets
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDER = Path("/dev/shm")  # noqa: S108 - where shm_open, which Triton calls, looks
PREFIX = "arch_bench_"
_PAGE = mmap.ALLOCATIONGRANULARITY


class Slot:
    """Room for one clip: the audio, padding included, and how many samples of it are audio.

    Attributes:
        name: of the region of shared memory, as a server knows it; None in ordinary memory.
        offset: of the region in its file.
        num_samples: of the clip that is in it.
    """

    def __init__(self, samples: int, name: str | None = None, offset: int = 0, memory: mmap.mmap | None = None) -> None:
        self.name = name
        self.offset = offset
        self.num_samples = samples
        room = bytearray(slot_bytes(samples)) if memory is None else memory
        self.waveform: NDArray[np.float32] = np.frombuffer(room, dtype=np.float32, count=samples)
        self._length = np.frombuffer(room, dtype=np.int64, count=1, offset=-(-samples * 4 // 8) * 8)

    def fill(self, clip: NDArray[np.float32]) -> None:
        """Put a clip FP32 [n], n at most the slot's samples, in the place of the one before, zero-padded at the end."""
        self.waveform[: len(clip)] = clip
        self.waveform[len(clip) : self.num_samples] = 0
        self.num_samples = len(clip)
        self._length[0] = len(clip)


def slot_bytes(samples: int) -> int:
    """Size of a slot for so many samples, whole pages."""
    return -(-(samples * 4 + 16) // _PAGE) * _PAGE


class Slots:
    """Slots of one size, made as they are needed and used again.

    Args:
        samples: of a clip, padding included.
        shared: whether to make them in shared memory; look at `key` for whether that was possible.

    Attributes:
        key: name of the shared memory's file, as `shm_open` takes it; None where slots are in ordinary memory.
    """

    def __init__(self, samples: int, shared: bool) -> None:
        self.samples = samples
        self.key: str | None = None
        self.slots: list[Slot] = []
        self._free: list[Slot] = []
        self._lock = threading.Lock()
        self._file: int | None = None
        if shared:
            with contextlib.suppress(OSError):
                self._open()

    def _open(self) -> None:
        key = f"{PREFIX}{os.getpid()}_{secrets.token_hex(4)}"
        self._file = os.open(FOLDER / key, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        # Held as long as this process lives, which is how the next one tells what nobody uses.
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self.key = f"/{key}"

    def take(self) -> tuple[Slot, bool]:
        """A free slot, and whether it is new, so that the servers do not know its region yet."""
        with self._lock:
            if self._free:
                return self._free.pop(), False
            slot = self._shared_slot() or Slot(self.samples)
            self.slots.append(slot)
            return slot, True

    def _shared_slot(self) -> Slot | None:
        """A slot in shared memory; None where there is none, or no room for another."""
        if self.key is None or self._file is None:
            return None
        size, offset = slot_bytes(self.samples), len(self.slots) * slot_bytes(self.samples)
        try:
            # Not ftruncate: writing to pages for which there is no room would end this process.
            os.posix_fallocate(self._file, offset, size)
            memory = mmap.mmap(self._file, size, offset=offset)
        except OSError:
            return None
        return Slot(self.samples, f"{self.key[1:]}_{len(self.slots)}", offset, memory)

    def give_back(self, slot: Slot) -> None:
        """Let a slot be used again: no request that a server may still answer to anyone refers to it."""
        with self._lock:
            self._free.append(slot)

    def close(self) -> None:
        """Remove the shared memory's file; the memory goes when the last server that knows it forgets it."""
        if self._file is not None and self.key is not None:
            (FOLDER / self.key[1:]).unlink(missing_ok=True)
            os.close(self._file)
            self._file = None


def in_use(key: str) -> bool:
    """Whether the process that made a shared memory of ours still lives."""
    try:
        file = os.open(FOLDER / key.lstrip("/"), os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False


def remove_stale() -> None:
    """Remove the files of processes that were killed."""
    for path in FOLDER.glob(f"{PREFIX}*"):
        if not in_use(path.name):
            path.unlink(missing_ok=True)
