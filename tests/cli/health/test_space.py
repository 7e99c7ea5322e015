"""What `arch doctor` finds of disks, folders and shared memory."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from arch_bench.health import space
from arch_bench.health.space import GIB, MIB, check_disk, check_folders, check_shared_memory
from arch_bench.health.surroundings import Surroundings
from arch_harness.streaming.cluster import nodes
from support.faulty_machines import disk


def here(folder: Path, told: os.statvfs_result | None = None) -> Surroundings:
    """All that is written is in one folder; `told` of its file system in the place of what the system tells."""
    return Surroundings(
        repository=folder / "models",
        output=folder / "reports",
        cache=folder / "cache",
        environ={"TMPDIR": str(folder)},
        root=folder,
        statvfs=os.statvfs if told is None else lambda _: told,
    )


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(nodes, "_LONGEST_TEMPORARY", 1000)  # whatever pytest's own folder is called


@pytest.mark.parametrize(
    ("told", "level", "words"),
    [
        (disk(50 * GIB), "ok", "50.0 GiB free of 100.0 GiB for models, reports, embeddings, temporary files, Ray"),
        (disk(2 * GIB), "warning", "2.0 GiB free"),
        (disk(20 * MIB), "fault", "20 MiB free"),
        (disk(0), "fault", "0 MiB free"),
        (disk(50 * GIB, names=0), "fault", "room for no more files (inodes)"),
        (disk(40 * GIB, total=1000 * GIB), "warning", "96 % are taken"),
    ],
)
def test_disk(tmp_path: Path, told: os.statvfs_result, level: str, words: str) -> None:
    """One line for a file system, whatever is written to it."""
    (found,) = check_disk(here(tmp_path, told))
    assert found.level == level
    assert words in found.found
    assert bool(found.advice) == (level != "ok")


def test_a_disk_that_cannot_be_asked(tmp_path: Path) -> None:
    def fail(_: Path) -> os.statvfs_result:
        raise OSError(5, "Input/output error")

    around = Surroundings(
        output=tmp_path, repository=tmp_path, cache=tmp_path, environ={"TMPDIR": str(tmp_path)}, statvfs=fail
    )
    (found,) = check_disk(around)
    assert found.level == "fault"
    assert found.found.endswith(f"{tmp_path}: Input/output error")


def test_folders_that_can_be_written(tmp_path: Path) -> None:
    (found,) = check_folders(here(tmp_path))
    assert (found.level, found.found) == ("ok", f"reports and embeddings ({tmp_path}/cache) can be written")


def test_folders_that_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below a file no folder can be made, not even by root."""
    (tmp_path / "reports").touch()
    (tmp_path / "cache").touch()
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "cache" / "temporary")])
    found = {one.topic: one for one in check_folders(here(tmp_path))}
    assert set(found) == {"reports", "embeddings", "temporary files"}
    assert {one.level for one in found.values()} == {"fault"}
    assert found["reports"].found == f"{tmp_path}/reports cannot be written"
    assert "is a file, and must be a folder" in found["embeddings"].found
    assert found["temporary files"].advice == "set TMPDIR to one that can"


@pytest.mark.parametrize(
    ("told", "level"),
    [
        (disk(GIB, total=2 * GIB), "ok"),
        (disk(60 * MIB, total=64 * MIB), "warning"),  # what Docker gives
        (disk(4 * MIB, total=64 * MIB), "fault"),
    ],
)
def test_shared_memory(tmp_path: Path, told: os.statvfs_result, level: str) -> None:
    (tmp_path / "dev" / "shm").mkdir(parents=True)
    (found,) = check_shared_memory(here(tmp_path, told))
    assert found.level == level
    assert ("docker run --shm-size=1g" in found.advice) == (level != "ok")


def test_no_shared_memory(tmp_path: Path) -> None:
    (found,) = check_shared_memory(Surroundings(root=tmp_path))
    assert (found.level, found.found) == ("fault", "No such file or directory")


def test_ray_is_looked_for_where_arch_has_it_keep_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket's path must be short, so that Ray is given another folder than a long TMPDIR."""
    monkeypatch.setattr(nodes, "_LONGEST_TEMPORARY", 36)
    for folder, moved in (("/short", False), ("/" + 40 * "x", True)):
        place = dict(space._places(Surroundings(environ={"TMPDIR": folder})))["Ray"]
        assert place.name == "ray" if moved else place == Path(folder)
