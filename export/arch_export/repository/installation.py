"""A model gets into the repository as a whole or not at all, whoever else exports to it, on this host or another.

Beside the repository, each export has a hidden folder of its own:

    .arch-export.<name>.<random>/
        owner      locked while the export lives, and names its host
        model/     what is being built; at the end, a rename makes it `<repository>/<name>`
        retired/   the earlier model of that name, from one rename to the next
        home       where `retired` belongs, from the folder of all this

What is in place is so by renames, which need no lock on any file system. The lock only tells what a killed export has
left. Between the processes of one kernel, containers included, it tells for certain. Whether it reaches another host
depends on how a network file system is mounted; so what another host has left stays until nothing in it has changed for
a day.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from arch_common.errors import ExportError
from filelock import lock_descriptor

_PREFIX = ".arch-export."
_OWNER = "owner"
_MODEL = "model"
_RETIRED = "retired"
_HOME = "home"
# A large encoder takes minutes, and writes in between.
_ABANDONED_AFTER_S = 24 * 60 * 60
_RENAMES = 20
# What a rename onto a folder, or a link to one, ends with.
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)


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
        with _place(workplace, name) as place:
            _clear_stale(workplace, place)
            free = shutil.disk_usage(workplace).free
            if free < size:
                raise ExportError(
                    f"{name} needs about {size / 1e9:.1f} GB and the disk of {workplace} has {free / 1e9:.1f} GB free: "
                    "make space or choose another --repository"
                )
            model = place / _MODEL
            model.mkdir()
            yield model
            _let_read(model)
            _move_into_place(place, repository / name)
    except OSError as error:
        raise ExportError(f"cannot write {repository / name}: {error.strerror or error}") from error
    finally:
        if is_new:
            with contextlib.suppress(OSError):  # not empty, or never made
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


def _let_read(model: Path) -> None:
    """Let everybody read a model, whatever the umask: a server may run as another user."""
    for path in (model, *model.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
        elif path.stat().st_nlink == 1:  # a file that another model has too is as that was made
            path.chmod(0o644)


@contextlib.contextmanager
def _place(workplace: Path, name: str) -> Iterator[Path]:
    """A new hidden folder with a locked owner: the kernel drops the lock however this process ends.

    It is removed afterwards, unless it holds a model that is still to be put back.
    """
    place = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{name}.", dir=workplace))
    owner = None
    try:
        # A file, and open for writing: NFS locks nothing else.
        owner = os.open(place / _OWNER, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        with contextlib.suppress(OSError):  # a file system without locks: nobody may infer anything from one
            lock_descriptor(owner)
            os.write(owner, _host())
        yield place
    finally:
        if not (place / _HOME).exists():
            shutil.rmtree(place, ignore_errors=True)
        if owner is not None:
            os.close(owner)


def _host() -> bytes:
    """This kernel since it was started: all of its processes see one another's locks."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    except OSError:
        return platform.node().encode()


def _clear_stale(workplace: Path, own: Path) -> None:
    """Remove what no living export works in; put back a model that was being replaced."""
    now = own.stat().st_mtime  # by the clock of the file system, which may be another host's
    for place in workplace.glob(f"{_PREFIX}*"):
        try:
            # In a folder that others write to as well, one could be laid out for us.
            if place == own or place.is_symlink() or place.stat().st_uid != os.geteuid():
                continue
            with _owner_of(place) as host:
                if host is not None and (host == _host() or now - _last_change(place) > _ABANDONED_AFTER_S):
                    _put_back(place)
                    shutil.rmtree(place, ignore_errors=True)
        except OSError:  # removed meanwhile, or cannot be put back now
            continue


@contextlib.contextmanager
def _owner_of(place: Path) -> Iterator[bytes | None]:
    """The host of an export that does not hold its lock, empty where it has told none; None of one that does."""
    try:
        owner = os.open(place / _OWNER, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        yield b""
        return
    try:
        try:
            free = lock_descriptor(owner, blocking=False)
        except OSError:  # no locks here
            free = True
        yield os.read(owner, 1000) if free else None
    finally:
        os.close(owner)


def _last_change(place: Path) -> float:
    return max(path.lstat().st_mtime for path in (place, *place.rglob("*")))


def _put_back(place: Path) -> None:
    if not (place / _HOME).is_file():
        return
    home = place.parent / os.fsdecode((place / _HOME).read_bytes())
    if os.path.lexists(place / _RETIRED) and not os.path.lexists(home) and home.parent.is_dir():
        (place / _RETIRED).rename(home)


def _workplace(repository: Path) -> Path:
    """Where to build: beside the repository, because Triton takes hidden folders in it for models.

    Inside it if that is another file system or not writable: only within one can a folder be moved in one step.
    """
    beside = repository.resolve().parent
    same = beside.stat().st_dev == repository.stat().st_dev
    return beside if same and os.access(beside, os.W_OK | os.X_OK) else repository.resolve()


def _move_into_place(place: Path, target: Path) -> None:
    """Make `<place>/model` the model; of several exports of a name that end at once, the last one's stays."""
    retired, home = place / _RETIRED, place / _HOME
    for _ in range(_RENAMES):
        target.parent.mkdir(parents=True, exist_ok=True)  # another export may have found it empty, and removed it
        try:
            if not os.path.lexists(target):
                (place / _MODEL).rename(target)
                return
            _replace(place, target, retired, home)
            return
        except OSError as error:
            if error.errno not in (*_TAKEN, errno.ENOENT):
                raise
            # Another export was faster with one of the steps.
    raise ExportError(f"{target} is being replaced by another export again and again: try again")


def _replace(place: Path, target: Path, retired: Path, home: Path) -> None:
    home.write_bytes(os.fsencode(os.path.relpath(target.parent.resolve() / target.name, place.parent)))
    try:
        target.rename(retired)
        (place / _MODEL).rename(target)
    except BaseException:  # Ctrl-C too
        if os.path.lexists(retired) and not os.path.lexists(target):
            retired.rename(target)
        raise
    finally:
        if os.path.lexists(target) or not os.path.lexists(retired):
            home.unlink()  # what is left of the old model is no longer one to put back
            if retired.is_symlink():
                retired.unlink()
            elif retired.exists():
                shutil.rmtree(retired, ignore_errors=True)
