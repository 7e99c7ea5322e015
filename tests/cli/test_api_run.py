"""One bench of three kinds of datasets through the public API, and what can be made of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import arch_bench
import numpy as np
import pytest

pytestmark = [pytest.mark.triton, pytest.mark.ray, pytest.mark.torch, pytest.mark.slow]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, demo_dataset: Path) -> list[str]:
    """A known dataset, a stricter split, and a folder of one's own."""
    folder = tmp_path_factory.mktemp("api")
    own = folder / "own"
    for clip in sorted((demo_dataset / "audio").iterdir()):
        label = "low" if int(clip.stem.rsplit("-", 1)[1]) < 5 else "high"
        (own / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, own / label)
    arch_bench.data.imitate("ravdess", folder / "ravdess", quirks=False)
    return [f"demo={demo_dataset}", f"ravdess@strict={folder / 'ravdess'}", str(own)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, repository: Path, data: list[str]) -> arch_bench.LoadedRun:
    folder = tmp_path_factory.mktemp("api_run")
    with arch_bench.serve(repository, ["logmel"], grpc_port=0, http_port=0, metrics_port=0) as server:
        return arch_bench.bench(data, servers=[server.grpc_url], output=folder / "out", cache=folder / "cache", seeds=1)


def test_it_is_what_load_gives(run: arch_bench.LoadedRun) -> None:
    loaded = arch_bench.load(run.folder, cache=run.cache)
    assert loaded.run == run.run
    assert loaded.problems == run.problems == ()
    assert loaded.failed == 0
    assert arch_bench.load(run.folder / "results.json").run == run.run
    assert run.report.is_file()


def test_a_frame_has_a_row_for_each_probe(run: arch_bench.LoadedRun) -> None:
    frame = run.to_pandas()
    assert list(zip(frame["model"], frame["dataset"], frame["probe"], strict=True)) == [
        ("logmel", "demo", "linear"),
        ("logmel", "ravdess@strict", "linear"),
        ("logmel", "own", "linear"),
    ]
    first = run.run.results[0]
    assert first.measurement is not None
    assert first.measurement.latency_ms is not None
    row = frame.iloc[0]
    assert row["score"] == first.score
    assert row["clips_per_s"] == first.measurement.clips_per_s
    assert row["p99_ms"] == first.measurement.latency_ms.p99
    assert row["transport"] == "grpc"


def test_embeddings_come_with_what_belongs_to_them(run: arch_bench.LoadedRun) -> None:
    found = run.embeddings("logmel", "demo")
    assert found.array.shape == (100, 160)
    assert found.array.dtype == np.float32
    assert len(found.paths) == len(found.labels) == 100
    assert len(set(found.paths)) == 100
    assert len(found.folds) == 5
    for fold in found.folds:
        together = np.concatenate([fold.train, fold.validation, fold.test])
        assert sorted(together.tolist()) == list(range(100))
    with pytest.raises(arch_bench.UsageError, match="no result of logmel on esc50; it has: logmel on demo"):
        run.embeddings("logmel", "esc50")


def test_stored_embeddings_of_every_kind_of_dataset_are_scored_again(run: arch_bench.LoadedRun, tmp_path: Path) -> None:
    """Strict splits and own data too: what bench accepts, probe does."""
    shutil.copytree(run.folder, tmp_path / "run")
    again = arch_bench.probe(tmp_path / "run", probes=["knn", "linear"], seeds=1, cache=run.cache)
    assert again.problems == ()
    assert [[one.probe for one in result.probes] for result in again.run.results] == [["knn", "linear"]] * 3
    assert [result.probes[1].score for result in again.run.results] == [one.score for one in run.run.results]
    assert len(again.to_pandas()) == 6


def test_runs_are_compared_where_they_have_something_in_common(run: arch_bench.LoadedRun, tmp_path: Path) -> None:
    shutil.copytree(run.folder, tmp_path / "run")
    other = arch_bench.probe(tmp_path / "run", seeds=1, seed=5, cache=run.cache)
    comparison = run.compare(other)
    assert [(pair.model, pair.dataset, [one.probe for one in pair.scores]) for pair in comparison.pairs] == [
        ("logmel", "demo", ["linear"]),
        ("logmel", "ravdess@strict", ["linear"]),
        ("logmel", "own", ["linear"]),
    ]
    assert any("settings.seed is 0, and 5 in the baseline" in line for line in comparison.warnings)
    for pair, mine, theirs in zip(comparison.pairs, run.run.results, other.run.results, strict=True):
        (one,) = pair.scores
        assert one.difference == pytest.approx(mine.score - theirs.score)
        assert one.low <= one.difference <= one.high
        assert one.more_than_noise == (one.low > 0 or one.high < 0)
        assert mine.measurement is not None
        speed = pair.figures[0]
        assert (speed.figure, speed.value, speed.ratio) == ("clips_per_s", mine.measurement.clips_per_s, 1.0)
        assert speed.verdict == "measured once"
    same = run.compare(run, embeddings=True)
    assert all(one.difference == 0 and not one.more_than_noise for pair in same.pairs for one in pair.scores)


def test_stored_embeddings_of_two_runs_are_compared(
    run: arch_bench.LoadedRun, repository: Path, data: list[str], tmp_path: Path
) -> None:
    """The same model served again into a store of its own."""
    with arch_bench.serve(repository, ["logmel"], grpc_port=0, http_port=0, metrics_port=0) as server:
        again = arch_bench.bench(
            data[0], servers=[server.grpc_url], output=tmp_path / "out", cache=tmp_path / "cache", seeds=1
        )
    gate = arch_bench.gate(again, run, min_cosine=0.9999, max_drop="1pt", datasets=["demo"])
    assert [(one.rule, one.verdict) for one in gate.result.checks] == [
        ("max-drop 1pt", "PASS"),
        ("min-cosine 0.9999", "PASS"),
    ], gate.result.checks
    assert "of 100 of 100 clips" in gate.result.checks[1].evidence


def test_data_that_changed_is_not_taken_for_the_runs(
    run: arch_bench.LoadedRun, data: list[str], tmp_path: Path
) -> None:
    own = Path(data[2])
    clip = next((own / "low").iterdir())
    clip.rename(tmp_path / clip.name)
    try:
        with pytest.raises(arch_bench.UsageError, match="has changed since the run: run arch bench again"):
            run.embeddings("logmel", "own")
    finally:
        (tmp_path / clip.name).rename(clip)
