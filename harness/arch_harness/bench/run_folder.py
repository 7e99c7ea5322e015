"""The folder of a run: one command at a time writes to it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from arch_common.errors import ArchError, UsageError


def make_run_folder(folder: Path) -> None:
    """Have the folder of a run.

    Raises:
        UsageError: if it is a file.
        ArchError: if it cannot be made.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output {folder} is a file, and must be a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArchError(f"cannot write to {folder}: {error.strerror}") from error


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Keep others from writing to a run's folder in the block: of two, the later would drop the other's results.

    The folder itself is locked, so that no file is left in it; the lock ends with the process, however that ends. Where
    a file system locks no folders, as some NFS, there is none.

    Raises:
        UsageError: if another command writes there.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # no such folder: what reads or writes it says so
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EACCES):
                    raise UsageError(
                        f"another command writes to {folder} at this moment: wait for its end, or choose another folder"
                    ) from error
        yield
