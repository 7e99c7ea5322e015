"""Every fault that a run can have, planted in real models and files: it is named, and what is healthy is not."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import arch_bench
import pytest
import soundfile
from arch_harness.results.checks.diagnoses import Diagnosis
from arch_harness.results.run import Run, read_run
from arch_serve.server import LocalServer
from support.faulty_models import add_encoder

pytestmark = [pytest.mark.ray, pytest.mark.triton, pytest.mark.slow]

COPIES, NEAR = 4, 4


def write_leaky(folder: Path, demo: Path) -> Path:
    """The demo's first two folds as one's own data: copies and louder, coded copies in the other one; two voices."""
    folder.mkdir()
    with (demo / "meta" / "esc50.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["fold"] in ("1", "2")]
    lines = []
    for place, row in enumerate(rows):
        shutil.copy(demo / "audio" / row["filename"], folder)
        lines.append((row["filename"], row["category"], row["fold"], f"voice {place % 2}"))
    of_first = [row for row in rows if row["fold"] == "1"]
    for row in of_first[:COPIES]:
        shutil.copy(demo / "audio" / row["filename"], folder / f"again-{row['filename']}")
        lines.append((f"again-{row['filename']}", row["category"], "2", "voice 2"))
    for row in of_first[COPIES : COPIES + NEAR]:
        sound, rate = soundfile.read(demo / "audio" / row["filename"])
        name = f"coded-{row['filename']}".replace(".wav", ".flac")
        soundfile.write(folder / name, 0.9 * sound, rate)
        lines.append((name, row["category"], "2", "voice 3"))
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "fold", "group"), *lines])
    (folder / "dataset.yaml").write_text("id: leaky\nmanifest: manifest.csv\nmax_seconds: 5\n")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("planted")


@pytest.fixture(scope="module")
def run(folder: Path, demo_dataset: Path) -> Run:
    """Faulty models and a healthy one on healthy data, and on data that leak."""
    repository = folder / "repository"
    add_encoder(repository, "healthy", checkpoint_sample_rate="16000")
    add_encoder(repository, "constant", "constant")
    add_encoder(repository, "collapsed", "collapsed")
    add_encoder(repository, "scrambled", "noise", untrained="true", checkpoint_normalization="whole")
    add_encoder(repository, "sociable", "batch mates")
    add_encoder(repository, "heavy", lengths="exact")
    with LocalServer(repository, grpc_port=0, http_port=0, metrics_port=0) as server:
        done = arch_bench.bench(
            [f"demo={demo_dataset}", write_leaky(folder / "leaky", demo_dataset)],
            servers=server.grpc_url,
            output=folder / "out",
            cache=folder / "cache",
            probes=["logreg"],
            seeds=1,
        )
    assert done.problems == ()
    return read_run(folder / "out" / "results.json")


def found(run: Run, rule: str, model: str | None = None) -> list[Diagnosis]:
    assert run.diagnoses is not None
    return [one for one in run.diagnoses if one.rule == rule and (model is None or one.models == [model])]


def test_what_is_healthy_has_no_diagnosis(run: Run) -> None:
    assert run.diagnoses is not None
    assert [one.rule for one in run.diagnoses if "healthy" in one.models or one.datasets == ["demo"]] == []
    (score,) = (one.score for one in run.results if (one.model, one.dataset) == ("healthy", "demo"))
    assert score > 0.3


def test_a_model_without_a_use_of_its_input(run: Run) -> None:
    (poor,) = found(run, "poor everywhere", "constant")
    assert poor.severity == "fault"
    assert "near chance on each of 2 datasets" in poor.finding
    assert "the same for every clip" in poor.finding
    (collapsed,) = found(run, "collapsed embeddings", "constant")
    assert (collapsed.severity, collapsed.datasets) == ("fault", ["demo", "leaky"])
    assert "effective rank" not in collapsed.finding


def test_a_model_of_one_direction(run: Run) -> None:
    (collapsed,) = found(run, "collapsed embeddings", "collapsed")
    assert "effective rank is 1.0" in collapsed.finding
    (poor,) = found(run, "poor everywhere", "collapsed")
    assert "effective rank goes down to 1.0" in poor.finding


def test_a_model_that_tells_nothing(run: Run) -> None:
    (poor,) = found(run, "poor everywhere", "scrambled")
    assert "untrained" in poor.finding
    assert "normalised otherwise (none) than its checkpoint asks for (whole)" in poor.finding
    assert "so clips and labels are in order" in poor.finding
    assert found(run, "collapsed embeddings", "scrambled") == []


def test_a_model_that_depends_on_its_batch(run: Run) -> None:
    (moved,) = found(run, "batch mates")
    assert moved.models == ["sociable"]
    assert moved.datasets == ["demo", "leaky"]


def test_a_model_that_depends_on_padding_though_it_says_not(run: Run) -> None:
    (moved,) = found(run, "padding")
    assert moved.models == ["heavy"]
    assert "lengths exact" in moved.finding


def test_copies_across_folds(run: Run) -> None:
    (copied,) = found(run, "copies")
    assert copied.datasets == ["leaky"]
    (files,) = (one.files for one in run.datasets if one.id == "leaky")
    assert files is not None
    # Each fold tests one of two copies, and trains on the other unless that one validates.
    assert 0 < files.copies <= 2 * COPIES
    for pair in files.copy_examples:
        assert {pair.train, pair.test} == {name := pair.test.removeprefix("again-"), f"again-{name}"}
    assert f"{files.copies} test clips of 48" in copied.finding
    assert "Without all copies" in copied.finding


def test_the_same_sound_in_other_files(run: Run) -> None:
    (copied,) = found(run, "near copies")
    assert copied.datasets == ["leaky"]
    (seen,) = (one.embeddings for one in run.results if (one.model, one.dataset) == ("healthy", "leaky"))
    assert seen is not None
    assert seen.near_same > 0
    for pair in seen.near_examples:
        assert [name.startswith("coded-") for name in (pair.train, pair.test)].count(True) == 1
        assert Path(pair.train).stem.removeprefix("coded-") == Path(pair.test).stem.removeprefix("coded-")


def test_speakers_across_folds(run: Run) -> None:
    (shared,) = found(run, "shared sources")
    assert (shared.datasets, shared.severity) == (["leaky"], "warning")
    assert "40 of 48 test clips" in shared.finding
    assert "(2 of 4)" in shared.finding


def test_reports_and_the_next_run_have_them(run: Run, folder: Path) -> None:
    page, text = (folder / "out" / "report.html").read_text(), (folder / "out" / "report.md").read_text()
    assert "Diagnoses" in page
    assert text.index("## Diagnoses") < text.index("## Results")
    for shown in (page[page.index('id="diagnoses"') :], text[text.index("## Diagnoses") :]):
        assert shown.count("near chance on each of 2 datasets") == 3
    before = run.diagnoses
    again = arch_bench.probe(folder / "out", probes=["knn"], seeds=1, cache=folder / "cache").run
    assert again.diagnoses is not None
    assert before is not None
    # Neighbours find the copies in the leaky dataset even in embeddings that tell nothing else.
    assert {one.rule for one in again.diagnoses} | {"poor everywhere"} == {one.rule for one in before}
    assert [one.resent for one in again.results] == [one.resent for one in run.results]
