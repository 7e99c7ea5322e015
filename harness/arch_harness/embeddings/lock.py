"""Locks of folders: one process at a time reads, writes or deletes an entry of the store, or a run's results."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

LOCK_FILE = "lock"


def lock(folder: Path, wait: Callable[[str], None] | None, name: str = LOCK_FILE) -> FileLock | None:
    """Take the lock of a folder, which is held until it is released or the process ends.

    Args:
        folder: made if it is not there.
        wait: told which process holds the lock before it is waited for; None to return None instead.
        name: of the file in the folder that is locked.

    Raises:
        OSError: if there can be no lock.
    """
    path = folder / name
    held = FileLock(path)
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            try:
                held.acquire(timeout=0)
            except Timeout:
                if wait is None:
                    return None
                wait(path.read_text(encoding="utf-8", errors="replace").strip() or "another process")
                held.acquire()
            path.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        except FileNotFoundError:  # its last holder has deleted the entry
            held.release()
            continue
        return held
