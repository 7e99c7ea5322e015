"""`arch probe` on a folder as `arch bench` leaves it, and the comparisons that come of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from arch_harness import store
from arch_harness.cli import app
from arch_harness.datasets import DECLARATIONS, load_dataset
from arch_harness.probing import embedding_fingerprint, embeddings_path, is_done
from arch_harness.results import ServerTimes, Settings, read_run, write_run
from arch_harness.stream import Embedded
from test_report import run_of
from typer.testing import CliRunner

if TYPE_CHECKING:
    from pathlib import Path

CLIPS, CLASSES = 150, 3
MODELS = ("sharp", "dull")


def write_dataset(folder: Path) -> None:
    """ESC-50's layout; `arch probe` reads no audio."""
    (folder / "meta").mkdir(parents=True)
    (folder / "audio").mkdir()
    rows = ["filename,fold,target"]
    for index in range(CLIPS):
        (folder / "audio" / f"{index}.wav").touch()
        rows.append(f"{index}.wav,{index % 5 + 1},{index // 5 % CLASSES}")
    (folder / "meta" / "esc50.csv").write_text("\n".join(rows))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of two models: the embeddings of one tell the classes apart, those of the other hardly."""
    write_dataset(tmp_path / "data")
    dataset = load_dataset(DECLARATIONS["esc50"], tmp_path / "data")
    run = run_of(MODELS, ("esc50",))
    run.datasets[0].path = str(tmp_path / "data")
    output = tmp_path / "out"
    output.mkdir()
    write_run(run, output / "results.json")
    random = np.random.default_rng(0)
    for noise, model in zip((0.1, 4), run.models, strict=True):
        embeddings = 5 * np.eye(6)[dataset.targets.astype(np.int64)] + noise * random.standard_normal((CLIPS, 6))
        succeeded = np.arange(CLIPS) > 0
        no_layers = np.zeros((CLIPS, 0, 6), dtype=np.float32)
        embedded = Embedded(embeddings.astype(np.float32), no_layers, succeeded, [], np.ones(CLIPS - 1), 10.0, 2.0)
        times = ServerTimes(requests=1, queue_ms=1, compute_ms=1, batch_sizes={}, mean_batch_size=1, foreign_requests=0)
        fingerprint = embedding_fingerprint(model, dataset, run.settings)
        store.save(embeddings_path(output, model.name, "esc50"), embedded, times, fingerprint)
    return output


def arch(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*arguments], catch_exceptions=True)
    if result.exception and not isinstance(result.exception, SystemExit):
        return getattr(result.exception, "exit_code", 99), str(result.exception)
    return result.exit_code, result.output


def test_stored_embeddings_are_scored_again_and_models_compared(folder: Path) -> None:
    before = read_run(folder / "results.json")
    code, output = arch("probe", str(folder), "--probe", "knn", "--probe", "logreg", "--seeds", "2", "--seed", "5")
    assert code == 0, output
    after = read_run(folder / "results.json")
    assert after.settings == Settings.model_validate(
        {**before.settings.model_dump(), "seed": 5, "seeds": 2, "probes": ["knn", "logreg"]}
    )
    for old, new in zip(before.results, after.results, strict=True):
        assert [one.probe for one in new.probes] == ["knn", "logreg"]
        assert new.score == new.probes[0].score
        assert new.probes[0].folds[0].chosen is not None
        assert sum(fold.test for fold in new.folds) == CLIPS - 1  # the failed clip is in no part
        assert (new.clips_per_s, new.latency_ms, new.server) == (old.clips_per_s, old.latency_ms, old.server)
        assert is_done(folder, new, new.fingerprint)
        assert not is_done(folder, new, old.fingerprint)
    comparison = after.comparisons[0]
    assert (comparison.model, comparison.other, comparison.clips) == (*MODELS, CLIPS - 1)
    assert comparison.more_than_noise
    assert comparison.difference == pytest.approx(after.results[0].score - after.results[1].score)
    assert "more than noise" in (folder / "report.md").read_text()
    assert arch("probe", str(folder), "--probe", "knn", "--probe", "logreg", "--seeds", "2", "--seed", "5")[0] == 0
    again = read_run(folder / "results.json")
    assert [one.score for one in again.results] == [one.score for one in after.results]
    assert [one.interval for one in again.results] == [one.interval for one in after.results]
    assert again.comparisons == after.comparisons


def test_what_cannot_be_scored_is_one_clear_line(folder: Path) -> None:
    assert arch("probe", str(folder / "nothing")) == (
        2,
        f"{folder / 'nothing'} holds no results.json; name a folder that arch bench wrote",
    )
    assert arch("probe", str(folder), "--seeds", "0")[0] == 2
    assert arch("probe", str(folder), "--probe", "forest")[0] == 2
    before = (folder / "results.json").read_bytes()
    (folder.parent / "data/audio/7.wav").write_text("changed")
    code, message = arch("probe", str(folder))
    assert code == 2
    assert "not of the dataset in" in message
    assert "\n" not in message
    embeddings_path(folder, "sharp", "esc50").unlink()
    assert "is missing" in arch("probe", str(folder))[1]
    assert (folder / "results.json").read_bytes() == before
