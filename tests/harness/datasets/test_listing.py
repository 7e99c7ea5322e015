"""The same data in other clothes: copied by a Mac or by Windows, put together of links, saved by another editor."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from arch_common.errors import UsageError
from arch_harness.datasets import Dataset, Declaration, load_dataset
from arch_harness.datasets.catalog import ARCH, DECLARATIONS
from arch_harness.datasets.dataset import with_strict_split
from arch_harness.datasets.fixtures.fixture import write_fixture
from arch_harness.datasets.listing import find_files, missing_pattern, walk_files
from arch_harness.datasets.registry import presence
from arch_harness.datasets.verify import verify

# Its first bytes are those of AppleDouble, which holds what else macOS knows of a file.
APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        "
TABLES = {".csv", ".tsv", ".jsonl", ".txt"}
BY_NAME = ("vivae", "fma_small", "irmas", "ravdess", "audio_mnist", "emovo")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All twelve. Nobody may change them."""
    folder = tmp_path_factory.mktemp("whole")
    for declaration in ARCH:
        write_fixture(declaration, folder / declaration.id, 60, quirks=False)
    return folder


def copy(whole: Path, identifier: str, to: Path) -> Path:
    return Path(shutil.copytree(whole / identifier, to / identifier))


def lists(dataset: Dataset) -> list[object]:
    """What a dataset is, without its place: clips with their labels and groups, and who is in which part."""
    clips = [(clip.path, clip.labels, clip.group) for clip in dataset.clips]
    parts = [
        [(fold.name, *part.tolist()) for part in (fold.train, fold.validation, fold.test)] for fold in dataset.folds
    ]
    return [clips, dataset.classes, dataset.targets.tolist(), parts, sorted(dataset.unused)]


def audio(folder: Path) -> Iterator[Path]:
    yield from [path for path in folder.rglob("*") if path.suffix in {".wav", ".mp3", ".flac"}]


@pytest.mark.parametrize("declaration", ARCH, ids=lambda one: one.id)
def test_what_macos_leaves_is_nobodys_data(declaration: Declaration, whole: Path, tmp_path: Path) -> None:
    folder = copy(whole, declaration.id, tmp_path)
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        (path.parent / f"._{path.name}").write_bytes(APPLE_DOUBLE)
        (path.parent / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
        double = folder / "__MACOSX" / path.relative_to(folder)
        double.parent.mkdir(parents=True, exist_ok=True)
        double.write_bytes(APPLE_DOUBLE)
    for parent in {path.parent for path in audio(folder)}:
        shutil.copytree(parent, parent / "__MACOSX", dirs_exist_ok=True)
    assert lists(load_dataset(declaration, folder)) == lists(load_dataset(declaration, whole / declaration.id))
    assert [fault for fault in verify(load_dataset(declaration, folder), 1) if fault.kind == "extra"] == []


def test_what_macos_leaves_alone_is_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "full_set").mkdir()
    (tmp_path / "full_set" / "._S01_fear_low_01.wav").write_bytes(APPLE_DOUBLE)
    with pytest.raises(UsageError, match=r"does not hold full_set/\*\.wav"):
        load_dataset(DECLARATIONS["vivae"], tmp_path)
    assert presence(DECLARATIONS["vivae"], tmp_path) == "incomplete"


def test_leftovers_do_not_draw_the_validation_split_of_irmas_anew(whole: Path, tmp_path: Path) -> None:
    folder = copy(whole, "irmas", tmp_path)
    for path in list(audio(folder)):
        (path.parent / f"._{path.name}").write_bytes(APPLE_DOUBLE)
    for declaration in (DECLARATIONS["irmas"], with_strict_split(DECLARATIONS["irmas"])):
        dataset = load_dataset(declaration, folder)
        assert len(dataset.clips) == 60
        assert lists(dataset) == lists(load_dataset(declaration, whole / "irmas"))


@pytest.mark.parametrize("declaration", ARCH, ids=lambda one: one.id)
def test_folders_may_be_links(declaration: Declaration, whole: Path, tmp_path: Path) -> None:
    """Each folder of the release is one link more on the way to the clips."""
    folder = copy(whole, declaration.id, tmp_path)
    deepest_first = sorted((path for path in folder.rglob("*") if path.is_dir()), key=lambda path: -len(path.parts))
    for number, inner in enumerate(deepest_first):
        inner.rename(tmp_path / str(number))
        inner.symlink_to(tmp_path / str(number))
    assert presence(declaration, folder) == "fixture"
    (folder / "arch-fixture.json").unlink()
    assert presence(declaration, folder) == "yes"
    assert lists(load_dataset(declaration, folder)) == lists(load_dataset(declaration, whole / declaration.id))


@pytest.mark.parametrize("identifier", BY_NAME)
def test_a_suffix_may_be_in_capitals(identifier: str, whole: Path, tmp_path: Path) -> None:
    """Where the files are the list. Where a table is, the names in it are the files'."""
    folder = copy(whole, identifier, tmp_path)
    for path in list(audio(folder)):
        path.rename(path.with_suffix(path.suffix.upper()))
    declaration = DECLARATIONS[identifier]
    for one in (declaration, with_strict_split(declaration)):
        small = re.sub(r"\.(WAV|MP3)'", lambda suffix: suffix[0].lower(), str(lists(load_dataset(one, folder))))
        assert small == str(lists(load_dataset(one, whole / identifier)))
    assert verify(load_dataset(declaration, folder), 1) == []


def test_a_table_that_lists_nothing_that_is_there_is_one_line(whole: Path, tmp_path: Path) -> None:
    folder = copy(whole, "esc50", tmp_path)
    for path in list(audio(folder)):
        path.rename(path.with_suffix(".WAV"))
    with pytest.raises(
        UsageError, match=r"holds none of the 60 files that it lists; the first is audio/1-100000-A-0\.wav"
    ):
        load_dataset(DECLARATIONS["esc50"], folder)


@pytest.mark.parametrize("identifier", [one.id for one in ARCH])
def test_tables_may_begin_with_a_byte_order_mark(identifier: str, whole: Path, tmp_path: Path) -> None:
    folder = copy(whole, identifier, tmp_path)
    tables = [path for path in folder.rglob("*") if path.suffix in TABLES]
    for table in tables:
        table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())
    assert tables or identifier in BY_NAME
    assert lists(load_dataset(DECLARATIONS[identifier], folder)) == lists(
        load_dataset(DECLARATIONS[identifier], whole / identifier)
    )


@pytest.mark.parametrize("identifier", [one.id for one in ARCH if one.id not in {"vivae", "ravdess", "emovo"}])
def test_a_table_in_another_encoding_is_one_line(identifier: str, whole: Path, tmp_path: Path) -> None:
    folder = copy(whole, identifier, tmp_path)
    for table in [path for path in folder.rglob("*") if path.suffix in TABLES]:
        table.write_bytes(table.read_text(encoding="utf-8").encode("utf-16"))
    if identifier == "audio_mnist":  # its table names no clips
        assert len(load_dataset(DECLARATIONS[identifier], folder).clips) == 60
        return
    with pytest.raises(UsageError, match=r"not UTF-8|cannot be read"):
        load_dataset(DECLARATIONS[identifier], folder)


def _set(folder: Path, path: str, change: Callable[[str], str]) -> None:
    (folder / path).write_text(change((folder / path).read_text(encoding="utf-8")), encoding="utf-8")


@pytest.mark.parametrize(
    ("identifier", "path", "old", "new", "message"),
    [
        ("mtt", "train_gt_mtt.tsv", r"^\d+", "²", "line 1: '²' is no clip_id"),
        ("fma_small", "fma_metadata/tracks.csv", r"^2,", "²,", "line 5: wants a track number"),
        ("esc50", "meta/esc50.csv", r"wav,1,", "wav,²,", "'²' is no valid fold"),
        ("us8k", "metadata/UrbanSound8K.csv", r",1,0,class_0", f",1,{'9' * 5000},class_0", "is no valid classID"),
        ("fsd50k", "FSD50K.ground_truth/dev.csv", "Dog,Animal", "Dog,,Animal", "'Bark,Dog,,Animal' is no valid labels"),
        ("slurp", "train.jsonl", r"^\{.*", "[" * 100_000, "line 1: wants JSON with intent and recordings"),
        ("slurp", "train.jsonl", "alarm_set", r"\\udce9", "the name .* is not UTF-8"),
    ],
)
def test_a_value_that_is_no_number_or_text_is_one_line(
    identifier: str, path: str, old: str, new: str, message: str, whole: Path, tmp_path: Path
) -> None:
    folder = copy(whole, identifier, tmp_path)
    _set(folder, path, lambda text: re.sub(old, new, text, count=1, flags=re.MULTILINE))
    with pytest.raises(UsageError, match=message):
        load_dataset(DECLARATIONS[identifier], folder)


def test_a_walk_ends_whatever_the_links(tmp_path: Path) -> None:
    inner = tmp_path / "d" / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "x.wav").touch()
    for name, target in (("self", "self"), ("here", "."), ("up", ".."), ("top", "../.."), ("root", "/")):
        (inner / name).symlink_to(target)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "y.wav").touch()
    (tmp_path / "other" / "back").symlink_to(inner)
    (inner / "other").symlink_to(tmp_path / "other")
    (tmp_path / "d" / "a" / "gone.wav").symlink_to("nowhere")
    assert sorted(walk_files(tmp_path / "d")) == ["a/b/other/y.wav", "a/b/self", "a/b/x.wav", "a/gone.wav"]
    # From above through a link, and of a folder that is not there.
    (tmp_path / "link").symlink_to(tmp_path / "d")
    assert find_files(tmp_path / "link", "a") == ["a/b/other/y.wav", "a/b/x.wav", "a/gone.wav"]
    assert find_files(tmp_path, "none") == []


def test_links_that_double_with_each_folder_are_refused(tmp_path: Path) -> None:
    """Nothing leads back here, but there are 2^40 ways."""
    for level in range(40):
        (tmp_path / str(level)).mkdir()
        for name in ("left", "right"):
            (tmp_path / str(level) / name).symlink_to(tmp_path / str(level + 1))
    (tmp_path / "40").mkdir()
    with pytest.raises(UsageError, match="is a link within 10 others"):
        find_files(tmp_path / "29")
    assert find_files(tmp_path / "30") == []


def test_patterns_see_what_a_walk_sees(tmp_path: Path) -> None:
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "real" / "deep" / "03-01.WAV").touch()
    (tmp_path / "table.csv").touch()
    (tmp_path / "set").symlink_to("real")
    held = ("table.csv", "**/03-*.wav", "set/*/*.wav", "set/**/*.wav", "*/deep/*.wav", "set/de?p/03-0[12].wav", "**/*")
    assert [pattern for pattern in held if missing_pattern(tmp_path, [pattern])] == []
    lacking = (
        "Table.csv",
        "*.wav",
        "set/*.wav",
        "set/deep",
        "**/04-*.wav",
        "set/*/*/*.wav",
        "deep/*.wav",
        "set/Deep/*",
    )
    assert [pattern for pattern in lacking if not missing_pattern(tmp_path, [pattern])] == []
    assert missing_pattern(tmp_path, ["table.csv", "b/*", "a/*"]) == "b/*"


def test_a_folder_that_cannot_be_read_is_no_empty_one(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy(whole, "vivae", tmp_path)
    scandir = os.scandir

    def denied(path: Path) -> object:
        if str(path).endswith("full_set"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(UsageError, match=r"cannot read the folder .*/full_set: Permission denied"):
        load_dataset(DECLARATIONS["vivae"], folder)
    (folder / "arch-fixture.json").unlink()
    assert presence(DECLARATIONS["vivae"], folder) == "incomplete"
