"""A model gets into the repository as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from arch_common.errors import ExportError
from filelock import lock_descriptor

_PREFIX = ".arch-export."
_RETIRED = "retired"
# Beside a retired model: where it belongs, for several repositories may share the folder that they are built in.
_HOME = "home"


@contextlib.contextmanager
def building(repository: Path, name: str, size: int) -> Iterator[Path]:
    """A hidden folder beside `repository` to build the model in; moved to `<repository>/<name>` when the block ends.

    An earlier model of that name is replaced in the same moment. If the block raises, the repository stays as it was.
    What exports that were killed have left is cleared away first.

    Args:
        repository: made if it is not there.
        name: of the model.
        size: about how many bytes will be written.

    Raises:
        ExportError: if the repository cannot be written to, something else than a model has that name in it, or the
            disk has not enough space.
    """
    is_new = False
    try:
        is_new = not repository.exists()
        repository.mkdir(parents=True, exist_ok=True)
        _check_target(repository, name)
        workplace = _workplace(repository)
        _clear_stale(workplace)
        free = shutil.disk_usage(workplace).free
        if free < size:
            raise ExportError(
                f"{name} needs about {size / 1e9:.1f} GB and the disk of {workplace} has {free / 1e9:.1f} GB free: "
                "make space or choose another --repository"
            )
        with _folder(workplace, name) as folder:
            yield folder
            _move_into_place(folder, repository / name)
    except OSError as error:
        raise ExportError(f"cannot write {repository / name}: {error.strerror or error}") from error
    finally:
        if is_new and repository.is_dir() and not any(repository.iterdir()):
            repository.rmdir()


def _check_target(repository: Path, name: str) -> None:
    """Before any work: what is replaced is deleted, and that must not be a checkpoint or a folder of the user's."""
    target = repository / name
    if (target.exists() or target.is_symlink()) and not (target / "config.pbtxt").is_file():
        raise ExportError(
            f"{target} is there and is no Triton model (it has no config.pbtxt): choose another --name or --repository"
        )
    if not os.access(repository, os.W_OK | os.X_OK):
        raise ExportError(f"cannot write {target}: Permission denied")


@contextlib.contextmanager
def _folder(workplace: Path, name: str) -> Iterator[Path]:
    """A new hidden folder, locked while the block runs: the kernel drops the lock however this process ends.

    It is removed afterwards, unless it holds a model that is still to be put back.
    """
    folder, lock = _locked(workplace, name)
    try:
        folder.chmod(0o755)  # mkdtemp keeps others out; a server may run as another user
        yield folder
    finally:
        if not (folder / _HOME).exists():
            shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _locked(workplace: Path, name: str) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{name}.", dir=workplace))
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            lock_descriptor(lock)
            if folder.exists():
                return folder, lock
            os.close(lock)
        # Another export took it for stale in the moment before it was locked.


def _clear_stale(workplace: Path) -> None:
    """Remove the folders that no living export holds a lock on; put back a model that was being replaced."""
    for folder in workplace.glob(f"{_PREFIX}*"):
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:  # removed meanwhile, or another user's
            continue
        try:
            # In a folder that others write to as well, one could be laid out for us.
            if os.fstat(lock).st_uid != os.geteuid():
                continue
            if not lock_descriptor(lock, blocking=False):
                continue  # another export is at work in it
            if (folder / _HOME).is_file():
                home = Path((folder / _HOME).read_text(encoding="utf-8"))
                if os.path.lexists(folder / _RETIRED) and not os.path.lexists(home) and home.parent.is_dir():
                    (folder / _RETIRED).rename(home)
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # it cannot be put back now
            pass
        finally:
            os.close(lock)


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
    with _folder(folder.parent, target.name) as place:
        retired, home = place / _RETIRED, place / _HOME
        home.write_text(str(target.parent.resolve() / target.name), encoding="utf-8")
        try:
            target.rename(retired)
            folder.rename(target)
        except BaseException:  # Ctrl-C too
            if os.path.lexists(retired) and not os.path.lexists(target):
                retired.rename(target)
            raise
        finally:
            if os.path.lexists(target):
                home.unlink()  # what is left of the old model is no longer one to put back
