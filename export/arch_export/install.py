"""A model gets into the repository as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from arch_export.errors import ExportError


@contextlib.contextmanager
def building(repository: Path, name: str) -> Iterator[Path]:
    """A hidden folder beside `repository` to build the model in; moved to `<repository>/<name>` when the block ends.

    An earlier model of that name is replaced in the same moment. If the block raises, the repository stays as it was.

    Raises:
        ExportError: if the repository cannot be written to.
    """
    is_new = not repository.exists()
    try:
        repository.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=_workplace(repository)))
    except OSError as error:
        raise ExportError(f"cannot write to the repository {repository}: {error.strerror}") from error
    try:
        folder.chmod(0o755)  # mkdtemp keeps others out; a server may run as another user
        yield folder
        _move_into_place(folder, repository / name)
    except OSError as error:
        raise ExportError(f"cannot write {repository / name}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if is_new and not any(repository.iterdir()):
            repository.rmdir()


def _workplace(repository: Path) -> Path:
    """Where to build: beside the repository, because Triton takes hidden folders in it for models.

    Inside it if that is another file system or not writable: only within one can a folder be moved in one step.
    """
    beside = repository.resolve().parent
    same = beside.stat().st_dev == repository.stat().st_dev
    return beside if same and os.access(beside, os.W_OK | os.X_OK) else repository


def _move_into_place(folder: Path, target: Path) -> None:
    if not target.exists():
        folder.rename(target)
        return
    retired = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=folder.parent))
    target.rename(retired / target.name)
    try:
        folder.rename(target)
    except OSError:
        (retired / target.name).rename(target)
        raise
    finally:
        shutil.rmtree(retired, ignore_errors=True)
