"""Where the embedding store lies, and what `arch cache list` says of entries that are nearly alike."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import pwd
from pathlib import Path
from typing import NoReturn

import pytest
from arch_bench import cache as store
from arch_bench.commands.cache import list_entries
from arch_common.errors import UsageError
from arch_harness.embeddings.store import EmbeddingStore
from hypothesis import given, settings
from hypothesis import strategies as st
from support.commands import arch
from support.store_writer import dataset_of, model_of, write_data


@pytest.fixture
def no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Nothing names a place; the folder for temporary files is the test's own."""
    for name in ("ARCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    return tmp_path


def test_it_lies_where_it_was_told_else_in_the_users_cache(no_variables: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(no_variables / "home"))
    assert store.root() == no_variables / "home" / ".cache" / "arch"
    monkeypatch.setenv("XDG_CACHE_HOME", str(no_variables / "xdg"))
    assert store.root() == no_variables / "xdg" / "arch"
    monkeypatch.setenv("ARCH_CACHE", str(no_variables / "named"))
    assert store.root() == no_variables / "named"
    assert store.root("/dev/null/x") == Path("/dev/null/x"), "what was named is not replaced"
    assert store.makeshift_note() == store.makeshift_note("/dev/null/x") == ""


@pytest.mark.parametrize("home", ["/dev/null", None])
def test_it_lies_among_temporary_files_where_there_is_no_home(
    no_variables: Path, monkeypatch: pytest.MonkeyPatch, home: str | None
) -> None:
    def unknown(_: int) -> NoReturn:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    if home is None:
        monkeypatch.delenv("HOME")
    else:
        monkeypatch.setenv("HOME", home)
    found = no_variables / "tmp" / f"arch-{os.getuid()}"
    assert store.root() == found
    assert store.entries() == []
    assert str(found) in store.makeshift_note()
    found.mkdir()
    assert store.root() == found
    # Someone else's, whatever is in it, is not taken.
    found.rmdir()
    found.symlink_to(no_variables)
    with pytest.raises(UsageError, match="set HOME, or name one with --cache"):
        store.root()


@pytest.mark.parametrize("days", [math.nan, math.inf, -1.0])
def test_days_that_no_clock_counts_delete_nothing(cache: Path, days: float) -> None:
    with pytest.raises(UsageError, match=f"unused days cannot be {days}"):
        store.prune(cache, unused_days=days)


def test_a_store_that_cannot_be_opened_says_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    dataset = dataset_of(write_data(tmp_path / "data"))
    with pytest.raises(Exception, match=r"Not a directory; --cache or ARCH_CACHE names another place$"):
        EmbeddingStore(file).open(model_of(), dataset, layers=False).__enter__()


def test_entries_that_differ_read_differently_and_hashes_stay_whole(tmp_path: Path, cache: Path) -> None:
    dataset = dataset_of(write_data(tmp_path / "data"))
    name = "hubert-large-of-a-name-that-is-too-long-for-the-column-that-it-stands-in"
    digest = "0123456789abcdef" * 4
    facts = {"name": name, "content_hash": f"sha256:{digest}", "precision": "bf16"}
    ways = ("bf16 on OpenVINO", "fp32 on CPUExecutionProvider (bf16 needs a CPU with AMX or AVX512-BF16)", "")
    for way in ways:
        model = model_of().model_copy(update=facts | {"executed_by": way})
        with EmbeddingStore(cache).open(model, dataset, layers=False):
            pass
    # The same in all that is shown but for the rate of the audio.
    with EmbeddingStore(cache).open(model.model_copy(update={"sample_rate": 8000}), dataset, layers=False):
        pass
    shown = arch("cache", "list", env=os.environ | {"COLUMNS": "80"}).stdout
    lines = shown.splitlines()
    assert lines[0] == f"Embeddings in {cache}"
    assert max(map(len, lines[1:])) <= 80
    assert [line.split().count(digest[:12]) for line in lines if digest[:12] in line] == [1] * 4
    first = "".join(line[:30].strip() for line in lines[2:]).replace(" ", "")
    for way in ways[:2]:
        assert first.count(way.replace(" ", "")) == 1
    assert first.count("bf16,bywhattheserverdidnottell") == 2
    assert (first.count("samplerate:16000"), first.count("samplerate:8000")) == (1, 1)


_TEXT = st.text(st.characters(codec=None), max_size=40) | st.sampled_from(
    ["[/b]", "[red]x", ":dog:", "a\udcff", "\x1b[2J"]
)
_VALUES = _TEXT | st.integers() | st.none() | st.lists(_TEXT, max_size=2)
_NAMES = st.sampled_from(["model", "content_hash", "dataset", "folder", "layers", "executed_by", "precision"])
_KEYS = st.dictionaries(_NAMES | _TEXT, _VALUES, max_size=8)


@settings(max_examples=250, deadline=None)
@given(
    keys=st.lists(_KEYS.map(json.dumps) | _TEXT.map(lambda text: text.encode(errors="replace").decode()), max_size=4),
    encoding=st.sampled_from(["utf-8", "latin-1", "ascii", "cp1252", "gb18030"]),
    prefix=_TEXT,
)
def test_whatever_stands_in_a_key_is_listed(
    tmp_path_factory: pytest.TempPathFactory, keys: list[str], encoding: str, prefix: str
) -> None:
    root = tmp_path_factory.mktemp("fuzz")
    for index, key in enumerate(keys):
        (root / f"{index:016x}").mkdir()
        (root / f"{index:016x}" / "key.json").write_text(key, encoding="utf-8")
    shown = io.BytesIO()
    with contextlib.redirect_stdout(io.TextIOWrapper(shown, encoding=encoding, errors="replace")) as out:
        list_entries(root)
        out.flush()
    lines = shown.getvalue().decode(encoding).splitlines()
    assert str(root) in lines[0]
    assert lines[-1] == ("0.0 MB in all" if keys else f"no embeddings in {root}")
    # A condition that is no name of any of them deletes nothing.
    pruned = store.prune(root, model=f"no model {prefix}", dataset=prefix)
    assert (pruned.removed, pruned.busy) == ([], [])
    assert len(store.entries(root)) == len(keys)
