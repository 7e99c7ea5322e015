"""One's own data: manifests, class folders, descriptions, and datasets that packages bring."""

from __future__ import annotations

import json
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from arch_common.errors import ArchError, UsageError
from arch_harness.datasets import Dataset, registry
from arch_harness.datasets.registry import open_dataset
from arch_harness.datasets.verify import verify
from support.made_data import CSV, manifest, touch


def folds(dataset: Dataset) -> dict[str, tuple[list[int], list[int], list[int]]]:
    return {one.name: (one.train.tolist(), one.validation.tolist(), one.test.tolist()) for one in dataset.folds}


def test_a_csv_manifest_with_a_split(tmp_path: Path) -> None:
    dataset = open_dataset(str(manifest(tmp_path / "my data", CSV)), tmp_path)
    assert (dataset.id, dataset.classes, dataset.targets.tolist()) == ("my_data", ["cat", "dog"], [0, 1, 0, 1])
    assert [clip.path for clip in dataset.clips] == ["a.wav", "b.wav", "sub/c.wav", "d.wav"]
    assert folds(dataset) == {"official": ([0, 1], [2], [3])}
    assert dataset.declaration.max_seconds == 10
    assert any("cut or padded to 10 s" in note for note in dataset.notes)


def test_a_json_lines_manifest_with_labels_and_folds(tmp_path: Path) -> None:
    rows = [
        {"path": "a.wav", "labels": ["x", "y"], "fold": 1},
        {"path": "b.wav", "labels": [], "fold": 1},
        {"path": "sub/c.wav", "labels": ["y"], "fold": 2},
        {"path": "d.wav", "labels": ["x"], "fold": 10},
    ]
    dataset = open_dataset(str(manifest(tmp_path / "m", [json.dumps(row) for row in rows], "manifest.jsonl")), tmp_path)
    assert dataset.declaration.task == "multi_label"
    assert dataset.targets.dtype == np.bool_
    assert dataset.targets.tolist() == [[True, True], [False, False], [False, True], [True, False]]
    assert {name: test for name, (_, _, test) in folds(dataset).items()} == {"1": [0, 1], "2": [2], "10": [3]}


def test_a_fold_that_is_null_is_missing(tmp_path: Path) -> None:
    rows = [{"path": path, "label": "x", "fold": fold} for path, fold in (("a.wav", 1), ("b.wav", None))]
    with pytest.raises(UsageError, match="line 2: the fold is missing"):
        open_dataset(str(manifest(tmp_path / "m", [json.dumps(row) for row in rows], "manifest.jsonl")), tmp_path)


@pytest.mark.parametrize("folds", [("1", "²", "3", "10"), ("٣", "1", "2", "10"), ("1", "2", "9" * 5000, "10")])
def test_folds_that_only_look_like_numbers_are_names(tmp_path: Path, folds: tuple[str, ...]) -> None:
    lines = [
        f"{path},x{place % 2},{folds[place]}" for place, path in enumerate(("a.wav", "b.wav", "sub/c.wav", "d.wav"))
    ]
    dataset = open_dataset(str(manifest(tmp_path / "m", ["path,label,fold", *lines])), tmp_path)
    assert [fold.name for fold in dataset.folds] == sorted(folds)


def test_columns_in_capitals_are_the_same_columns(tmp_path: Path) -> None:
    """And none that is not known, which would mean a random split."""
    plain = open_dataset(str(manifest(tmp_path / "m", CSV)), tmp_path)
    capitals = ["\ufeff Path , LABEL,Split", *CSV[1:]]
    assert open_dataset(str(manifest(tmp_path / "m", capitals)), tmp_path).listing == plain.listing
    parts = [line.replace(",train", ",Training").replace(",val", ",VAL").replace(",test", ",Test") for line in CSV]
    assert open_dataset(str(manifest(tmp_path / "m", parts)), tmp_path).listing == plain.listing
    (tmp_path / "m" / "manifest.csv").unlink()
    rows = [
        json.dumps(dict(zip(("Path", "Label ", "SPLIT"), line.split(","), strict=True)))
        for line in ("\ufeff", *CSV[1:])[1:]
    ]
    assert open_dataset(str(manifest(tmp_path / "m", rows, "manifest.jsonl")), tmp_path).listing == plain.listing


def test_labels_and_folds_that_look_the_same_are_the_same(tmp_path: Path) -> None:
    lines = [
        "path,label,fold",
        "a.wav,Mo\u0308we,\u00fc",
        "b.wav,M\u00f6we,u\u0308",
        "sub/c.wav,Kauz,v",
        "d.wav,Kauz,v",
    ]
    dataset = open_dataset(str(manifest(tmp_path / "m", lines)), tmp_path)
    assert dataset.classes == ["Kauz", "M\u00f6we"]
    assert {name: test for name, (_, _, test) in folds(dataset).items()} == {"v": [2, 3], "\u00fc": [0, 1]}


def test_a_path_may_be_written_in_another_form_than_the_disk_has(tmp_path: Path) -> None:
    lines = ["path,label", "M\u00f6we.wav,x", "Mo\u0308we/2.wav,y", "a.wav,x", "b.wav,y"]
    folder = manifest(tmp_path / "m", lines)
    touch(folder, "Mo\u0308we.wav", "M\u00f6we/2.wav")
    dataset = open_dataset(str(folder), tmp_path)
    assert all((folder / clip.path).is_file() for clip in dataset.clips)
    manifest(folder, [*lines, "Mo\u0308we.wav,x"])
    with pytest.raises(UsageError, match=r"line 6: .* stands in line 2 already"):
        open_dataset(str(folder), tmp_path)


@pytest.mark.parametrize(
    ("name", "identifier"),
    [
        *(("鳥の声", "鳥の声"), ("喇叭", "喇叭"), ("Vögel 2", "Vögel_2"), ("Vo\u0308gel", "Vögel"), ("हिन्दी", "हिन्दी")),
        *(("-birds-", "birds"), ("a  b", "a_b"), ("my data", "my_data")),
    ],
)
def test_an_id_keeps_the_letters_of_any_script(tmp_path: Path, name: str, identifier: str) -> None:
    assert open_dataset(str(manifest(tmp_path / name, CSV)), tmp_path).id == identifier


@pytest.mark.parametrize("name", ["***", "鳥" * 34, "🐦"])
def test_a_name_that_makes_no_id_says_what_to_do(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"cannot be an id: use letters, .*; say `id: \.\.\.` in a dataset\.yaml"):
        open_dataset(str(manifest(tmp_path / name, CSV)), tmp_path)
    (tmp_path / name / "dataset.yaml").write_text("id: birds\nmanifest: manifest.csv\n")
    assert open_dataset(str(tmp_path / name), tmp_path).id == "birds"


def test_paths_are_written_in_one_way(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    lines = ["path,label", "./a.wav,cat", "sub/../b.wav,dog", "sub//c.wav,cat", f"{folder.resolve()}/d.wav,dog"]
    dataset = open_dataset(str(manifest(folder, lines)), tmp_path)
    assert [clip.path for clip in dataset.clips] == ["a.wav", "b.wav", "sub/c.wav", "d.wav"]
    assert not [fault for fault in verify(dataset, 1) if fault.kind == "extra"]


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    touch(tmp_path / "d", "cat/1.wav", "dog/2.wav")
    touch(tmp_path / "elsewhere", "3.wav", "deep/4.wav")
    (tmp_path / "d" / "cat" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "d" / "cat" / "up").symlink_to("..")
    (tmp_path / "d" / "dog" / "top").symlink_to(tmp_path.parent)
    (tmp_path / "elsewhere" / "deep" / "back").symlink_to(tmp_path / "d")
    dataset = open_dataset(str(tmp_path / "d"), tmp_path)
    assert [clip.path for clip in dataset.clips] == [
        "cat/1.wav",
        "cat/more/3.wav",
        "cat/more/deep/4.wav",
        "dog/2.wav",
    ]


def test_a_description(tmp_path: Path) -> None:
    manifest(tmp_path / "audio", ["path,labels", "a.wav,x;y", "b.wav,x", "sub/c.wav,y", "d.wav,x"], "list.csv")
    described = tmp_path / "birds.yaml"
    described.write_text(
        "title: |\n  Birds\n\ntask: multi_label\nmax_seconds: 2.5\nmanifest: audio/list.csv\nfolder: audio\n"
    )
    dataset = open_dataset(str(described), tmp_path)
    assert (dataset.id, dataset.declaration.title, dataset.declaration.max_seconds) == ("birds", "Birds", 2.5)
    assert [clip.labels for clip in dataset.clips] == [("x", "y"), ("x",), ("y",), ("x",)]
    assert list(folds(dataset)) == ["random"]


def test_class_folders(tmp_path: Path) -> None:
    touch(
        tmp_path / "d",
        *(f"{label}/deep/{clip}.{suffix}" for label in ("cat", "dog") for clip, suffix in ((1, "wav"), (2, "mp3"))),
    )
    touch(tmp_path / "d", "cat/notes.txt", ".cache/x.wav")
    dataset = open_dataset(str(tmp_path / "d"), tmp_path)
    assert [clip.path for clip in dataset.clips] == [
        "cat/deep/1.wav",
        "cat/deep/2.mp3",
        "dog/deep/1.wav",
        "dog/deep/2.mp3",
    ]
    assert dataset.targets.tolist() == [0, 0, 1, 1]


def test_a_path_may_hold_an_equals_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "x=1", *(f"{label}/{clip}.wav" for label in ("cat", "dog") for clip in (1, 2)))
    monkeypatch.chdir(tmp_path)
    assert [open_dataset(name, tmp_path).id for name in ("./x=1", str(tmp_path / "x=1"))] == ["x_1", "x_1"]


def test_class_folders_below_a_split(tmp_path: Path) -> None:
    touch(tmp_path / "d", "train/cat/1.wav", "train/dog/2.wav", "val/cat/3.wav", "test/dog/4.wav")
    dataset = open_dataset(str(tmp_path / "d"), tmp_path)
    by_path = {
        part: [dataset.clips[index].path for index in indices]
        for part, indices in zip(("train", "val", "test"), folds(dataset)["official"], strict=True)
    }
    assert by_path == {
        "train": ["train/cat/1.wav", "train/dog/2.wav"],
        "val": ["val/cat/3.wav"],
        "test": ["test/dog/4.wav"],
    }
    assert dataset.classes == ["cat", "dog"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        *(
            ("esc-50", "esc50"),
            ("ESC50", "esc50"),
            ("UrbanSound8K", "us8k"),
            ("urbansound", "us8k"),
            ("fma-smal", "fma_small"),
        ),
        *(
            ("MagnaTagATune", "mtt"),
            ("ravdes", "ravdess"),
            ("medley-solos", "medley_solos_db"),
            ("Audio MNIST", "audio_mnist"),
        ),
    ],
)
def test_what_may_be_meant_by_an_unknown_name(tmp_path: Path, name: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"unknown dataset '{name}'; did you mean {meant}"):
        open_dataset(f"{name}={tmp_path}", tmp_path)


def test_a_dataset_that_is_not_there_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"no folder .*/esc50\. arch data fetch esc50 downloads it\. If it lies elsewhere"
    ):
        open_dataset("esc50@strict", tmp_path)
    with pytest.raises(
        UsageError, match=r"EMOVO is given by its authors only\..* name it as emovo=PATH or by --data-root"
    ):
        open_dataset("emovo", tmp_path)


def test_a_folder_that_is_not_named_in_utf8(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the path .*caf\\udce9 is not UTF-8 or holds control characters"):
        open_dataset(str(manifest(tmp_path / "caf\udce9", CSV)), tmp_path)


def test_a_package_brings_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "barks_for_arch"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "from dataclasses import replace\n"
        "from arch_harness.datasets.catalog import DECLARATIONS\n"
        "BARKS = replace(DECLARATIONS['vivae'], id='barks', title='Barks')\n"
    )
    facts = tmp_path / "site" / "barks_for_arch-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: barks-for-arch\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[arch_bench.datasets]\nbarks = barks_for_arch:BARKS\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    touch(
        tmp_path / "barks",
        *(f"full_set/S{speaker}_{kind}_low_01.wav" for speaker in ("01", "02", "03") for kind in ("fear", "pain")),
    )
    dataset = open_dataset("barks", tmp_path)
    assert (dataset.id, len(dataset.folds)) == ("barks", 3)
    # Its id is its own: a folder of that name does not shadow it, and one's own data cannot take it.
    touch(tmp_path / "here" / "barks", "loud/1.wav", "soft/2.wav")
    monkeypatch.chdir(tmp_path / "here")
    assert open_dataset("barks", tmp_path).declaration.title == "Barks"
    with pytest.raises(UsageError, match="would have the id 'barks' of a dataset that arch knows"):
        open_dataset("./barks", tmp_path)
    # A package that is broken is named, and does not keep arch's own datasets from being used.
    (facts / "entry_points.txt").write_text("[arch_bench.datasets]\nbarks = barks_for_arch:MEOWS\n")
    sys.modules.pop("barks_for_arch")
    with pytest.raises(ArchError, match="'barks' of the package 'barks-for-arch' cannot be loaded"):
        open_dataset("barks", tmp_path)
    with pytest.raises(UsageError, match="there is no folder"):
        open_dataset("esc50", tmp_path)


def test_a_package_cannot_take_a_known_id(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("esc50", "arch_harness.datasets.catalog.esc50:DECLARATION", registry.ENTRY_POINTS)
    monkeypatch.setattr(registry, "entry_points", lambda **_: [point])
    with pytest.raises(ArchError, match="has the id 'esc50', which is taken"):
        registry.declarations()
