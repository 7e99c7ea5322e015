"""One folder a class: what is a split, what is a class, and that none vanishes without a word."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile
from arch_common.errors import UsageError
from arch_harness.datasets import Dataset
from arch_harness.datasets.audio import load_clip
from arch_harness.datasets.listing import AUDIO_SUFFIXES
from arch_harness.datasets.registry import open_dataset
from arch_harness.datasets.verify import verify
from support.made_data import touch


def opened(folder: Path) -> Dataset:
    return open_dataset(str(folder), folder)


def below(*parts: str) -> list[str]:
    return [f"{part}/{label}/{part}{take}.wav" for part in parts for label in ("cat", "dog") for take in (1, 2)]


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        *(("Train", None, "Test"), ("training", None, "testing"), ("TRAIN", "Validation", "TEST")),
        *(("train", "dev", "test"), ("Training", "VAL", "Test"), ("train", "devel", "test")),
    ],
)
def test_the_parts_of_a_split_have_many_names(tmp_path: Path, train: str, validation: str | None, test: str) -> None:
    touch(tmp_path / "d", *below(train, *([validation] if validation else []), test), "docs/read.me")
    dataset = opened(tmp_path / "d")
    assert dataset.classes == ["cat", "dog"]
    (fold,) = dataset.folds
    for part, indices in ((train, fold.train), (validation, fold.validation), (test, fold.test)):
        assert {dataset.clips[index].path.split("/")[0] for index in indices} == ({part} if part else set())
        assert len(indices) == (4 if part else 0)


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("train", "val"), "holds train, val, where train and test must be there, each once; have .*/train, maybe"),
        (("Train",), "holds Train, where train and test must be there"),
        (("test", "dev"), "where train and test must be there"),
        (("train", "Train", "test"), "each once"),
        (("val", "validation", "train", "test"), "each once"),
        (("train", "eval", "test"), "/eval may be meant for validation or for test"),
        (("dev", "eval"), "/eval may be meant for validation or for test"),
        (("train", "test", "extra"), "holds test, train, which are a split, and extra, which is not"),
        (("train_set", "test_set"), "the folders test_set, train_set look like splits or folds, not like classes"),
        (("TrainData", "ValData", "TestData"), "look like splits or folds"),
        (("train-clean", "test-clean"), "look like splits or folds"),
        (("fold1", "fold2", "fold10"), "the folders fold1, fold10, fold2 look like splits or folds"),
        (("Fold_1", "Fold_2"), "look like splits or folds"),
    ],
)
def test_what_only_looks_like_a_split_is_no_set_of_classes(
    tmp_path: Path, folders: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        opened(touch(tmp_path / "d", *below(*folders)))


@pytest.mark.parametrize(
    "folders", [("train", "aeroplane"), ("valid", "invalid"), ("test_tone", "noise"), ("fold", "1"), ("0", "1")]
)
def test_a_class_may_have_the_name_of_a_part(tmp_path: Path, folders: tuple[str, ...]) -> None:
    dataset = opened(touch(tmp_path / "d", *(f"{name}/{take}.wav" for name in folders for take in (1, 2))))
    assert dataset.classes == sorted(folders)


def test_parts_below_the_classes_are_refused(tmp_path: Path) -> None:
    folder = touch(tmp_path / "d", *(f"{label}/{part}/1.wav" for label in ("cat", "dog") for part in ("Train", "test")))
    with pytest.raises(UsageError, match="holds test, train below its classes; put the classes below"):
        opened(folder)
    # A folder of that name in some classes means nothing.
    touch(folder, "cat/1.wav")
    assert opened(folder).classes == ["cat", "dog"]


def test_every_format_that_libsndfile_reads_is_a_clip(tmp_path: Path) -> None:
    """Written by libsndfile in each, and read back; the suffixes of what it reads but does not write are left."""
    formats = {
        **{".wav": "WAV", ".wave": "WAVEX", ".bwf": "WAV", ".rf64": "RF64", ".w64": "W64", ".flac": "FLAC"},
        **{".ogg": "OGG", ".oga": "OGG", ".opus": "OGG", ".mp3": "MP3", ".aiff": "AIFF", ".aif": "AIFF"},
        **{".aifc": "AIFF", ".au": "AU", ".snd": "AU", ".caf": "CAF", ".nist": "NIST", ".sph": "NIST", ".voc": "VOC"},
    }
    assert set(AUDIO_SUFFIXES) - set(formats) == {".mp2"}
    tone = (0.4 * np.sin(np.arange(8000) / 8)).astype(np.float32)
    for place, (suffix, kind) in enumerate(formats.items()):
        path = touch(tmp_path / "d", f"{'ab'[place % 2]}/{place}{suffix.upper() if place % 3 else suffix}")
        path = path / f"{'ab'[place % 2]}/{place}{suffix.upper() if place % 3 else suffix}"
        soundfile.write(path, tone, 8000, format=kind, subtype="OPUS" if suffix == ".opus" else None)
        assert np.abs(load_clip(path, 8000, 5)).max() == pytest.approx(0.4, abs=0.1)
    dataset = opened(tmp_path / "d")
    assert len(dataset.clips) == len(formats)
    assert not [fault for fault in verify(dataset, 1) if fault.kind != "leak"]


def test_a_class_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    folder = touch(tmp_path / "d", "cat/1.wav", "dog/1.wav", "cow/1.m4a", "cow/2.M4A", "cow/3.wma")
    with pytest.raises(UsageError, match=r"d/cow holds only audio that libsndfile cannot read \(2 \.m4a, 1 \.wma in"):
        opened(folder)
    touch(folder, "train/cow/1.m4a")
    for path in ("cow/1.m4a", "cow/2.M4A", "cow/3.wma"):
        (folder / path).unlink()
    touch(tmp_path / "split", *below("train", "test"), "train/cow/1.m4a")
    with pytest.raises(UsageError, match=r"split/train/cow holds only audio that libsndfile cannot read \(1 \.m4a"):
        opened(tmp_path / "split")


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    folder = touch(
        tmp_path / "d", "cat/1.wav", "cat/2.wav", "dog/1.wav", "dog/2.m4a", "dog/more/3.m4a", "loose.aac", "docs/a.txt"
    )
    (folder / "cow").mkdir()
    dataset = opened(folder)
    assert dataset.classes == ["cat", "dog"]
    assert "Left out: 2 .m4a, 1 .aac files, which libsndfile cannot read." in dataset.notes
    assert "Folders without audio, which are no classes: cow, docs." in dataset.notes
    extra = {fault.where for fault in verify(dataset, 1) if fault.kind == "extra"}
    assert extra == {"dog/2.m4a", "dog/more/3.m4a", "loose.aac"}
    # Nothing is said where nothing is left out.
    whole = opened(touch(tmp_path / "whole", "cat/1.wav", "cat/2.wav", "dog/1.wav", "dog/notes.txt"))
    assert not [note for note in whole.notes if "eft out" in note or "without audio" in note]


def test_two_forms_of_one_name_are_one_class(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Möwe") for form in ("NFC", "NFD"))
    assert composed != decomposed
    dataset = opened(
        touch(tmp_path / "d", f"{composed}/1.wav", f"{decomposed}/2.wav", "Kauz/3.wav", f"Kauz/{decomposed}.wav")
    )
    assert dataset.classes == ["Kauz", composed]
    assert dataset.targets.tolist() == [0, 0, *([1] * 2)]
    # The files keep the names that they have.
    assert all((tmp_path / "d" / clip.path).is_file() for clip in dataset.clips)


def test_a_class_of_links_is_a_class(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "1.wav", "2.wav")
    touch(tmp_path / "d", "dog/3.wav")
    (tmp_path / "d" / "cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "d" / "dog" / "gone.wav").symlink_to("nowhere.wav")
    dataset = opened(tmp_path / "d")
    assert [clip.path for clip in dataset.clips] == ["cat/1.wav", "cat/2.wav", "dog/3.wav", "dog/gone.wav"]
    assert ("missing", "dog/gone.wav") in {(fault.kind, fault.where) for fault in verify(dataset, 1)}


def test_a_pipe_is_no_clip(tmp_path: Path) -> None:
    touch(tmp_path / "d", "cat/1.wav", "dog/2.wav", "dog/4.wav")
    os.mkfifo(tmp_path / "d" / "dog" / "3.wav")
    assert [clip.path for clip in opened(tmp_path / "d").clips] == ["cat/1.wav", "dog/2.wav", "dog/4.wav"]


@pytest.mark.parametrize("name", [b"dog/caf\xe9.wav", b"caf\xe9/1.wav"])
def test_a_name_that_is_no_utf8_is_refused(tmp_path: Path, name: bytes) -> None:
    touch(tmp_path / "d", "cat/1.wav", "dog/2.wav", os.fsdecode(name))
    with pytest.raises(
        UsageError, match=r"d: the name '.*caf\\udce9.*' is not UTF-8 or holds control characters; rename"
    ):
        opened(tmp_path / "d")


def test_a_label_of_two_lines_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the name 'dog\\n\\x1b/2\.wav' is not UTF-8 or holds control characters"):
        opened(touch(tmp_path / "d", "cat/1.wav", "dog\n\x1b/2.wav"))
