"""The lock of an entry of the embedding store: one process at a time reads, writes or deletes it."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import IO

LOCK_FILE = "lock"


def lock(folder: Path, wait: Callable[[str], None] | None) -> IO[str] | None:
    """Take the lock of an entry, which is held until the returned file is closed or the process ends.

    Args:
        folder: of the entry; made if it is not there.
        wait: told which process holds the lock before it is waited for; None to return None instead.

    Raises:
        OSError: if there can be no lock.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            file = (folder / LOCK_FILE).open("a+")
        except FileNotFoundError:  # deleted since
            continue
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if wait is None:
                    file.close()
                    return None
                file.seek(0)
                wait(file.read().strip() or "another process")
                fcntl.flock(file, fcntl.LOCK_EX)
            # A lock on a file that its last holder has deleted keeps no one out.
            if _is_at(file, folder / LOCK_FILE):
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}")
                file.flush()
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
