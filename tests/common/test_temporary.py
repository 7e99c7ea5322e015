"""Temporary folders, and what is left of processes that were killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from arch_common import temporary
from arch_common.temporary import temporary_folder

_HOLD = """
import sys
from pathlib import Path
from arch_common.temporary import temporary_folder
with temporary_folder("arch-test-", Path(sys.argv[1])) as folder:
    (folder / "clips").write_bytes(b"audio")
    print(folder, flush=True)
    sys.stdin.read()
"""


def hold(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that has a folder until its input ends, one that is old enough for others to judge it."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(parent)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    os.utime(folder / ".lock", (0, 0))
    return process, folder


@pytest.fixture(autouse=True)
def _first_of_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary, "_cleared", set())


def test_a_folder_is_there_as_long_as_its_block(tmp_path: Path) -> None:
    with temporary_folder("arch-test-", tmp_path) as folder:
        assert folder.parent == tmp_path
        assert folder.name.startswith("arch-test-")
        (folder / "inner").mkdir()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RuntimeError, match="gone"), temporary_folder("arch-test-", tmp_path):
        raise RuntimeError("gone")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    killed, left = hold(tmp_path)
    living, used = hold(tmp_path)
    just_killed, young = hold(tmp_path)
    os.utime(young / ".lock")
    for process in (killed, just_killed):
        process.kill()
        process.communicate()
    others = [tmp_path / "arch-test-of-others", tmp_path / "arch-other-kind"]
    for folder in others:
        folder.mkdir()
    (others[1] / ".lock").touch()
    os.utime(others[1] / ".lock", (0, 0))
    with temporary_folder("arch-test-", tmp_path) as own:
        assert not left.exists()
        assert {used, young, *others, own} == set(tmp_path.iterdir())
    # What was too young to tell is looked at again.
    os.utime(young / ".lock", (0, 0))
    with temporary_folder("arch-test-", tmp_path) as own:
        assert {used, *others, own} == set(tmp_path.iterdir())
    living.communicate()
    assert set(others) == set(tmp_path.iterdir())


def test_links_are_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.touch()
    os.utime(victim, (0, 0))
    planted = tmp_path / "arch-test-planted"
    planted.mkdir()
    (planted / ".lock").symlink_to(victim)
    with temporary_folder("arch-test-", tmp_path):
        assert planted.is_dir()
        assert victim.is_file()
