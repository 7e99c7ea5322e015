"""Temporary folders that do not outlast a process that is killed: the next one of the kind removes them."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import lock_descriptor

_LOCK = ".lock"
# Of a folder that may not be locked yet by who has just made it.
_YOUNG_SECONDS = 60
_cleared: set[tuple[Path, str]] = set()


@contextlib.contextmanager
def temporary_folder(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """A new folder that is removed when the block ends.

    As long as it lasts, a file in it, `.lock`, is locked: the kernel drops that however this process ends. The first
    folder of a kind that a process makes removes those of this user that nobody has locked any more.

    Args:
        prefix: of its name, which tells the kind.
        parent: where it is made; by default where the system has temporary files.

    Raises:
        OSError: if it cannot be made.
    """
    place = Path(tempfile.gettempdir()) if parent is None else parent
    if (place, prefix) not in _cleared:
        _cleared.add((place, prefix))
        _clear_stale(place, prefix)
    folder = tempfile.TemporaryDirectory(prefix=prefix, dir=place, ignore_cleanup_errors=True)
    with folder as name:
        lock = os.open(Path(name, _LOCK), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            with contextlib.suppress(OSError):  # a file system without locks
                lock_descriptor(lock)
            yield Path(name)
        finally:
            os.close(lock)


def _clear_stale(parent: Path, prefix: str) -> None:
    for path in parent.glob(f"{prefix}*/{_LOCK}"):
        try:
            lock = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:  # removed meanwhile, or another user's
            continue
        try:
            found = os.fstat(lock)
            stale = found.st_uid == os.geteuid() and time.time() - found.st_mtime > _YOUNG_SECONDS
            if stale and lock_descriptor(lock, blocking=False):
                shutil.rmtree(path.parent, ignore_errors=True)
        except OSError:  # a file system without locks
            pass
        finally:
            os.close(lock)
