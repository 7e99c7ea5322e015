"""Shared memory that a worker leaves behind, and that Triton reads."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from arch_harness.slots import FOLDER, PREFIX, Slots, in_use, remove_stale


def test_a_slot_holds_the_last_clip_only() -> None:
    slots = Slots(10, shared=True)
    slot, new = slots.take()
    assert new
    assert slot.name is not None
    slot.fill(np.ones(8, np.float32))
    slot.fill(np.full(3, 2, np.float32))
    read = np.fromfile(FOLDER / slot.name, np.float32, 10)
    np.testing.assert_array_equal(read, [2] * 3 + [0] * 7)
    assert np.fromfile(FOLDER / slot.name, np.int64, 1, offset=40).tolist() == [3]
    slots.give_back(slot)
    assert slots.take() == (slot, False)
    slots.close()
    assert not (FOLDER / slot.name).exists()


def test_only_what_a_killed_process_left_is_removed() -> None:
    slots = Slots(10, shared=True)
    kept, _ = slots.take()
    script = "import os; from arch_harness.slots import Slots; Slots(10, True).take(); "
    script += "print(os.getpid(), flush=True); os._exit(9)"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=os.environ)
    left = f"{PREFIX}{int(ended.stdout)}.*"
    assert len(list(FOLDER.glob(left))) == 2
    remove_stale()
    assert list(FOLDER.glob(left)) == []
    assert kept.name is not None
    assert (FOLDER / kept.name).exists()
    slots.close()


def test_what_belongs_to_another_user_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    slots = Slots(10, shared=True)
    slot, _ = slots.take()
    assert slot.name is not None

    def refuse(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "open", refuse)
    assert in_use(slot.name)
    remove_stale()
    assert (FOLDER / slot.name).exists()
    monkeypatch.undo()
    slots.close()
