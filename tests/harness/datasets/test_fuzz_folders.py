"""Folders, manifests, tables and archives of any content: a dataset or one clear line, and never a traceback or a hang.

`ARCH_FUZZ=5000 pytest tests/harness/datasets/test_fuzz_folders.py` tries so many of each.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import string
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from arch_common.errors import ArchError, UsageError
from arch_harness.datasets import Dataset, load_dataset
from arch_harness.datasets.catalog import DECLARATIONS
from arch_harness.datasets.download.archives import unpack
from arch_harness.datasets.fixtures.fixture import write_fixture
from arch_harness.datasets.registry import open_dataset, presence
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

TABLES = {
    **{"esc50": "meta/esc50.csv", "us8k": "metadata/UrbanSound8K.csv", "fsd50k": "FSD50K.ground_truth/eval.csv"},
    **{"fma_small": "fma_metadata/tracks.csv", "mtt": "annotations_final.csv", "slurp": "devel.jsonl"},
    **{"medley_solos_db": "Medley-solos-DB_metadata.csv", "irmas": "IRMAS-TestingData-Part1/Part1/09 - A Title-9.txt"},
}
bounded = settings(
    max_examples=int(os.environ.get("ARCH_FUZZ", "100")),
    deadline=None,
    derandomize="ARCH_FUZZ" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)

# Every byte that a name may hold, and the names that mean something to somebody.
ANY_NAME = st.binary(min_size=1, max_size=12).map(lambda name: name.replace(b"/", b"-").replace(b"\0", b"-"))
MEANING = (
    *("train", "Train", "TEST", "testing", "val", "Validation", "dev", "eval", "fold1", "fold 2", "train_set", "cat"),
    *(
        "dog",
        "caf\u00e9",
        "cafe\u0301",
        "鳥",
        "喇叭",
        "[b]",
        "[/]",
        ":dog:",
        "²",
        "٣",
        "-",
        "a b",
        "a\nb",
        "$(x)",
        "~",
        "%s",
        "{0}",
    ),
    *("__MACOSX", ".git", "._x", "CON", "lost+found", "x=y", "e@strict", "esc50", "\U0001f426", "\ufeffa", "a\u202eb"),
)
NAME = st.one_of(st.sampled_from(MEANING).map(os.fsencode), ANY_NAME).filter(lambda name: name not in {b".", b".."})
SUFFIX = st.sampled_from([b".wav", b".WAV", b".flac", b".opus", b".m4a", b".raw", b".txt", b".csv", b""])
FILE = st.tuples(st.lists(NAME, max_size=4), NAME, SUFFIX).map(
    lambda parts: b"/".join([*parts[0], parts[1] + parts[2]])
)
TEXTS = st.text(max_size=12) | st.sampled_from(
    (*MEANING, "", " ", ";", "a;b", "\x00", "9" * 5000, "a" * 5000, "1", "2")
)


@contextmanager
def scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="arch-fuzz-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def is_one_line_or_works(act: Callable[[], Dataset]) -> None:
    """What comes of it can be written into results and onto a terminal."""
    try:
        dataset = act()
    except ArchError as error:
        said = str(error)
        assert said
        assert said.splitlines() == [said]
        return
    assert len(dataset.listing) == len(dataset.fingerprint) == 64
    told = (
        [clip.path for clip in dataset.clips] + dataset.classes + dataset.notes + [fold.name for fold in dataset.folds]
    )
    json.dumps([dataset.id, dataset.reference, *told], ensure_ascii=False).encode()
    assert len(dataset.targets) == len(dataset.clips) > 0
    assert len(dataset.classes) >= 2
    for fold in dataset.folds:
        assert len(fold.train)
        assert len(fold.test)
        used = [*fold.train, *fold.validation, *fold.test]
        assert len(set(used)) == len(used)


def put(folder: Path, path: bytes, link: bytes | None = None) -> None:
    """A file or a link at a path; nothing where another file is in the way."""
    target = os.path.join(os.fsencode(folder), path)  # noqa: PTH118 - bytes
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH103, PTH120
        if link is None:
            with open(target, "ab"):  # noqa: PTH123
                pass
        else:
            os.symlink(link, target)  # noqa: PTH211
    except OSError:
        pass


@bounded
@given(
    files=st.lists(FILE, max_size=12),
    links=st.lists(st.tuples(FILE, FILE | st.sampled_from([b".", b".."])), max_size=4),
)
def test_class_folders(files: list[bytes], links: list[tuple[bytes, bytes]]) -> None:
    with scratch() as folder:
        for path in files:
            put(folder / "d", path)
        for place, target in links:
            put(folder / "d", place, target)
        (folder / "d").mkdir(exist_ok=True)
        is_one_line_or_works(lambda: open_dataset(str(folder / "d"), folder))
        for identifier in ("ravdess", "emovo", "irmas", "vivae", "audio_mnist", "mtt"):
            declaration = DECLARATIONS[identifier]
            assert presence(declaration, folder / "d") in {"incomplete", "yes"}
            is_one_line_or_works(lambda declaration=declaration: load_dataset(declaration, folder / "d"))  # type: ignore[misc]


@bounded
@given(name=NAME, label=NAME, argument=TEXTS)
def test_names_of_folders(name: bytes, label: bytes, argument: str) -> None:
    with scratch() as folder:
        for take in range(3):
            put(folder, name + b"/" + label + b"/%d.wav" % take)
            put(folder, name + b"/other/%d.wav" % take)
        where = str(folder / os.fsdecode(name))
        is_one_line_or_works(lambda: open_dataset(where, folder))
        is_one_line_or_works(lambda: open_dataset(f"esc50={where}", folder))
        if "\0" not in argument:  # no command line holds one
            is_one_line_or_works(lambda: open_dataset(argument, folder))
            is_one_line_or_works(lambda: open_dataset(f"{folder}/{argument}", folder))


HEADERS = st.lists(st.sampled_from(["path", "label", "labels", "split", "fold", "Path", " label", "x"]), max_size=5)
ROWS = st.lists(
    st.lists(TEXTS | st.sampled_from(["a.wav", "./b.wav", "b.wav", "c.wav", "d.wav"]), max_size=5), max_size=6
)
VALUES = st.recursive(
    TEXTS
    | st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["a.wav", "b.wav", "\ud800", "train"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)


def manifest(content: bytes, name: str) -> None:
    with scratch() as folder:
        for clip in ("a.wav", "b.wav", "c.wav", "d.wav"):
            put(folder / "d", clip.encode())
        (folder / "d" / name).write_bytes(content)
        is_one_line_or_works(lambda: open_dataset(str(folder / "d"), folder))


@bounded
@given(header=HEADERS, rows=ROWS, bom=st.booleans(), encoding=st.sampled_from(["utf-8", "utf-16", "latin-1"]))
def test_csv_manifests(header: list[str], rows: list[list[str]], bom: bool, encoding: str) -> None:
    text = "\n".join(",".join(row) for row in (header, *rows))
    manifest(("\ufeff" * bom + text).encode(encoding, "replace"), "manifest.csv")


@bounded
@given(
    rows=st.lists(st.dictionaries(st.sampled_from(["path", "label", "labels", "split", "fold"]), VALUES), max_size=5),
    junk=st.sampled_from(["", "{", "[" * 100_000, "\ufeff", "null", "\x00"]),
)
def test_json_manifests(rows: list[dict[str, Any]], junk: str) -> None:
    manifest("\n".join([*map(json.dumps, rows), junk]).encode(), "manifest.jsonl")


@bounded
@given(content=st.binary(max_size=60), name=st.sampled_from(["manifest.csv", "manifest.jsonl", "dataset.yaml"]))
def test_any_bytes_as_a_manifest_or_description(content: bytes, name: str) -> None:
    manifest(content, name)


KEYS = ("id", "title", "domain", "task", "max_seconds", "manifest", "folder", "licence", "citation", "x")
SCALARS = (
    "1e400",
    ".nan",
    ".inf",
    "2024-13-01",
    "9" * 5000,
    "!!int ''",
    "!!bool x",
    "!!python/object:os.system a",
    "*a",
    "&a",
)


@bounded
@given(
    values=st.dictionaries(
        st.sampled_from(KEYS),
        VALUES.map(json.dumps) | st.sampled_from(SCALARS) | st.text(string.printable, max_size=12),
    )
)
def test_descriptions(values: dict[str, str]) -> None:
    manifest("\n".join(f"{key}: {value}" for key, value in values.items()).encode(), "dataset.yaml")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    for identifier in TABLES:
        write_fixture(DECLARATIONS[identifier], folder / identifier, quirks=False)
    return folder


@bounded
@given(
    identifier=st.sampled_from(sorted(TABLES)),
    place=st.floats(0, 1),
    length=st.integers(0, 30),
    content=st.binary(max_size=8) | TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")),
)
def test_tables_of_the_twelve(whole: Path, identifier: str, place: float, length: int, content: bytes) -> None:
    """A piece of a table is replaced by something else."""
    table = whole / identifier / TABLES[identifier]
    right = table.read_bytes()
    start = int(place * len(right))
    try:
        table.write_bytes(right[:start] + content + right[start + length :])
        is_one_line_or_works(lambda: load_dataset(DECLARATIONS[identifier], whole / identifier))
    finally:
        table.write_bytes(right)


def _zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def _tar(members: dict[str, bytes], mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as file:  # type: ignore[call-overload]
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


MEMBERS = {f"root/{name}": name.encode() * 50 for name in ("a.wav", "b/c.wav", "._a.wav", ".DS_Store")}
ARCHIVES = {"a.zip": _zip(MEMBERS), "a.tar": _tar(MEMBERS, "w"), "a.tar.gz": _tar(MEMBERS, "w:gz")}


@bounded
@given(
    name=st.sampled_from(sorted(ARCHIVES)),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
    cut=st.floats(0.5, 1),
)
def test_archives(name: str, changes: list[tuple[float, int]], cut: float) -> None:
    """Bytes are changed, and the end is cut off; nothing lands outside, whatever the names become."""
    content = bytearray(ARCHIVES[name])
    for place, value in changes:
        content[int(place * len(content))] = value
    with scratch() as folder:
        (folder / name).write_bytes(content[: round(cut * len(content))])
        with suppress(ArchError, OSError):
            unpack([folder / name], folder / "inside" / "deep", strip_root=True)
        assert {path.name for path in folder.iterdir()} <= {name, "inside"}
        found = folder / "inside"
        assert not found.exists() or {path.name for path in found.iterdir()} == {"deep"}


def test_a_sound_archive_is_what_is_fuzzed() -> None:
    for name, content in ARCHIVES.items():
        with scratch() as folder:
            (folder / name).write_bytes(content)
            unpack([folder / name], folder / "inside", strip_root=True)
            assert sorted(path.name for path in (folder / "inside").rglob("*")) == ["a.wav", "b", "c.wav"]


def test_a_refusal_is_no_success() -> None:
    """The check itself: what it lets pass it has looked at."""
    with pytest.raises(ZeroDivisionError):
        is_one_line_or_works(lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    with pytest.raises(AssertionError):
        is_one_line_or_works(lambda: (_ for _ in ()).throw(UsageError("")))
