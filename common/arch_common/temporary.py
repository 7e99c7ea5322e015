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
_YOUNG_SECONDS = 5  # of a folder that may not be locked yet by who has just made it
_cleared: set[tuple[Path, str]] = set()


@contextlib.contextmanager
def temporary_folder(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """A new folder that is removed when the block ends.

    As long as it lasts, a file in it, `.lock`, is locked: the kernel drops that however this process ends. Before a
    process makes its first folder of a kind it removes those of this user that nobody has locked any more, and before
    further ones if some were too young to tell.

    Args:
        prefix: of its name, which tells the kind.
        parent: where it is made; by default where the system has temporary files.

    Raises:
        OSError: if it cannot be made.
    """
    place = Path(tempfile.gettempdir()) if parent is None else parent
    if (place, prefix) not in _cleared and _clear_stale(place, prefix):
        _cleared.add((place, prefix))
    folder = tempfile.TemporaryDirectory(prefix=prefix, dir=place, ignore_cleanup_errors=True)
    with folder as name:
        lock = os.open(Path(name, _LOCK), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            with contextlib.suppress(OSError):  # a file system without locks
                lock_descriptor(lock)
            yield Path(name)
        finally:
            os.close(lock)


def _clear_stale(parent: Path, prefix: str) -> bool:
    """Whether all that is left is of processes that live."""
    known = True
    for path in parent.glob(f"{prefix}*/{_LOCK}"):
        try:
            lock = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:  # removed meanwhile, or another user's
            continue
        try:
            found = os.fstat(lock)
            if found.st_uid != os.geteuid() or not lock_descriptor(lock, blocking=False):
                continue
            if time.time() - found.st_mtime > _YOUNG_SECONDS:
                shutil.rmtree(path.parent, ignore_errors=True)
            else:
                known = False
        except OSError:  # a file system without locks
            pass
        finally:
            os.close(lock)
    return known
