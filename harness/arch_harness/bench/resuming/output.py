"""The folder of a run while it is written: one process at a time, and none is left where nothing came of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from arch_common.errors import ArchError, UsageError

from arch_harness.embeddings.lock import lock

_LOCK_FILE = ".lock"


@contextmanager
def held_output(folder: Path) -> Iterator[None]:
    """Make the folder and keep other runs out of it; if it is empty when the block ends, what was made of it goes.

    Raises:
        UsageError: if another process writes to it.
        ArchError: if it cannot be made or written.
    """
    path = folder / _LOCK_FILE
    try:
        made = [one for one in (folder, *folder.parents) if not one.exists()]
        held = lock(folder, None, _LOCK_FILE)
        if held is None:
            holder = path.read_text(encoding="utf-8", errors="replace").strip() or "another process"
            raise UsageError(
                f"{folder} is being written by {holder}: wait until that has ended, or name another folder"
            )
    except OSError as error:
        raise ArchError(f"cannot write to {folder}: {error.strerror}") from error
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # while it is held; who waits for it sees that it is another file then
        held.release()
        with suppress(OSError):  # which is what ends it: a folder that holds something is not removed
            for one in made:
                one.rmdir()
