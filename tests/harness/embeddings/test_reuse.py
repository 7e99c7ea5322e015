"""What the store takes from where: entries with layers, what another server executed, a recomputation that goes on."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pytest
from arch_harness.datasets import Dataset
from arch_harness.datasets.declaration import Clip
from arch_harness.embeddings import entry as entry_module
from arch_harness.embeddings.store import EmbeddingStore
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.made_data import made_declaration
from support.store_writer import CLIPS, SIZE, dataset_of, model_of, rows_of, write_data

if TYPE_CHECKING:
    from arch_harness.embeddings.entry import Entry, Stored

LAYERS = 3


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


@pytest.fixture
def store(tmp_path: Path) -> EmbeddingStore:
    return EmbeddingStore(tmp_path / "cache")


def append(entry: Entry, indices: range | list[int], layers: int = 0, version: int = 0) -> None:
    entry.append((index, rows_of(index, layers, version)) for index in indices)


def check_rows(stored: Stored, expected: dict[int, int], layers: int = 0) -> None:
    """`expected` says of which version each stored clip is; `layers` how many there were when it was embedded."""
    assert np.flatnonzero(stored.succeeded).tolist() == sorted(expected)
    for index, version in expected.items():
        np.testing.assert_array_equal(stored.embeddings[index], rows_of(index, layers, version)[0])


def test_a_run_without_layers_takes_what_one_with_layers_has_embedded(store: EmbeddingStore, data: Path) -> None:
    model, dataset = model_of(LAYERS), dataset_of(data)
    assert not store.open(model, dataset, layers=False).exists
    with store.open(model, dataset, layers=True) as entry:
        append(entry, range(100), LAYERS)
        entry.finish()
    os.utime(data / dataset.clips[7].path, ns=(1, 1))
    without = store.open(model, dataset, layers=False)
    assert without.exists
    with without as entry:
        assert [index for index, _ in entry.missing()] == [7, *range(100, CLIPS)]
        check_rows(entry.read(), dict.fromkeys([*range(7), *range(8, 100)], 0), LAYERS)
        append(entry, [7, *range(100, CLIPS)], version=5)
        entry.finish()
    assert pq.read_schema(next(entry.folder.glob("*.parquet"))).names == ["path", "size", "mtime_ns", "embedding"]
    # It stays where the other one is pruned, and what it has itself is not replaced.
    with store.open(model, dataset, layers=True) as entry:
        append(entry, range(CLIPS), LAYERS, version=9)
    for pruned in (False, True):
        if pruned:
            shutil.rmtree(entry.folder)
        with store.open(model, dataset, layers=False) as found:
            assert found.missing() == []
            stored = found.read()
        np.testing.assert_array_equal(stored.embeddings[8], rows_of(8, LAYERS)[0])
        np.testing.assert_array_equal(stored.embeddings[120], rows_of(120, version=5)[0])
    with store.open(model, dataset, layers=True) as entry:
        assert len(entry.missing()) == CLIPS, "what has no layers is of no use to who asks for them"


@pytest.mark.parametrize("precision", ["bf16", "int8", "fp32"])
def test_what_was_executed_differently_is_not_mixed(store: EmbeddingStore, data: Path, precision: str) -> None:
    dataset = dataset_of(data)
    ways = ("", f"{precision} on OpenVINO", "fp32 on CPUExecutionProvider", f"{precision} on CUDAExecutionProvider")
    for version, way in enumerate(ways):
        model = model_of(LAYERS).model_copy(update={"precision": precision, "executed_by": way})
        for layers in (LAYERS, 0):
            with store.open(model, dataset, layers=bool(layers)) as entry:
                assert len(entry.missing()) == (CLIPS if layers else 0)
                if layers:
                    append(entry, range(CLIPS), layers, version)
                    entry.flush()
                check_rows(entry.read(), dict.fromkeys(range(CLIPS), version), LAYERS)


def test_a_recomputation_that_was_interrupted_goes_on(
    store: EmbeddingStore, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry_module, "PART_BYTES", 7 * 4 * SIZE)
    model, dataset = model_of(), dataset_of(data)

    def open_entry() -> Entry:
        return store.open(model, dataset, layers=False)

    def indices(found: list[tuple[int, str]]) -> list[int]:
        return [index for index, _ in found]

    with open_entry() as entry:
        append(entry, range(140))
        entry.finish()
    with contextlib.suppress(KeyboardInterrupt), open_entry() as entry:
        assert indices(entry.remaining("this run")) == list(range(CLIPS))
        append(entry, range(0, 60, 2), version=1)
        raise KeyboardInterrupt
    left = [index for index in range(CLIPS) if index not in range(0, 60, 2)]
    with open_entry() as entry:
        assert indices(entry.remaining("this run")) == left
        os.utime(data / dataset.clips[4].path, ns=(1, 1))
    with open_entry() as entry:
        assert indices(entry.remaining("this run")) == sorted([4, *left])
        append(entry, sorted([4, *left[:-1]]), version=1)
        entry.discard([CLIPS - 1])  # as of one that failed
        entry.finish()
        assert indices(entry.remaining("this run")) == [CLIPS - 1]
        check_rows(entry.read(), dict.fromkeys(range(CLIPS - 1), 1))
    (file,) = entry.folder.glob("*.parquet")
    with open_entry() as entry:
        assert indices(entry.remaining("this run")) == [CLIPS - 1], "it is done, and all in one file"
        assert indices(entry.remaining("another run")) == list(range(CLIPS))
        assert indices(entry.remaining("this run")) == list(range(CLIPS)), "another run came between"
    assert list(entry.folder.glob("*.parquet")) == [file]


def test_a_recomputation_is_forgotten_where_another_run_makes_one_file_of_old_and_new(
    store: EmbeddingStore, data: Path
) -> None:
    model, dataset = model_of(), dataset_of(data)
    with store.open(model, dataset, layers=False) as entry:
        append(entry, range(CLIPS))
    with store.open(model, dataset, layers=False) as entry:
        entry.remaining("this run")
        append(entry, range(50), version=1)
    with store.open(model, dataset, layers=False) as entry:
        entry.finish()
    with store.open(model, dataset, layers=False) as entry:
        assert len(entry.remaining("this run")) == CLIPS
        check_rows(entry.read(), {index: int(index < 50) for index in range(CLIPS)})
    # What is kept of it may be damaged: then all is embedded again.
    for damage in ("", "{", "[]", '{"run": "this run"}', '{"run": "this run", "after": "x"}'):
        (entry.folder / "recomputed.json").write_text(damage)
        with store.open(model, dataset, layers=False) as entry:
            assert len(entry.remaining("this run")) == CLIPS


def made_dataset(folder: Path, paths: list[str]) -> Dataset:
    clips = [Clip(path, ("x",), "all") for path in paths]
    return Dataset(made_declaration(), folder, clips, ["x", "y"], np.zeros(len(clips), np.int64), [])


# Whatever a file may be called, with bytes that are no UTF-8 as Python shows them, and what no file can be called.
_NAMES = st.text(st.characters(exclude_characters="/"), min_size=1, max_size=30)
_BYTES = st.binary(min_size=1, max_size=30).map(lambda name: os.fsdecode(name.replace(b"/", b"_")))


def _has_file(folder: Path, name: str) -> bool:
    """Make one of this name, if there can be."""
    try:
        path = folder / name
        if path.is_dir():
            return False
        path.write_bytes(name.encode(errors="surrogatepass"))
    except (OSError, ValueError):
        return False
    return True


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(names=["."], folders=["a", "b"], key={})
@given(
    names=st.lists(
        _NAMES | _BYTES | st.sampled_from(["a\\xff", "a\udcff", "a\xff", "\ud800", "a\0b"]), min_size=1, unique=True
    ),
    folders=st.lists(_BYTES, min_size=2, max_size=2, unique=True),
    key=st.dictionaries(st.text(), st.text() | st.integers() | st.none(), max_size=4),
)
def test_any_name_of_a_clip_and_any_path_of_the_store_come_back(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], folders: list[str], key: dict[str, object]
) -> None:
    top = tmp_path_factory.mktemp("names")
    root, data = (top / str(number) / ("f" + name.replace("\0", "_")) for number, name in enumerate(folders))
    data.mkdir(parents=True)
    there = [index for index, name in enumerate(names) if _has_file(data, name)]
    dataset, store = made_dataset(data, names), EmbeddingStore(root)
    for again in (False, True):
        with store.open(model_of(), dataset, layers=False) as entry:
            assert [index for index, _ in entry.missing()] == [
                index for index in range(len(names)) if not again or index not in there
            ]
            append(entry, range(len(names)))
            entry.finish()
            check_rows(entry.read(), dict.fromkeys(there, 0))
    (facts,) = store.entries()
    assert (facts.clips, facts.value("folder")) == (len(there), str(data.resolve()))
    (entry.folder / "key.json").write_text(json.dumps(key))
    (facts,) = store.entries()
    assert facts.key == key
    assert not facts.is_of("sharp")
    assert store.remove(facts)
    shutil.rmtree(top)
