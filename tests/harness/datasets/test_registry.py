"""One place where what a user names becomes a dataset, and what is taken of it once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from arch_common.errors import UsageError
from arch_harness.datasets.fixtures.fixture import write_fixture
from arch_harness.datasets.registry import find_declaration, open_dataset


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with ESC-50 and EMOVO, and data of one's own beside it. Nobody may change it."""
    folder = tmp_path_factory.mktemp("registry")
    for identifier in ("esc50", "audio_mnist"):
        write_fixture(find_declaration(identifier), folder / "root" / identifier, 100, False, 0)
    for label in ("wren", "robin"):
        for take in range(10):
            (folder / "birds" / label).mkdir(parents=True, exist_ok=True)
            (folder / "birds" / label / f"{take}.wav").touch()
    (folder / "birds.yaml").write_text("folder: birds\ntitle: Birds\n")
    return folder / "root"


@pytest.mark.parametrize(
    ("argument", "identifier"),
    [
        *(("esc50", "esc50"), ("esc50={root}/esc50", "esc50"), ("esc50@strict", "esc50@strict")),
        *(("esc50@strict={root}/esc50", "esc50@strict"), ("{root}/../birds", "birds")),
        ("{root}/../birds.yaml", "birds"),
    ],
)
def test_a_dataset_tells_how_to_open_it_again(
    root: Path, argument: str, identifier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root.parent)
    found = open_dataset(argument.format(root=root), root)
    assert found.id == identifier
    assert found.is_strict == identifier.endswith("@strict")
    monkeypatch.chdir("/")
    again = open_dataset(found.reference, Path())
    assert again.id == identifier
    assert again.reference == found.reference
    assert (again.listing, again.fingerprint) == (found.listing, found.fingerprint)


def test_the_option_and_the_name_of_a_strict_split_are_one(root: Path) -> None:
    assert open_dataset("esc50@strict", root).listing == open_dataset("esc50", root, strict=True).listing
    assert open_dataset("esc50", root).listing != open_dataset("esc50", root, strict=True).listing


def test_a_strict_split_that_does_not_exist_is_refused_where_it_is_named(root: Path) -> None:
    with pytest.raises(UsageError, match="audio_mnist: no stricter split: "):
        open_dataset("audio_mnist@strict", root)
    assert open_dataset("audio_mnist", root, strict=True).id == "audio_mnist"
    with pytest.raises(UsageError, match="unknown dataset 'esc51'"):
        open_dataset("esc51@strict", root)


def test_a_fingerprint_looks_at_each_file_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_dataset("esc50", root)
    looked: list[str] = []
    stat = os.stat

    def counting(path: str, **options: bool) -> os.stat_result:
        looked.append(path)
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", counting)
    first = dataset.fingerprint
    for _ in range(16):
        assert dataset.fingerprint == first
    assert len([path for path in looked if str(path).endswith(".wav")]) == len(dataset.clips) == 100


def test_a_listing_does_not_change_with_the_files_and_a_fingerprint_does(root: Path, tmp_path: Path) -> None:
    root = shutil.copytree(root, tmp_path / "root")
    before = open_dataset("esc50", root)
    listing, fingerprint = before.listing, before.fingerprint
    (root / "esc50" / before.clips[0].path).write_bytes(b"another")
    after = open_dataset("esc50", root)
    assert after.listing == listing
    assert after.fingerprint != fingerprint


def test_an_equals_sign_without_a_path_is_refused(root: Path) -> None:
    """As `esc50=$UNSET` leaves it: what lies in the data root is not what was meant."""
    with pytest.raises(UsageError, match=r"^esc50= names no path behind the =; leave the = out to look below"):
        open_dataset("esc50=", root)


def test_own_data_has_no_strict_split(root: Path) -> None:
    with pytest.raises(UsageError, match=r"birds: no stricter split: own data is split as it says itself"):
        open_dataset(f"{root.parent}/birds@strict", root)
