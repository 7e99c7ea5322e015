"""One's own data that is not as it must be: manifests, descriptions and folders, each refused in one line."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from arch_common.errors import UsageError
from arch_harness.datasets import Dataset
from arch_harness.datasets.registry import open_dataset
from support.made_data import CSV, manifest, touch


def folds(dataset: Dataset) -> dict[str, tuple[list[int], list[int], list[int]]]:
    return {one.name: (one.train.tolist(), one.validation.tolist(), one.test.tolist()) for one in dataset.folds}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["file,label", "a.wav,cat"], "line 1: wants a header with path"),
        ([*CSV, "gone.wav,cat,test", "lost.wav,cat,test"], "line 6: there is no file .*gone.wav, nor of 1 other lines"),
        ([*CSV, "a.wav,cat,test"], "line 6: a.wav stands in line 2 already"),
        ([*CSV[:3], "d.wav,,test"], "line 4: the label is missing"),
        ([*CSV[:3], "d.wav,dog,eval"], "line 4: split is 'eval'; it must be train, validation or test"),
        ([*CSV[:3], "d.wav,dog"], "line 4: does not have as many values as the header"),
        ([*CSV[:3], ",dog,test"], "line 4: the path is missing"),
        (["path,split", "a.wav,train"], "line 2: every line must have either a label or labels"),
        (["path,label,split,fold", "a.wav,x,train,1"], "line 2: every line must have a split, or every line a fold"),
        (["path,label"], "lists no clips"),
        (["path,label,Label", "a.wav,cat,dog"], "line 1: the column label is there twice"),
        (["path,label", f"{'a' * 5000}.wav,cat"], "line 2: there is no file"),
        (["path,label", "a\0.wav,cat"], r"line 2: path is 'a\\x00.wav'; it must be text of one line"),
        (["path,label", 'a.wav,"cat\ndog"'], r"line 3: label is 'cat\\ndog'; it must be text of one line"),
        (["path,label", "a.wav,cat", "b.wav,cat"], "clips of one class only"),
        (["path,label,split", "a.wav,cat,train", "b.wav,dog,train"], "too few clips or folds"),
    ],
)
def test_faults_of_a_csv_manifest(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_dataset(str(manifest(tmp_path / "m", lines)), tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"path": "./a.wav", "labels": ["x"]}', "line 2: a.wav stands in line 1 already"),
        ("{", "line 2: this is no JSON"),
        ("[1]", "line 2: wants an object"),
        ('{"path": "b.wav", "Path": "d.wav", "labels": ["x"]}', "line 2: the key path is there twice"),
        ("[" * 100_000, "line 2: this is no JSON"),
        ('{"path": "b.wav", "labels": ["\\udcff"]}', r"line 2: label is '\\udcff'; it must be text"),
        ('{"path": "\\ud800.wav", "labels": ["x"]}', "line 2: path is .*; it must be text"),
        ('{"path": ["b.wav"], "labels": ["x"]}', r"line 2: path is \['b.wav'\]; it must be text"),
        ('{"path": "b.wav", "labels": "x"}', "line 2: labels must be a list of texts"),
        ('{"path": "b.wav", "labels": ["x", "x"]}', "line 2: a label stands there twice"),
        ('{"path": "b.wav", "label": "x"}', "line 2: every line must have either a label or labels"),
        ('{"path": "b.wav", "labels": ["x"], "fold": 1}', "line 2: every line must have a split, or every line a fold"),
    ],
)
def test_faults_of_a_json_lines_manifest(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_dataset(
            str(manifest(tmp_path / "m", ['{"path": "a.wav", "labels": ["x"]}', line], "manifest.jsonl")), tmp_path
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_second: 3\n", "unknown key 'max_second'"),
        ("id: a\ntitle: [", "line 2|line 3"),
        ("max_seconds: -1\n", "max_seconds is -1"),
        ("max_seconds: 0.001\n", "max_seconds is 0.001; it must be a number from 0.1 to 600"),
        ("max_seconds: 1.0e+400\n", "max_seconds is inf; it must be"),
        ("max_seconds: .nan\n", "max_seconds is nan; it must be"),
        ("task: regression\n", "task is 'regression'; it must be one of single_label, multi_label"),
        ("- a\n", "wants `key: value` lines"),
        ("title: 2024-13-45\n", "cannot be understood: ValueError: month must be"),
        (f"title: {'9' * 5000}\n", "cannot be understood: ValueError"),
        ("title: " + "[" * 5000, "cannot be understood: RecursionError"),
        ('title: "\\ud800"\n', "title is .*; it must be text"),
        ('manifest: "a\\0.csv"\n', r"manifest is 'a\\x00.csv'; it must be text of one line"),
        (f"folder: {'a' * 5000}\n", "there is no folder"),
        ("a: &a [x, x]\nb: &b [*a, *a]\ntask: [*b, *b]\n", "unknown key 'a'"),
        ("folder: gone\n", "there is no folder"),
        ("manifest: gone.csv\n", "cannot read .*gone.csv"),
        ("id: a/b\nmanifest: manifest.csv\n", "cannot be an id"),
        (
            "manifest: manifest.csv\nmax_seconds: 3\nmax_seconds: 5\n",
            "dataset.yaml: the key 'max_seconds' is there twice",
        ),
        ("id: esc50\nmanifest: manifest.csv\n", "the id 'esc50' of a dataset that arch knows"),
        ("{}\n", "dataset.yaml names no manifest, but there is .*/m/manifest.csv: say `manifest: manifest.csv`"),
    ],
)
def test_faults_of_a_description(tmp_path: Path, text: str, message: str) -> None:
    manifest(tmp_path / "m", CSV)
    (tmp_path / "m" / "dataset.yaml").write_text(text)
    with pytest.raises(UsageError, match=message):
        open_dataset(str(tmp_path / "m"), tmp_path)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("dataset.yml", "dataset.yaml"),
        ("Dataset.yaml", "dataset.yaml"),
        ("manifest.tsv", "manifest.csv or manifest.jsonl"),
        ("manifest.json", "manifest.csv or manifest.jsonl"),
        ("MANIFEST.CSV", "manifest.csv or manifest.jsonl"),
    ],
)
def test_what_is_nearly_named_as_a_description_is_not_passed_over(tmp_path: Path, name: str, wanted: str) -> None:
    touch(tmp_path, *(f"{label}/{take}.wav" for label in ("cat", "dog") for take in range(5)), name)
    message = f"{tmp_path / name} is not read: it must be a file named {wanted}, or not be there"
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        open_dataset(str(tmp_path), tmp_path)


def test_a_clip_beside_the_folders_of_classes_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{label}/{take}.wav" for label in ("cat", "dog") for take in range(5)), "loose.wav")
    with pytest.raises(UsageError, match=r"loose\.wav is in no class folder"):
        open_dataset(str(tmp_path), tmp_path)


@pytest.mark.parametrize("name", ["dataset.yaml", "manifest.csv", "manifest.jsonl"])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_description_that_is_no_file_is_not_passed_over(tmp_path: Path, name: str, kind: str) -> None:
    touch(tmp_path, *(f"{label}/{take}.wav" for label in ("cat", "dog") for take in range(5)))
    place = tmp_path / name
    if kind == "link":
        place.symlink_to("gone")
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place.mkdir()
    with pytest.raises(UsageError, match=f"{name} is no file that can be read: it must be a file named"):
        open_dataset(str(tmp_path), tmp_path)


def test_a_manifest_is_read_whatever_else_lies_beside_it(tmp_path: Path) -> None:
    folder = manifest(tmp_path / "m", CSV)
    touch(folder, "manifest.tsv", "manifest.json", "datasets.yml")
    assert len(open_dataset(str(folder), tmp_path).clips) == 4


def test_what_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no dataset"):
        open_dataset(str(tmp_path), tmp_path)
    with pytest.raises(UsageError, match=r"neither a folder nor a \.yaml file"):
        open_dataset(str(tmp_path / "gone"), tmp_path)
    with pytest.raises(UsageError, match="unknown dataset 'nonsense'; known: audio_mnist"):
        open_dataset("nonsense", tmp_path)
    (tmp_path / "self").symlink_to("self")
    for path in ("./self", "~nobody/data", "/" + "a" * 5000):
        with pytest.raises(UsageError, match=r"neither a folder nor a \.yaml file"):
            open_dataset(path if path[0] != "." else str(tmp_path / path), tmp_path)
