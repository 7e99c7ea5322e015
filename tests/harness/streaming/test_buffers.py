"""Shared memory that a worker leaves behind, and that Triton reads."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from arch_harness.streaming.buffers import FOLDER, PREFIX, BufferPool, in_use, remove_stale


def test_a_slot_holds_the_last_clip_only() -> None:
    buffers = BufferPool(10, shared=True)
    buffer, new = buffers.take()
    assert new
    assert buffer.name is not None
    buffer.fill(np.ones(8, np.float32))
    buffer.fill(np.full(3, 2, np.float32))
    read = np.fromfile(FOLDER / buffer.name, np.float32, 10)
    np.testing.assert_array_equal(read, [2] * 3 + [0] * 7)
    assert np.fromfile(FOLDER / buffer.name, np.int64, 1, offset=40).tolist() == [3]
    buffers.give_back(buffer)
    assert buffers.take() == (buffer, False)
    buffers.close()
    assert not (FOLDER / buffer.name).exists()


def test_only_what_a_killed_process_left_is_removed() -> None:
    buffers = BufferPool(10, shared=True)
    kept, _ = buffers.take()
    script = "import os; from arch_harness.streaming.buffers import BufferPool; BufferPool(10, True).take(); "
    script += "print(os.getpid(), flush=True); os._exit(9)"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=os.environ)
    left = f"{PREFIX}{int(ended.stdout)}.*"
    assert len(list(FOLDER.glob(left))) == 2
    remove_stale()
    assert list(FOLDER.glob(left)) == []
    assert kept.name is not None
    assert (FOLDER / kept.name).exists()
    buffers.close()


def test_what_belongs_to_another_user_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    buffers = BufferPool(10, shared=True)
    buffer, _ = buffers.take()
    assert buffer.name is not None

    def refuse(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "open", refuse)
    assert in_use(buffer.name)
    remove_stale()
    assert (FOLDER / buffer.name).exists()
    monkeypatch.undo()
    buffers.close()
