"""How a model gets into its repository: whole, whoever else exports there, and whoever was killed doing so."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from arch_common.errors import ExportError
from arch_export.repository import installation
from filelock import lock_descriptor
from support.commands import ARCH
from support.waiting import until

pytestmark = pytest.mark.torch

DAY_S = 24 * 60 * 60


def leave(place: Path, host: bytes | None = None, age_s: float = 0) -> Path:
    """What a killed export leaves: of this host by default; last written to so long ago."""
    place.mkdir(parents=True)
    (place / "owner").write_bytes(installation._host() if host is None else host)
    (place / "model").mkdir()
    (place / "model" / "model.onnx").write_bytes(b"half a gr")
    for path in (place / "model" / "model.onnx", place / "model", place / "owner", place):
        then = path.stat().st_mtime - age_s
        os.utime(path, (then, then))
    return place


def install(repository: Path, content: str, name: str = "encoder") -> None:
    with installation.building(repository, name, 0) as folder:
        (folder / "config.pbtxt").write_text(content)


@pytest.mark.slow
def test_an_export_that_is_killed_leaves_nothing_for_long(tmp_path: Path, checkpoint: Path) -> None:
    repository = tmp_path / "repository"
    running = subprocess.Popen(
        [*ARCH, "export", str(checkpoint), "--repository", str(repository)], stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: list(tmp_path.glob(".arch-export.*")), running)
        with installation.building(repository, "meanwhile", 0):  # a living export's folder is left alone
            assert len(list(tmp_path.glob(".arch-export.tiny-hubert.*"))) == 1
        running.send_signal(signal.SIGKILL)
    finally:
        running.kill()
        running.wait()
    assert len(list(tmp_path.glob(".arch-export.tiny-hubert.*"))) == 1
    with installation.building(repository, "next", 0) as folder:
        assert list(tmp_path.glob(".arch-export.*")) == [folder.parent]
    assert [path.name for path in tmp_path.iterdir()] == ["repository"]
    assert sorted(path.name for path in repository.iterdir()) == ["meanwhile", "next"]


def test_a_model_that_was_being_replaced_is_put_back(tmp_path: Path) -> None:
    """Killed between the two renames; and before the next export, the volume is mounted elsewhere."""
    program = """if True:
        import os, signal, sys
        from pathlib import Path
        from arch_export.repository import installation
        rename = Path.rename
        def killed(self, target):
            found = rename(self, target)
            if self.name == "encoder":
                os.kill(os.getpid(), signal.SIGKILL)
            return found
        Path.rename = killed
        with installation.building(Path(sys.argv[1]), "encoder", 0) as folder:
            (folder / "config.pbtxt").write_text("new")
    """
    here, there = tmp_path / "here", tmp_path / "there"
    install(here / "repository", "old")
    died = subprocess.run([sys.executable, "-c", program, here / "repository"], check=False)
    assert died.returncode == -signal.SIGKILL
    assert not (here / "repository" / "encoder").exists()
    here.rename(there)
    with installation.building(there / "neighbour", "encoder", 0) as folder:
        assert (there / "repository" / "encoder" / "config.pbtxt").read_text() == "old"
        (folder / "config.pbtxt").touch()
    assert sorted(path.name for path in there.iterdir()) == ["neighbour", "repository"]


def test_ctrl_c_between_the_two_moves_of_a_replacement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "repository"
    with installation.building(repository, "encoder", 0) as folder:
        (folder / "config.pbtxt").write_text("old")
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        found = rename(self, target)
        if self == repository / "encoder":
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), installation.building(repository, "encoder", 0) as folder:
        (folder / "config.pbtxt").write_text("new")
    assert (repository / "encoder" / "config.pbtxt").read_text() == "old"
    assert list(tmp_path.iterdir()) == [repository]


@pytest.mark.parametrize(
    ("host", "age_s", "stays"),
    [
        (None, 0, False),
        (b"of another host", 0, True),
        (b"of another host", 0.9 * DAY_S, True),
        (b"of another host", 1.1 * DAY_S, False),
        (b"", 0, True),  # no lock could be had: nobody can tell
        (b"", 1.1 * DAY_S, False),
    ],
)
def test_what_is_left_by_whom(tmp_path: Path, host: bytes | None, age_s: float, stays: bool) -> None:
    place = leave(tmp_path / ".arch-export.large.abcd", host, age_s)
    install(tmp_path / "repository", "new")
    assert place.exists() is stays


def test_a_live_export_of_another_host_is_left_alone_however_old(tmp_path: Path) -> None:
    """Where the lock reaches this host."""
    place = leave(tmp_path / ".arch-export.large.abcd", b"of another host", 2 * DAY_S)
    with (place / "owner").open("r+b") as owner:
        lock_descriptor(owner.fileno())
        install(tmp_path / "repository", "new")
        assert place.exists()
    install(tmp_path / "repository", "newer")
    assert not place.exists()


def test_a_folder_without_an_owner_is_just_being_made(tmp_path: Path) -> None:
    place = tmp_path / ".arch-export.encoder.abcd"
    place.mkdir()
    install(tmp_path / "repository", "new")
    assert place.exists()
    old = place.stat().st_mtime - 1.1 * DAY_S
    os.utime(place, (old, old))
    install(tmp_path / "repository", "newer")
    assert not place.exists()


def test_another_users_folder_and_a_link_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = leave(tmp_path / "elsewhere")
    link = tmp_path / ".arch-export.encoder.link"
    link.symlink_to(elsewhere)
    install(tmp_path / "repository", "new")
    assert (elsewhere / "model" / "model.onnx").is_file()
    place = leave(tmp_path / ".arch-export.encoder.abcd")
    monkeypatch.setattr(os, "geteuid", lambda: place.stat().st_uid + 1)
    install(tmp_path / "repository", "newer")
    assert place.exists()


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lustre, as it is mounted by default, and some NFS servers."""

    def refuse(*_: object, **__: object) -> bool:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(installation, "lock_descriptor", refuse)
    repository = tmp_path / "repository"
    with installation.building(repository, "slow", 0) as folder:
        (folder / "config.pbtxt").write_text("slow")
        install(repository, "fast", "fast")  # does not take the other for dead
    assert (repository / "slow" / "config.pbtxt").read_text() == "slow"
    assert (repository / "fast" / "config.pbtxt").read_text() == "fast"
    assert list(tmp_path.iterdir()) == [repository]


def test_the_lock_is_on_what_nfs_can_lock(tmp_path: Path) -> None:
    """It refuses an exclusive lock on a folder, or on a file that is open for reading only."""
    with installation.building(tmp_path / "repository", "encoder", 0) as folder:
        owner = folder.parent / "owner"
        descriptors = list(Path("/proc/self/fd").iterdir())
        (mine,) = [one for one in descriptors if one.exists() and one.resolve() == owner]
        flags = int(Path(f"/proc/self/fdinfo/{mine.name}").read_text().split("flags:")[1].split()[0], 8)
        assert flags & os.O_ACCMODE == os.O_RDWR
        (folder / "config.pbtxt").touch()


def test_the_model_moves_and_nothing_beside_it(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        install(tmp_path / "repository", "new")
    finally:
        os.umask(before)
    assert [path.name for path in (tmp_path / "repository" / "encoder").iterdir()] == ["config.pbtxt"]
    model = tmp_path / "repository" / "encoder"
    for path in (model, *model.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path


def test_an_export_that_ends_between_the_steps_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On another host, say: no lock is needed for a model to be there, and a whole one."""
    repository, rename = tmp_path / "repository", Path.rename
    late: list[Path] = []

    def raced(self: Path, target: Path) -> Path:
        if target == repository / "encoder" and not late:
            late.append(self)
            install(repository, "faster")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", raced)
    install(repository, "last")
    assert late
    assert (repository / "encoder" / "config.pbtxt").read_text() == "last"
    assert list(tmp_path.iterdir()) == [repository]


def test_many_exports_of_a_name_at_once(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    errors: list[str] = []

    def export_often(who: int) -> None:
        for number in range(20):
            try:
                install(repository, f"{who}-{number}")
            except ExportError as error:  # it may ask to try again, and must not harm
                errors.append(str(error))

    threads = [threading.Thread(target=export_often, args=[who]) for who in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert all("again and again" in error for error in errors)
    assert (repository / "encoder" / "config.pbtxt").read_text().endswith("-19")
    assert list(tmp_path.iterdir()) == [repository]
    assert [path.name for path in repository.iterdir()] == ["encoder"]
