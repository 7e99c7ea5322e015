"""`arch probe` on a folder as `arch bench` leaves it, and the comparisons that come of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from arch_bench.main import app
from arch_harness.bench.resuming.fingerprints import embedding_fingerprint
from arch_harness.bench.score import is_done
from arch_harness.datasets import load_dataset
from arch_harness.datasets.catalog import DECLARATIONS
from arch_harness.embeddings.store import EmbeddingStore
from arch_harness.results.embedding_pass import EmbeddingPass, pass_path, write_pass
from arch_harness.results.run import Settings, read_run, write_run
from arch_harness.results.scores import Failure
from support.runs import run_of
from support.store_writer import CLIPS, write_data
from typer.testing import CliRunner

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 6
MODELS = ("sharp", "dull")


@pytest.fixture
def folder(tmp_path: Path, cache: Path) -> Path:
    """A run of two models: the embeddings of one tell the classes apart, those of the other hardly; a clip failed."""
    write_data(tmp_path / "data")
    dataset = load_dataset(DECLARATIONS["esc50"], tmp_path / "data")
    failure = Failure(clip=dataset.clips[0].path, stage="decode", reason="is empty")
    run = run_of(MODELS, ("esc50",))
    run.datasets[0].path = str(tmp_path / "data")
    run.datasets[0].reference = f"esc50={tmp_path / 'data'}"
    output = tmp_path / "out"
    output.mkdir()
    random = np.random.default_rng(0)
    for noise, model, result in zip((0.1, 4), run.models, run.results, strict=True):
        result.clips, result.failed, result.failures = CLIPS, 1, [failure]
        model.embedding_size, model.content_hash = SIZE, f"sha256:{model.name}"
        embeddings = 5 * np.eye(SIZE)[dataset.targets.astype(np.int64)] + noise * random.standard_normal((CLIPS, SIZE))
        with EmbeddingStore(cache).open(model, dataset, layers=False) as entry:
            entry.append((index, embeddings[index : index + 1].astype(np.float32)) for index in range(1, CLIPS))
            entry.finish()
        fingerprint = embedding_fingerprint(model, dataset, run.settings)
        passed = EmbeddingPass(
            fingerprint=fingerprint, started=result.started, failures=[failure], measurement=result.measurement
        )
        write_pass(passed, pass_path(output, model.name, "esc50"))
    write_run(run, output / "results.json")
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
    # Every probe of each model, and no speed: nothing was sent to a server.
    shown = [
        (model, probe) for line in output.splitlines() for model in MODELS for probe in line.split() if model in line
    ]
    assert [pair for pair in shown if pair[1] in ("linear", "logreg", "mlp", "knn")] == [
        (model, probe) for model in MODELS for probe in ("knn", "logreg")
    ]
    assert "clips/s" not in output
    assert "kept" not in output
    after = read_run(folder / "results.json")
    assert after.settings == Settings.model_validate(
        {**before.settings.model_dump(), "seed": 5, "seeds": 2, "probes": ["knn", "logreg"]}
    )
    for old, new in zip(before.results, after.results, strict=True):
        assert [one.probe for one in new.probes] == ["knn", "logreg"]
        assert new.score == new.probes[0].score
        assert new.probes[0].folds[0].chosen is not None
        assert sum(fold.test for fold in new.folds) == CLIPS - 1  # the failed clip is in no part
        assert new.measurement == old.measurement
        assert is_done(folder, new, new.fingerprint)
        assert not is_done(folder, new, old.fingerprint)
    comparison = after.comparisons[0]
    assert (comparison.model, comparison.other, comparison.clips) == (*MODELS, CLIPS - 1)
    assert comparison.more_than_noise
    assert comparison.difference == pytest.approx(after.results[0].score - after.results[1].score)
    assert "more than noise" in (folder / "report.md").read_text()
    # One that was interrupted after its first pair goes on from there, and ends with the same.
    interrupted = after.model_copy(update={"results": [after.results[0], before.results[1]], "comparisons": []})
    write_run(interrupted, folder / "results.json")
    code, output = arch("probe", str(folder), "--probe", "knn", "--probe", "logreg", "--seeds", "2", "--seed", "5")
    assert code == 0
    assert [line for line in output.splitlines() if "kept" in line] == [
        f"{MODELS[0]} on esc50: scored so already, kept"
    ]
    again = read_run(folder / "results.json")
    assert [one.score for one in again.results] == [one.score for one in after.results]
    assert [one.interval for one in again.results] == [one.interval for one in after.results]
    assert again.comparisons == after.comparisons


def test_as_much_is_printed_as_was_asked_for(folder: Path) -> None:
    code, output = arch("probe", str(folder), "--probe", "knn", "--quiet")
    assert (code, output) == (0, f"{folder / 'report.html'}\n")
    code, output = arch("probe", str(folder), "--probe", "knn", "-v")
    assert code == 0
    assert "Decode" in output
    assert output.splitlines()[-1] == f"report: {folder / 'report.html'}"
    assert arch("probe", str(folder), "-v", "--quiet") == (2, "--verbose and --quiet: choose one")


def test_what_cannot_be_scored_is_one_clear_line(folder: Path) -> None:
    assert arch("probe", str(folder / "nothing")) == (
        2,
        f"{folder / 'nothing'} holds no results.json; name a folder that arch bench wrote",
    )
    assert arch("probe", str(folder), "--seeds", "0")[0] == 2
    assert arch("probe", str(folder), "--probe", "forest")[0] == 2
    before = (folder / "results.json").read_bytes()
    path = pass_path(folder, "sharp", "esc50")
    (folder.parent / "data/audio/7.wav").write_text("changed")
    code, message = arch("probe", str(folder))
    assert code == 2
    assert message.startswith(f"{path} is missing or not of the dataset in {folder.parent / 'data'} as it is now")
    assert "\n" not in message
    path.unlink()
    assert "is missing" in arch("probe", str(folder))[1]
    assert (folder / "results.json").read_bytes() == before


def test_embeddings_that_were_pruned_are_one_clear_line(folder: Path, cache: Path) -> None:
    before = (folder / "results.json").read_bytes()
    code, output = arch("cache", "list")
    assert code == 0
    assert "sharp" in output
    assert "dull" in output
    assert arch("cache", "prune")[0] == 2
    assert arch("cache", "prune", "--all", "--model", "dull")[0] == 2
    code, output = arch("cache", "prune", "--dataset", "us8k")
    assert output == f"deleted 0 entries of {cache}: 0.0 MB freed\n"
    assert arch("cache", "prune", "--unused-days", "1")[1] == output
    code, output = arch("cache", "prune", "--model", "dull")
    assert code == 0
    assert output.startswith(f"deleted 1 entry of {cache}: ")
    code, output = arch("probe", str(folder), "--probe", "knn")
    assert (code, output) == (
        2,
        f"{CLIPS - 1} of {CLIPS} embeddings of dull on esc50 are not in the store {cache}: pruned, or kept elsewhere "
        "(--cache); arch bench computes them again",
    )
    assert (folder / "results.json").read_bytes() == before
    assert arch("cache", "prune", "--all")[1].startswith("deleted 1 entry")
    assert arch("cache", "list")[1] == f"no embeddings in {cache}\n"


def test_a_clip_that_failed_in_the_run_takes_no_part_if_another_run_has_mended_it(folder: Path, cache: Path) -> None:
    run = read_run(folder / "results.json")
    dataset = load_dataset(DECLARATIONS["esc50"], folder.parent / "data")
    with EmbeddingStore(cache).open(run.models[0], dataset, layers=False) as entry:
        entry.append([(0, np.ones((1, SIZE), dtype=np.float32))])
    assert arch("probe", str(folder), "--probe", "knn")[0] == 0
    assert sum(fold.test for fold in read_run(folder / "results.json").results[0].folds) == CLIPS - 1
