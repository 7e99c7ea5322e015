"""The embedding store against what ends, damages or fills it: kill -9, bit rot, a full disk, two writers."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import support.store_writer
from arch_common.errors import ArchError
from arch_harness.embeddings import entry as entry_module
from arch_harness.embeddings import parts
from arch_harness.embeddings.lock import lock
from arch_harness.embeddings.store import EmbeddingStore
from filelock import FileLock
from support.store_writer import CLIPS, dataset_of, model_of, rows_of
from support.waiting import until

if TYPE_CHECKING:
    from multiprocessing.context import ForkProcess
    from pathlib import Path


def start(target: Callable[..., None], *arguments: object) -> ForkProcess:
    """A process of its own; forked, so that there is time to kill many."""
    process = multiprocessing.get_context("fork").Process(target=target, args=arguments)
    process.start()
    return process


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return support.store_writer.write_data(tmp_path / "data")


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, notes: list[str]) -> EmbeddingStore:
    return EmbeddingStore(tmp_path / "cache", notes.append)


def fill(store: EmbeddingStore, data: Path, layers: int = 0, version: int = 0, finish: bool = True) -> Path:
    """Store all that is missing, a clip to an `append`, in parts as the clock has it."""
    with store.open(model_of(layers), dataset_of(data), layers=bool(layers)) as entry:
        for index, _ in entry.missing():
            entry.append([(index, rows_of(index, layers, version))])
        if finish:
            entry.finish()
    return entry.folder


def check(store: EmbeddingStore, data: Path, expected: int = CLIPS, layers: int = 0) -> None:
    """`expected` clips are stored, each with its own embedding."""
    with store.open(model_of(layers), dataset_of(data), layers=bool(layers)) as entry:
        stored = entry.read()
        assert len(entry.missing()) == CLIPS - expected
    assert stored.succeeded.sum() == expected
    for index in np.flatnonzero(stored.succeeded):
        rows = rows_of(int(index), layers)
        np.testing.assert_array_equal(stored.embeddings[index], rows[0])
        np.testing.assert_array_equal(stored.layers[index], rows[1:])
    assert not stored.embeddings[~stored.succeeded].any()


@pytest.mark.parametrize("layers", [0, 3])
def test_what_is_stored_comes_back_in_the_datasets_order(
    store: EmbeddingStore, data: Path, layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry_module, "PART_BYTES", 7 * 4 * support.store_writer.SIZE * (1 + layers))
    folder = fill(store, data, layers, finish=False)
    parts = list(folder.glob("*.parquet"))
    assert len(parts) == -(-CLIPS // 7)
    check(store, data, layers=layers)
    fill(store, data, layers)  # nothing is missing: makes one file of the parts
    (file,) = folder.glob("*.parquet")
    check(store, data, layers=layers)
    schema = pq.read_schema(file)
    names = ["path", "size", "mtime_ns", "embedding", *(["layers"] if layers else [])]
    assert schema.names == names
    assert schema.field("embedding").type == pa.list_(
        pa.field("element", pa.float32(), False), support.store_writer.SIZE
    )
    groups = pq.read_metadata(file).num_row_groups
    assert groups <= len(parts), "parts were not merged into row groups"
    facts = (folder / "key.json").read_text()
    assert all(text in facts for text in ("sha256:0", "esc50", str(data), "16000", "libsndfile"))


def test_a_changed_file_and_another_model_are_not_mixed_up(store: EmbeddingStore, data: Path) -> None:
    fill(store, data)
    dataset = dataset_of(data)
    changed, touched = dataset.clips[3].path, dataset.clips[5].path
    (data / changed).write_bytes(b"another sound")
    os.utime(data / touched, ns=(1, 1))
    with store.open(model_of(), dataset, layers=False) as entry:
        assert entry.missing() == [(3, changed), (5, touched)]
        assert not entry.read().succeeded[[3, 5]].any()
        entry.append([(3, rows_of(3)), (5, rows_of(5))])
        entry.finish()
        assert entry.missing() == []
    check(store, data)
    (file,) = entry.folder.glob("*.parquet")
    assert pq.read_metadata(file).num_rows == CLIPS, "the old rows take up room"
    for other in (
        model_of().model_copy(update={"content_hash": "sha256:1"}),
        model_of().model_copy(update={"precision": "fp16"}),
        model_of().model_copy(update={"sample_rate": 8000}),
        model_of(layers=3),
    ):
        with store.open(other, dataset, layers=True) as entry:
            assert len(entry.missing()) == CLIPS
    with store.open(model_of().model_copy(update={"name": "renamed"}), dataset, layers=False) as entry:
        assert entry.missing() == []


def test_a_second_embedding_replaces_the_first_and_a_failure_drops_it(store: EmbeddingStore, data: Path) -> None:
    fill(store, data, version=1)
    with store.open(model_of(), dataset_of(data), layers=False) as entry:
        for index in range(1, CLIPS):
            entry.append([(index, rows_of(index))])
        entry.discard([0])
        entry.finish()
    check(store, data, expected=CLIPS - 1)
    with store.open(model_of(), dataset_of(data), layers=False) as entry:
        assert [index for index, _ in entry.missing()] == [0]


def test_what_is_no_embedding_is_never_stored(store: EmbeddingStore, data: Path) -> None:
    bad = rows_of(0).copy()
    bad[0, 1] = np.nan
    with store.open(model_of(), dataset_of(data), layers=False) as entry:
        for rows in (bad, np.full_like(bad, np.inf), rows_of(0)[:, 1:], rows_of(0, layers=1)):
            with pytest.raises(ValueError, match=r"audio/0\.wav"):
                entry.append([(0, rows)])
    check(store, data, expected=0)


@pytest.mark.slow
def test_kill_9_loses_at_most_a_part_and_damages_nothing(store: EmbeddingStore, data: Path) -> None:
    """A real process, killed at random moments: while it writes, syncs, renames, compacts, deletes."""
    chance = random.Random(7)
    log = data.parent / "log"
    for _ in range(40):
        acknowledged = _kill_at_random(start(support.store_writer.write, store.root, data, log), log, chance)
        with store.open(model_of(), dataset_of(data), layers=False) as entry:
            rows = entry.read()
            folder = entry.folder
        lost = [index for index in acknowledged if not rows.succeeded[index]]
        assert len(lost) <= support.store_writer.PART, "more than the unfinished part is lost"
        assert lost == acknowledged[len(acknowledged) - len(lost) :], "something older than the last part is lost"
        check(store, data, expected=int(rows.succeeded.sum()))
        if rows.succeeded.all():
            for path in folder.glob("*.parquet"):
                path.unlink()
    fill(store, data)
    (file,) = folder.glob("*.parquet")
    paths = pq.read_table(file, columns=["path"])["path"].to_pylist()
    assert sorted(paths) == sorted(set(paths)), "a clip is there twice"
    assert len(paths) == CLIPS
    check(store, data)
    assert {path.name for path in folder.iterdir()} == {file.name, "key.json", "lock"}


def _kill_at_random(writer: ForkProcess, log: Path, chance: random.Random) -> list[int]:
    """Kill the writer some milliseconds after it has begun; returns the clips that it said it had appended."""

    def begun() -> bool:
        return log.exists() and log.read_text().startswith("begun\n")

    until(lambda: begun() or not writer.is_alive(), pause_s=0.001)
    assert begun()
    time.sleep(chance.uniform(0, 0.15))
    writer.kill()
    writer.join()
    said = log.read_text()
    log.unlink()
    return [int(line) for line in said.splitlines(keepends=True)[1:] if line.endswith("\n")]


def test_a_death_between_one_file_and_the_deletion_of_its_parts_is_harmless(
    store: EmbeddingStore, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry_module, "PART_BYTES", 7 * 4 * support.store_writer.SIZE)
    folder = fill(store, data, finish=False)
    parts = {path: path.read_bytes() for path in folder.glob("*.parquet")}
    fill(store, data)
    for path, content in parts.items():
        path.write_bytes(content)
    check(store, data)
    fill(store, data)
    (file,) = folder.glob("*.parquet")
    assert pq.read_metadata(file).num_rows == CLIPS


def test_two_writers_take_turns(store: EmbeddingStore, data: Path, notes: list[str]) -> None:
    logs = [data.parent / "first", data.parent / "second"]
    go = data.parent / "go"
    both = []
    # The first one holds the store until the second one waits for it.
    for log, reached in zip(logs, ("begun", "waiting for process "), strict=True):
        both.append(start(support.store_writer.write, store.root, data, log, go))
        until(lambda log=log, reached=reached: log.exists() and reached in log.read_text())  # type: ignore[misc]
    go.touch()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    said = [log.read_text().splitlines() for log in logs]
    computed = [[line for line in lines if line.isdigit()] for lines in said]
    assert sorted(map(len, computed)) == [0, CLIPS], "the second one found all of it done"
    waiting = [line for lines in said for line in lines if line.startswith("waiting for process ")]
    assert len(waiting) == 1
    check(store, data)
    assert notes == []


@pytest.mark.parametrize("damage", ["bits", "cut", "empty", "garbage"])
def test_a_damaged_file_is_named_and_embedded_again(
    store: EmbeddingStore, data: Path, notes: list[str], damage: str
) -> None:
    folder = fill(store, data)
    (file,) = folder.glob("*.parquet")
    whole = file.read_bytes()
    chance = random.Random(3)
    positions = [0, len(whole) - 1, *chance.sample(range(len(whole)), 40)] if damage == "bits" else [0]
    for position in positions:
        if damage == "bits":
            file.write_bytes(
                whole[:position] + bytes([whole[position] ^ 1 << chance.randrange(8)]) + whole[position + 1 :]
            )
        else:
            file.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "garbage": b"PAR1" * 99}[damage])
        check(store, data, expected=0)
        assert notes == [f"{file} is damaged: deleted, its clips are embedded again"]
        notes.clear()
    fill(store, data)
    check(store, data)


class _FullDisk:
    """Refuses to write more than `room` bytes to files of the store, as a full disk does."""

    def __init__(self, room: int) -> None:
        self.room = room
        self._write = parts.Counted.write

    def __call__(self, file: parts.Counted, data: bytes) -> int:
        self.room -= len(memoryview(data).cast("B"))
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._write(file, data)


def test_a_full_disk_is_one_line_and_what_is_stored_stays(
    store: EmbeddingStore, data: Path, monkeypatch: pytest.MonkeyPatch, notes: list[str]
) -> None:
    monkeypatch.setattr(entry_module, "PART_BYTES", 7 * 4 * support.store_writer.SIZE)
    full = _FullDisk(15_000)
    with monkeypatch.context() as context:
        context.setattr(parts.Counted, "write", lambda file, data: full(file, data))
        with pytest.raises(ArchError) as caught:
            fill(store, data)
    assert "No space left on device; the embeddings stored so far stay" in str(caught.value)
    assert "\n" not in str(caught.value)
    with store.open(model_of(), dataset_of(data), layers=False) as entry:
        kept = CLIPS - len(entry.missing())
    assert 0 < kept < CLIPS
    assert kept % 7 == 0
    check(store, data, expected=kept)
    folder = fill(store, data, finish=False)

    # Making one file of the parts needs room for both; without it the parts are as good.
    full = _FullDisk(15_000)
    with monkeypatch.context() as context:
        context.setattr(parts.Counted, "write", lambda file, data: full(file, data))
        fill(store, data)
    assert len(notes) == 1
    assert "No space left on device" in notes[0]
    assert len(list(folder.glob("*.parquet"))) > 1
    check(store, data)


def test_a_real_limit_of_the_system_is_one_line_too(store: EmbeddingStore, data: Path) -> None:
    """No file may grow beyond 8 KiB: the kernel itself refuses, in the middle of a write."""
    log = data.parent / "log"
    process = start(support.store_writer.write_little, store.root, data, log, 8192)
    process.join(60)
    assert process.exitcode == 0
    assert "File too large; the embeddings stored so far stay" in log.read_text()
    check(store, data, expected=0)
    fill(store, data)
    check(store, data)


def test_listing_and_removing(store: EmbeddingStore, data: Path) -> None:
    assert store.entries() == []
    folder = fill(store, data)
    (store.root / "someone elses").mkdir()
    fill(store, data, layers=3)
    os.utime(folder / "key.json", (time.time() - 86400 * 40,) * 2)
    newer, older = store.entries()
    assert older.folder == folder
    assert older.key is not None
    assert (older.key["model"], older.key["dataset"], older.clips) == ("sharp", "esc50", CLIPS)
    assert older.idle_days == pytest.approx(40, abs=0.1)
    assert newer.size > older.size == sum(path.stat().st_size for path in folder.iterdir())
    with store.open(model_of(), dataset_of(data), layers=False):
        assert not store.remove(older), "deleted under the feet of its user"
    check(store, data)
    assert store.remove(older)
    assert not folder.exists()
    assert [one.folder for one in store.entries()] == [newer.folder]


def test_a_lock_that_was_pruned_while_another_waited_keeps_out_a_third(store: EmbeddingStore, data: Path) -> None:
    folder = fill(store, data)
    held: list[FileLock] = []

    def pruned(_holder: str) -> None:
        """Called when the second one is about to wait: the first one deletes the entry and lets go."""
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        held.pop().release()

    first = lock(folder, None)
    assert first is not None
    held.append(first)
    second = lock(folder, pruned)
    assert second is not None
    assert lock(folder, None) is None
    second.release()
