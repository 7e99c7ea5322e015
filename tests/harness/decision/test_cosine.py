"""The stored embeddings of two runs, clip by clip."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from arch_common.errors import ArchError, UsageError
from arch_harness.datasets import Dataset
from arch_harness.decision.compare import RunFolder, compare_runs, compare_stores
from arch_harness.decision.cosine import compare_entries, entries_of
from arch_harness.decision.gate import run_gate
from arch_harness.decision.thresholds import Thresholds
from arch_harness.embeddings.key import KEY_FILE
from arch_harness.embeddings.reading import read_entry
from arch_harness.embeddings.store import EmbeddingStore
from arch_harness.results.run import Run
from arch_harness.results.scores import Failure
from numpy.typing import NDArray
from support.decisions import right, write_folder
from support.store_writer import CLIPS, SIZE, dataset_of, model_of, rows_of, write_data


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return dataset_of(write_data(tmp_path / "data"))


def filled(root: Path, dataset: Dataset, noise: float = 0.0, clips: int = CLIPS, finish: bool = True) -> Path:
    """An entry with embeddings that differ from `rows_of` by a multiple of others."""
    with EmbeddingStore(root).open(model_of(), dataset, layers=False) as entry:
        for index in range(clips):
            entry.append([(index, rows_of(index) + noise * rows_of(index, version=1))])
            if index % 40 == 0:
                entry.flush()
        if finish:
            entry.finish()
    return entry.folder


def cosines(noise: float, clips: int = CLIPS) -> NDArray[np.float64]:
    """By numpy alone, FP64 [clips]."""
    pairs = [(rows_of(index)[0], (rows_of(index) + noise * rows_of(index, version=1))[0]) for index in range(clips)]
    return np.array([one @ two / np.sqrt((one @ one) * (two @ two)) for one, two in pairs], dtype=np.float64)


def run_of(folder: Path, dataset: Dataset, stored: int = 0) -> RunFolder:
    """A run whose one model and dataset are those of the stored embeddings, with a store beside its results."""
    run = write_folder(folder, {("sharp", "esc50"): right(CLIPS, 0.8)})
    run.models = [model_of()]
    run.datasets[0].path, run.datasets[0].max_seconds = str(dataset.folder), dataset.declaration.max_seconds
    run.results[0].stored = stored
    return RunFolder(folder, Run.model_validate(run.model_dump()), folder / "store")


def test_each_clip_is_compared_with_itself(tmp_path: Path, dataset: Dataset) -> None:
    one, other = filled(tmp_path / "one", dataset, 0.1), filled(tmp_path / "two", dataset, finish=False)
    found = compare_entries(one, other)
    expected = cosines(0.1)
    assert (found.clips, found.expected) == (CLIPS, CLIPS)
    assert found.lowest == pytest.approx(expected.min(), abs=1e-6)
    assert found.mean == pytest.approx(expected.mean(), abs=1e-6)
    assert found.lowest_clip == dataset.clips[int(expected.argmin())].path


def test_the_newest_embedding_of_a_clip_counts(tmp_path: Path, dataset: Dataset) -> None:
    folder = filled(tmp_path / "one", dataset, finish=False)
    with EmbeddingStore(tmp_path / "one").open(model_of(), dataset, layers=False) as entry:
        entry.append([(3, rows_of(3, version=7))])
    found = read_entry(folder)
    assert len(found.paths) == CLIPS
    assert found.embeddings.shape == (CLIPS, SIZE)
    np.testing.assert_array_equal(found.embeddings[found.paths.index(dataset.clips[3].path)], rows_of(3, version=7)[0])


def test_clips_that_only_one_holds_are_counted(tmp_path: Path, dataset: Dataset) -> None:
    one, other = filled(tmp_path / "one", dataset), filled(tmp_path / "two", dataset, clips=100)
    assert compare_entries(one, other).clips == 100
    without = {dataset.clips[0].path}
    assert compare_entries(one, other, expected=CLIPS - 1, without=without).clips == 99


def test_stores_are_compared_by_model_and_dataset(tmp_path: Path, dataset: Dataset) -> None:
    one, _ = filled(tmp_path / "one", dataset, 0.1), filled(tmp_path / "two", dataset)
    by_root = compare_stores(entries_of(tmp_path / "one"), entries_of(tmp_path / "two"), ("one", "two"), print)
    by_entry = compare_stores(entries_of(one), entries_of(tmp_path / "two"), ("one", "two"), print)
    for found in (by_root, by_entry):
        (pair,) = found.pairs
        assert pair.name == "sharp on esc50"
        assert pair.embeddings is not None
        assert pair.embeddings.lowest == pytest.approx(cosines(0.1).min(), abs=1e-6)
    assert entries_of(tmp_path / "none") == entries_of(tmp_path / "data") == []


def test_what_is_no_entry_is_told(tmp_path: Path, dataset: Dataset) -> None:
    folder = filled(tmp_path / "one", dataset)
    (folder / KEY_FILE).write_text("{")
    with pytest.raises(ArchError, match="is no entry of the embedding store, or it is damaged"):
        read_entry(folder)
    with pytest.raises(UsageError, match=r"its key\.json cannot be read"):
        entries_of(folder)


def test_embeddings_of_two_lengths_have_no_cosine(tmp_path: Path, dataset: Dataset) -> None:
    one, other = filled(tmp_path / "one", dataset), filled(tmp_path / "two", dataset)
    with EmbeddingStore(tmp_path / "three").open(
        model_of().model_copy(update={"embedding_size": 3}), dataset, layers=False
    ) as entry:
        entry.append([(0, np.ones((1, 3), dtype=np.float32))])
    with pytest.raises(ArchError, match="embeddings of 24 and 3 numbers have no cosine similarity"):
        compare_entries(one, entry.folder)
    assert json.loads((other / KEY_FILE).read_text())["embedding_size"] == SIZE


@pytest.mark.parametrize(("noise", "verdict"), [(0.0, "PASS"), (0.01, "PASS"), (0.3, "FAIL")])
def test_a_gate_goes_by_the_lowest_clip(tmp_path: Path, dataset: Dataset, noise: float, verdict: str) -> None:
    ours, theirs = run_of(tmp_path / "ours", dataset), run_of(tmp_path / "theirs", dataset)
    filled(ours.store, dataset, noise)
    filled(theirs.store, dataset)
    (check,) = run_gate(ours, theirs, Thresholds(min_cosine=0.99)).checks
    assert (check.rule, check.verdict) == ("min-cosine 0.99", verdict)
    expected = cosines(noise)
    assert check.evidence.startswith(f"lowest cosine {expected.min():.6f} ("[:20])
    assert check.evidence.endswith(f"of {CLIPS} of {CLIPS} clips")
    assert (expected.mean() > 0.99) == (noise < 0.3)


def test_what_is_not_stored_is_missing(tmp_path: Path, dataset: Dataset) -> None:
    ours, theirs = run_of(tmp_path / "ours", dataset), run_of(tmp_path / "theirs", dataset)
    filled(ours.store, dataset)
    (check,) = run_gate(ours, theirs, Thresholds(min_cosine=0.99)).checks
    assert check.verdict == "MISSING"
    assert f"the store {theirs.store} holds no embeddings of sharp on esc50" in check.evidence
    filled(theirs.store, dataset, clips=100)
    (check,) = run_gate(ours, theirs, Thresholds(min_cosine=0.99)).checks
    assert check.verdict == "MISSING"
    assert check.evidence.endswith("of 100 of 150 clips: the others are not in both stores")


@pytest.mark.parametrize(("stored", "verdict"), [(0, None), (CLIPS, 1.0)])
def test_an_entry_that_both_runs_wrote_to_says_nothing_of_the_earlier(
    tmp_path: Path, dataset: Dataset, stored: int, verdict: float | None
) -> None:
    """But a run that took all of its embeddings from the store used those that are there."""
    theirs = run_of(tmp_path / "theirs", dataset)
    ours = run_of(tmp_path / "ours", dataset, stored)
    filled(theirs.store, dataset)
    shared = RunFolder(ours.folder, ours.run, theirs.store)
    (pair,) = compare_runs(shared, theirs, embeddings=True).pairs
    if verdict is None:
        assert pair.embeddings is None
        assert "the later one computed embeddings: they have replaced the earlier" in pair.problems["embeddings"]
    else:
        assert pair.embeddings is not None
        assert pair.embeddings.lowest == pytest.approx(verdict)


@pytest.mark.parametrize(
    ("earlier", "later", "failed", "compared"),
    [
        (CLIPS, 0, 0, False),  # the baseline's were all in the store, and the run has replaced them since
        (CLIPS - 1, CLIPS - 1, 1, True),  # a file that cannot be decoded is in no store, and nothing was computed
        (0, CLIPS - 1, 1, True),
        (0, CLIPS - 2, 1, False),
    ],
)
@pytest.mark.parametrize("ours_is_later", [True, False])
def test_what_the_later_run_computed_decides_of_a_shared_entry(
    tmp_path: Path, dataset: Dataset, earlier: int, later: int, failed: int, compared: bool, ours_is_later: bool
) -> None:
    first, second = run_of(tmp_path / "first", dataset, earlier), run_of(tmp_path / "second", dataset, later)
    second.run.results[0].started += timedelta(hours=1)
    for one in (first, second):
        one.run.results[0].failed = failed
        one.run.results[0].failures = [Failure(clip="broken.wav", stage="decode", reason="is empty")] * failed
    filled(first.store, dataset)
    second = RunFolder(second.folder, second.run, first.store)
    ours, theirs = (second, first) if ours_is_later else (first, second)
    (pair,) = compare_runs(ours, theirs, embeddings=True).pairs
    assert (pair.embeddings is not None) == compared
