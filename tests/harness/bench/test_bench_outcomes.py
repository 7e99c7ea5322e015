"""What `arch bench` tells of a run that did not go as it should have, and that its results hold it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from arch_harness.bench.bench import Bench
from arch_harness.bench.resuming.output import held_output
from arch_harness.results.run import ModelFacts, check_settings, read_run
from arch_serve.server import LocalServer
from support.commands import arch, one_line
from support.runs import model

pytestmark = [pytest.mark.torch, pytest.mark.ray, pytest.mark.triton, pytest.mark.slow]

CLIPS = 20
RATE = 16000


def write_clip(path: Path, scale: float = 0.3) -> None:
    """A second of a tone of the class, with noise of its own, as floating-point samples."""
    number, frequency = int(path.stem), 300 if path.parent.name == "low" else 900
    noise = np.random.default_rng(number).standard_normal(RATE)
    sound = scale * (np.sin(2 * np.pi * frequency * np.arange(RATE) / RATE) + 0.05 * noise)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound.astype(np.float32), RATE, subtype="FLOAT")


def clips_of(folder: Path) -> list[Path]:
    return [folder / ("low", "high")[index % 2] / f"{index}.wav" for index in range(CLIPS)]


def bench_of(folder: Path, output: Path, *servers: LocalServer, models: tuple[str, ...] = ("logmel",)) -> list[str]:
    options = [word for server in servers for word in ("--server", server.grpc_url)]
    options += [word for name in models for word in ("--model", name)]
    return ["bench", *options, "--dataset", str(folder), "--output", str(output), "--seeds", "1"]


def test_a_pair_whose_clips_all_fail_is_kept_without_a_score_until_a_run_scores_it(
    tmp_path: Path, server: LocalServer
) -> None:
    for path in clips_of(tmp_path / "sounds"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("junk")
    command = bench_of(tmp_path / "sounds", tmp_path / "out", server)
    done = arch(*command)
    assert done.returncode == 1
    run = read_run(tmp_path / "out" / "results.json")
    assert run.results == []
    (lost,) = run.unscored
    assert (lost.model, lost.dataset, lost.clips, len(lost.failures)) == ("logmel", "sounds", CLIPS, CLIPS)
    assert {failure.clip for failure in lost.failures} == {
        path.relative_to(tmp_path / "sounds").as_posix() for path in clips_of(tmp_path / "sounds")
    }
    said = " ".join((done.stdout + done.stderr).split())
    assert "No clip failed" not in said
    assert f"Files that gave no embedding and count in no score: {CLIPS} of {CLIPS} in sounds." in said
    assert f"logmel on sounds has no score: {lost.reason}" in said
    for name in ("report.md", "report.html"):
        text = (tmp_path / "out" / name).read_text()
        assert "No clip failed" not in text
        assert all(failure.clip in text for failure in lost.failures)
    for path in clips_of(tmp_path / "sounds"):
        write_clip(path)
    done = arch(*command)
    assert done.returncode == 0, done.stderr
    run = read_run(tmp_path / "out" / "results.json")
    assert run.unscored == []
    assert [(one.model, one.failed) for one in run.results] == [("logmel", 0)]
    assert "No clip failed" in (tmp_path / "out" / "report.md").read_text()


def test_a_model_that_gives_the_same_for_every_clip_has_no_score(tmp_path: Path, server: LocalServer) -> None:
    for path in clips_of(tmp_path / "sounds"):
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.zeros(RATE), RATE)
    done = arch(*bench_of(tmp_path / "sounds", tmp_path / "out", server))
    assert done.returncode == 1
    run = read_run(tmp_path / "out" / "results.json")
    assert run.results == []
    (lost,) = run.unscored
    assert f"all of its {CLIPS} embeddings are the same" in lost.reason
    assert f"arch: logmel on sounds has no score: {lost.reason}" in done.stderr.splitlines()


def test_clips_that_were_never_scaled_are_sent_as_they_are_and_counted(tmp_path: Path, server: LocalServer) -> None:
    paths = clips_of(tmp_path / "sounds")
    for index, path in enumerate(paths):
        write_clip(path, 30000.0 if index < 3 else 0.3)
    done = arch(*bench_of(tmp_path / "sounds", tmp_path / "out", server))
    assert done.returncode == 0, done.stderr
    (result,) = read_run(tmp_path / "out" / "results.json").results
    assert result.measurement is not None
    assert (result.measurement.clips, result.measurement.beyond_full_scale) == (CLIPS, 3)
    line = f"sounds × logmel: 3 clips of {CLIPS} hold samples far beyond full scale"
    assert line in " ".join(done.stdout.split())
    assert line in (tmp_path / "out" / "report.md").read_text()


def test_two_runs_do_not_write_to_one_folder(tmp_path: Path, server: LocalServer) -> None:
    for path in clips_of(tmp_path / "sounds"):
        write_clip(path)
    output = tmp_path / "out"
    command = bench_of(tmp_path / "sounds", output, server)
    with held_output(output):
        done = arch(*command)
        assert done.returncode == 2
        assert f"{output} is being written by " in one_line(done)
        assert arch("probe", str(output)).returncode == 2
    assert not output.exists()
    done = arch(*command)
    assert done.returncode == 0, done.stderr


def test_a_report_that_cannot_be_written_says_how_the_run_goes_on(tmp_path: Path, server: LocalServer) -> None:
    for path in clips_of(tmp_path / "sounds"):
        write_clip(path)
    output = tmp_path / "a folder"
    (output / "report.html").mkdir(parents=True)
    command = bench_of(tmp_path / "sounds", output, server)
    done = arch(*command)
    assert done.returncode == 1
    assert one_line(done) == (
        f"arch: cannot write {output}/report.html: Is a directory; what was done is kept, and the same command with "
        f"--output '{output}' goes on from there"
    )
    assert len(read_run(output / "results.json").results) == 1
    (output / "report.html").rmdir()
    done = arch(*command)
    assert done.returncode == 0, done.stderr
    assert "logmel on sounds: done by an earlier run, kept" in done.stderr
    assert (output / "report.html").is_file()


def test_a_run_that_computed_nothing_leaves_no_folder(tmp_path: Path, server: LocalServer) -> None:
    for path in clips_of(tmp_path / "sounds"):
        write_clip(path)
    output = tmp_path / "new" / "out"
    command = bench_of(tmp_path / "sounds", output, server)
    done = arch(*command, "--ray-address", "127.0.0.1:1")
    assert done.returncode == 1
    assert one_line(done).startswith("arch: no Ray cluster answers at 127.0.0.1:1: ")
    assert "goes on from there" not in done.stderr
    assert not (tmp_path / "new").exists()
    # What was computed before stays, whatever comes of more.
    assert arch(*command).returncode == 0
    for path in clips_of(tmp_path / "more"):
        write_clip(path)
    done = arch(*command, "--dataset", str(tmp_path / "more"), "--ray-address", "127.0.0.1:1")
    assert done.returncode == 1
    assert "what was done is kept" in one_line(done)
    assert [one.dataset for one in read_run(output / "results.json").results] == ["sounds"]
    assert not list(output.glob(".lock*"))


def test_temporary_files_may_lie_in_a_folder_of_any_name(tmp_path: Path, server: LocalServer) -> None:
    for path in clips_of(tmp_path / "sounds"):
        write_clip(path)
    place = tmp_path / "寺 und ein Ordner mit einem langen Namen, länger als der eines Sockets sein darf"
    place.mkdir()
    done = arch(*bench_of(tmp_path / "sounds", tmp_path / "out", server), env=os.environ | {"TMPDIR": str(place)})
    assert done.returncode == 0, done.stderr
    assert len(read_run(tmp_path / "out" / "results.json").results) == 1


def test_models_that_not_all_servers_have_are_named(tmp_path: Path, server: LocalServer, repository: Path) -> None:
    for path in clips_of(tmp_path / "sounds"):
        write_clip(path)
    with LocalServer(repository, ["logmel"], grpc_port=0, http_port=0, metrics_port=0) as other:
        done = arch(*bench_of(tmp_path / "sounds", tmp_path / "out", server, other, models=()))
        assert done.returncode == 0, done.stderr
        assert f"tiny-hubert is left out: it is not served at {other.grpc_url}" in done.stderr.splitlines()
        assert [one.model for one in read_run(tmp_path / "out" / "results.json").results] == ["logmel"]
        named = arch(*bench_of(tmp_path / "sounds", tmp_path / "named", server, other))
        assert "left out" not in named.stderr


@pytest.mark.parametrize(("encoding", "letter"), [("utf-8", "寺"), ("latin-1", "?")])
def test_names_are_shown_as_they_are_or_with_a_mark_for_what_is_no_letter(
    tmp_path: Path, server: LocalServer, encoding: str, letter: str
) -> None:
    folder = tmp_path / "寺 [red]"
    for path in clips_of(folder):
        write_clip(path)
    environment = os.environ | {"PYTHONIOENCODING": encoding, "COLUMNS": "200"}
    output = tmp_path / "[bold]寺[/b]"
    done = arch(*bench_of(folder, output, server), encoding=encoding, env=environment)
    assert done.returncode == 0, done.stderr
    assert f"report: {tmp_path}/[bold]{letter}[/b]/report.html" in done.stdout.splitlines()
    (result,) = read_run(output / "results.json").results
    assert result.dataset.startswith("寺")
    assert any(line.startswith(f"{letter}{result.dataset[1:]} ") for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("precision", "executed_by", "warned"),
    [
        ("fp32", "fp32 on CPU by NVIDIA's backend", False),
        ("bf16", "bf16 on OpenVINO", False),
        ("bf16", "fp32 on CPU by NVIDIA's backend (bf16 for CPUs is made by OpenVINO)", True),
        ("fp32", "an unknown precision by the backend of arch (no metrics of this server were found)", True),
        ("fp32", "", False),
    ],
)
def test_a_model_that_runs_otherwise_than_exported_is_warned_of(precision: str, executed_by: str, warned: bool) -> None:
    facts = ModelFacts.model_validate(model("m") | {"precision": precision, "executed_by": executed_by})
    settings = check_settings(seed=0, epochs=1, concurrency=None, workers=1)
    warning = f"warning: m, exported in {precision}, is served in {executed_by}"
    assert Bench.warnings([facts], settings) == ([warning] if warned else [])
