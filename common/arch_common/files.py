"""Files that are written whole or not at all, and folders looked at before any work is done for them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from arch_common.errors import ArchError, UsageError


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of `path` when the block ends well, and is gone otherwise.

    Raises:
        ArchError: if it cannot be written, by the block or here: the disk is full, say.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ArchError(f"cannot write {path}: {error.strerror or error}") from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Wait until new and changed names in `folder` are on the disk.

    Raises:
        OSError: if they cannot be written.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def can_be_written(folder: Path) -> bool:
    """Whether a folder is there and can be written, or can be made."""
    there = _nearest(folder)
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def check_folder(folder: Path, option: str) -> None:
    """Look whether a folder can be written, or made.

    Args:
        folder: that was asked for.
        option: by which it was.

    Raises:
        UsageError: if it is a file or below one, or cannot be written.
    """
    there = _nearest(folder)
    if not there.is_dir():
        what = "is a file, and must be a folder" if there == folder else f"cannot be a folder: {there} is a file"
        raise UsageError(f"{option} {folder} {what}")
    if not can_be_written(folder):
        raise UsageError(f"{option} {folder} cannot be written: no permission in {there}")


def _nearest(folder: Path) -> Path:
    """The folder, or the last above it that is there."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder
