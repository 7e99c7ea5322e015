"""The folder of a run: one process at a time writes to it, and an empty one does not stay."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from arch_common.errors import ArchError, UsageError
from arch_harness.bench.resuming.output import held_output

HOLD = """
import sys
from pathlib import Path
from arch_harness.bench.resuming.output import held_output
with held_output(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_is_told_who_writes_there(tmp_path: Path) -> None:
    folder = tmp_path / "reports" / "out"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(UsageError) as caught, held_output(folder):
        pass
    assert str(caught.value) == (
        f"{folder} is being written by process {holder.pid} on {socket.gethostname()}: wait until that has ended, or "
        "name another folder"
    )
    (folder / "results.json").touch()
    holder.kill()  # the system drops the lock of a process that is killed
    holder.communicate()
    with held_output(folder):
        pass
    assert [path.name for path in folder.iterdir()] == ["results.json"]


def test_an_empty_folder_goes_with_all_that_was_made_for_it(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    with held_output(there / "a" / "b"):
        assert (there / "a" / "b").is_dir()
    assert list(there.iterdir()) == []
    with contextlib.suppress(ArchError), held_output(there / "a" / "b"):
        raise ArchError("nothing came of it")
    assert list(there.iterdir()) == []
    with held_output(there):
        pass
    assert there.is_dir()
    with held_output(there / "c" / "d"):
        (there / "c" / "d" / "report.html").touch()
    assert os.listdir(there / "c" / "d") == ["report.html"]  # noqa: PTH208


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone" / "far")
    with pytest.raises(ArchError, match=r"cannot write to .*/link: "), held_output(tmp_path / "link"):
        pass
