"""`arch bench` as its users run it: a real Triton, real files, Ray workers, and what may go wrong."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import tritonclient.grpc
from arch_export.pipeline import export
from arch_harness.datasets import Dataset, load_dataset
from arch_harness.datasets.audio import load_clip, pad_clip
from arch_harness.datasets.catalog import DECLARATIONS
from arch_harness.embeddings.entry import Stored
from arch_harness.embeddings.store import EmbeddingStore
from arch_harness.results.run import Run, read_run
from arch_serve.server import LocalServer
from support.commands import ARCH, arch, in_terminal, marked, one_line, processes, still_running
from support.waiting import until
from transformers import HubertModel, Wav2Vec2FeatureExtractor

pytestmark = [pytest.mark.torch, pytest.mark.ray, pytest.mark.triton, pytest.mark.slow]

SAMPLE_RATE = 16000


def stored_embeddings(cache: Path, run: Run, model: str, dataset: Dataset) -> Stored:
    (facts,) = (one for one in run.models if one.name == model)
    with EmbeddingStore(cache).open(facts, dataset, run.settings.layers) as entry:
        return entry.read()


@pytest.fixture(scope="module")
def bereft_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bereft_cache")


@pytest.fixture(scope="module", autouse=True)
def bereft(
    tmp_path_factory: pytest.TempPathFactory, bereft_cache: Path, repository: Path, demo_dataset: Path
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A run whose server, at the URL, has died. It waits a minute for another one: the other tests have that time."""
    folder = tmp_path_factory.mktemp("bereft")
    shutil.copytree(demo_dataset, folder / "data")
    table = folder / "data" / "meta" / "esc50.csv"
    head, *rows = table.read_text().splitlines()
    table.write_text("\n".join([head, *rows * 50]))  # 5,000: time to die in
    with LocalServer(repository, ["tiny-hubert"], grpc_port=0, http_port=0, metrics_port=0) as dying:
        url = dying.grpc_url
        command = ["bench", "--server", url, "--dataset", f"demo={folder / 'data'}", "--output", str(folder / "out")]
        environment = os.environ | {"ARCH_CACHE": str(bereft_cache)}
        running = subprocess.Popen([*ARCH, *command], stderr=subprocess.PIPE, text=True, env=environment)
        with tritonclient.grpc.InferenceServerClient(url) as client:

            def answered() -> int:
                return int(client.get_inference_statistics("tiny-hubert").model_stats[0].inference_count)

            # What goes wrong here is for the test to find.
            until(lambda: running.poll() is not None or answered() >= 20, pause_s=0.05)
    yield running, url
    running.terminate()
    running.communicate()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, repository: Path, demo_dataset: Path) -> tuple[Path, Run]:
    """Both models on the demo dataset, by a server that the command starts itself."""
    output = tmp_path_factory.mktemp("report") / "run"
    done = arch(
        "bench", "--repository", str(repository), "--dataset", f"demo={demo_dataset}", "--output", str(output),
        "--cache", str(output.parent / "cache"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert str(output / "report.html") in done.stdout
    assert "tiny-hubert" in done.stdout
    return output, read_run(output / "results.json")


def test_every_clip_is_accounted_for(finished: tuple[Path, Run]) -> None:
    _, run = finished
    assert [(result.model, result.dataset) for result in run.results] == [("logmel", "demo"), ("tiny-hubert", "demo")]
    for result in run.results:
        assert (result.clips, result.failed, result.failures) == (100, 0, [])
        assert result.stored == 0
        measured = result.measurement
        assert measured is not None
        assert (measured.clips, measured.failed) == (100, 0)
        assert measured.server is not None
        alone = measured.at("alone")
        assert alone is not None
        # All but those of the phase with one request in flight.
        assert 0 < measured.server.requests < 100
        assert measured.server.foreign_requests == 0
        executed = sum(size * count for size, count in measured.server.batch_sizes.items())
        assert executed == measured.server.requests
        assert max(measured.server.batch_sizes) > 1, "the batcher never filled a batch"
        assert measured.clips_per_s == pytest.approx(measured.measured_clips / measured.measured_seconds)
        assert measured.rtfx == pytest.approx(measured.clips_per_s * measured.audio_seconds / 100, rel=0.1)
        latency = measured.latency_ms
        assert latency is not None
        assert latency.p95 is not None
        assert 0 < latency.p50 <= latency.p95
        assert latency.p99 is None, "of fewer than a hundred requests"
        assert (alone.in_flight, alone.rate) == (1, None)
        assert alone.requests > 0
        assert (measured.steadiness, measured.at("paced")) == ("too short", None)
        assert sum(phase.clips for phase in measured.phases) == 100
        assert all(one.end == two.start for one, two in itertools.pairwise(measured.phases))
        assert [(fold.train, fold.validation, fold.test) for fold in result.folds] == [(64, 16, 20)] * 5
        assert result.chance == pytest.approx(0.1)
    assert run.results[0].score > 0.25, "log-mel statistics tell noise from tones"
    (server,) = run.servers
    assert server.started_by_arch
    assert server.same_machine


def test_what_the_hardware_took_is_told_or_why_it_is_not(finished: tuple[Path, Run]) -> None:
    output, run = finished
    for result in run.results:
        assert result.measurement is not None
        taken = result.measurement.consumption
        assert taken is not None
        assert {one.source[:3] for one in taken.power} | {reason[:3] for reason in taken.untold} == {"GPU", "CPU"}
        # tritonserver and the stub of each model, which has ONNX Runtime in it.
        assert taken.server_memory_mib is not None
        assert 100 < taken.server_memory_mib < 20_000
        if not Path("/sys/class/powercap").is_dir() and not Path("/dev/nvidiactl").exists():
            assert taken.power == []
            assert taken.untold == [
                "GPU: the servers' metrics name none, and this machine has no driver of NVIDIA's",
                "CPU: there is no /sys/class/powercap",
            ]
            assert "No energy is told, since no power could be read" in (output / "report.html").read_text()


def test_audio_seconds_are_the_files(finished: tuple[Path, Run], demo_dataset: Path) -> None:
    seconds = sum(soundfile.info(path).duration for path in (demo_dataset / "audio").iterdir())
    measured = finished[1].results[0].measurement
    assert measured is not None
    assert measured.audio_seconds == pytest.approx(seconds, rel=1e-3)


def test_the_report_holds_the_figures(finished: tuple[Path, Run]) -> None:
    output, run = finished
    for name in ("report.md", "report.html"):
        text = (output / name).read_text()
        for result in run.results:
            assert result.model in text
            assert f"{100 * result.score:.1f}" in text
    assert list((output / "plots").glob("*.svg"))


def test_embeddings_are_those_of_torch(finished: tuple[Path, Run], demo_dataset: Path, checkpoint: Path) -> None:
    """What came through Ray, Triton and the batcher, in the dataset's order, against transformers one by one."""
    output, run = finished
    dataset = load_dataset(DECLARATIONS["demo"], demo_dataset)
    stored = stored_embeddings(output.parent / "cache", run, "tiny-hubert", dataset)
    assert stored.succeeded.all()
    model = HubertModel.from_pretrained(checkpoint).eval()
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(checkpoint)
    for index in range(0, 100, 7):
        clip = pad_clip(load_clip(demo_dataset / dataset.clips[index].path, SAMPLE_RATE, 5), 5 * SAMPLE_RATE)
        inputs = extractor(clip, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        with torch.no_grad():
            expected = model(inputs["input_values"]).last_hidden_state[0].mean(dim=0).numpy()
        error = np.linalg.norm(stored.embeddings[index] - expected) / np.linalg.norm(expected)
        assert error < 1e-4, dataset.clips[index].path


def test_a_finished_run_is_kept_and_another_one_refused(
    finished: tuple[Path, Run], repository: Path, server: LocalServer, demo_dataset: Path, tmp_path: Path
) -> None:
    output, run = finished
    common = ["bench", "--repository", str(repository), "--dataset", f"demo={demo_dataset}", "--output", str(output)]
    code, screen = in_terminal(*common)
    assert code == 0, screen
    assert screen.count("done by an earlier run, kept") == 2
    assert read_run(output / "results.json").results == run.results
    # A terminal of 80 columns gets a table and at most ten lines, the stages only if they are asked for.
    table, below = screen[screen.index("Dataset") :].split("\n\n")
    assert [line.split()[0] for line in table.splitlines()[1:]] == ["demo", "demo"]
    assert all(len(line) <= 80 for line in table.splitlines())
    assert len(below.splitlines()) <= 10
    assert f"report: {output / 'report.html'}" in below.replace("\n", "")
    assert "Decode" not in screen

    other = arch(*common, "--concurrency", "3")
    assert other.returncode == 2
    settings = "(concurrency None instead of 3)"
    assert one_line(other) == f"arch: {output} holds results of other settings {settings}; choose another --output"
    elsewhere = arch(*common, "--server", server.grpc_url)
    assert one_line(elsewhere) == f"arch: {output} holds results of another server; choose another --output"
    shutil.copytree(demo_dataset, tmp_path / "data")
    (tmp_path / "data" / "audio" / "1-000-A-0.wav").unlink()
    common[4] = f"demo={tmp_path / 'data'}"
    changed = arch(*common, "--model", "logmel")
    assert one_line(changed).startswith(f"arch: {output} holds results of other data named 'demo'")
    assert read_run(output / "results.json").results == run.results


def test_broken_and_missing_files_are_counted_and_named(
    tmp_path: Path, server: LocalServer, demo_dataset: Path
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(demo_dataset, folder)
    broken, empty, missing = sorted((folder / "audio").iterdir())[::40][:3]
    broken.write_bytes(b"RIFF, but not a sound")
    soundfile.write(empty, np.zeros(0), SAMPLE_RATE)
    missing.unlink()
    output = tmp_path / "out"
    done = arch(
        "bench", "--server", server.grpc_url, "--model", "logmel", "--dataset", f"demo={folder}",
        "--output", str(output), "--workers", "2", "--concurrency", "5",
    )  # fmt: skip
    assert done.returncode == 1
    assert one_line(done) == "arch: 3 clips failed and count in no score; the report names them"
    (result,) = read_run(output / "results.json").results
    assert (result.clips, result.failed) == (100, 3)
    assert sum(fold.test for fold in result.folds) == 97
    reasons = {failure.clip: failure.reason for failure in result.failures}
    assert reasons[f"audio/{empty.name}"] == "holds no audio"
    assert reasons[f"audio/{missing.name}"] == "no such file"
    assert reasons[f"audio/{broken.name}"].startswith("cannot be decoded: ")
    report = (output / "report.html").read_text()
    assert all(path.name in report for path in (broken, empty, missing))


def test_ctrl_c_loses_no_finished_dataset_and_leaves_no_process(
    tmp_path: Path, repository: Path, demo_dataset: Path
) -> None:
    output, mark = tmp_path / "out", str(tmp_path)
    environment = marked(mark)
    command = [
        "bench", "--repository", str(repository), "--dataset", f"demo={demo_dataset}",
        "--model", "logmel", "--model", "tiny-hubert", "--output", str(output), "--seeds", "20",
    ]  # fmt: skip
    running = subprocess.Popen(
        [*ARCH, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env=environment,
    )  # fmt: skip
    until(lambda: (output / "results.json").exists() and read_run(output / "results.json").results, running)
    assert "tritonserver" in still_running(mark)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    shown, errors = running.communicate(timeout=60)
    assert running.returncode == 130, errors
    assert f"--output {output} goes on from here" in " ".join(errors.split())
    assert still_running(mark) == []
    partial = read_run(output / "results.json")
    kept = partial.results
    assert [result.model for result in kept] == ["logmel"]
    # What is finished is in a report, which says what is not.
    assert partial.partial
    assert [(one.model, one.dataset) for one in partial.missing] == [("tiny-hubert", "demo")]
    missing = "1 pair of 2 is missing (demo × tiny-hubert)"
    assert missing in (output / "report.html").read_text()
    assert missing in " ".join(shown.split())
    assert shown.rstrip().endswith(f"report: {output / 'report.html'}")

    done = arch(*command, env=environment)
    assert done.returncode == 0, done.stderr
    assert "logmel on demo: done by an earlier run, kept" in done.stderr
    completed = read_run(output / "results.json")
    results = completed.results
    assert [result.model for result in results] == ["logmel", "tiny-hubert"]
    assert results[0] == kept[0]
    assert (completed.partial, completed.missing) == (False, [])
    assert "is missing" not in (output / "report.html").read_text()
    assert still_running(mark) == []


@pytest.mark.parametrize("name", ["http_proxy", "https_proxy"])
def test_a_proxy_does_not_come_between(
    tmp_path: Path, server: LocalServer, demo_dataset: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    done = arch(
        "bench", "--server", server.grpc_url, "--model", "nope", "--dataset", f"demo={demo_dataset}",
        "--output", str(tmp_path),
    )  # fmt: skip
    assert one_line(done).startswith("arch: the server has no model 'nope'")


def test_sigterm_cleans_up_as_ctrl_c_does(tmp_path: Path, repository: Path, demo_dataset: Path) -> None:
    mark = str(tmp_path)
    command = ["bench", "--repository", str(repository), "--dataset", f"demo={demo_dataset}", "--output", mark]
    running = subprocess.Popen([*ARCH, *command], stderr=subprocess.PIPE, text=True, env=marked(mark))
    until(lambda: processes(mark, "raylet"), running, pause_s=0.2)
    # Ray is up and has put its own handlers there.
    until(lambda: list((tmp_path / "measurements").glob("*.json")), running)
    running.terminate()
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130, errors[-500:]
    assert "goes on from here" in " ".join(errors.split())
    assert still_running(mark) == []


def test_a_server_that_dies_ends_the_run_with_one_line(
    bereft: tuple[subprocess.Popen[str], str], bereft_cache: Path
) -> None:
    running, url = bereft
    _, errors = running.communicate(timeout=200)
    assert running.returncode == 1, errors
    assert "Traceback" not in errors
    (line,) = [line for line in errors.splitlines() if line.startswith("arch: ")]
    assert f"no server for 60 s ({url}: " in line
    assert re.search(r"; what was done is kept, and the same command with --output \S+ goes on from there$", line)
    # Nobody sits in front of a terminal here: a line every ten seconds says what it waits for.
    assert re.search(
        r"^embed tiny-hubert on demo: \d+ of 5,000 clips, waiting for the server for [1-5]\d s", errors, re.M
    )
    assert any(bereft_cache.glob("*/*.parquet")), "what had come is not stored"


def test_every_layer_is_probed_and_drawn(
    tmp_path: Path, cache: Path, checkpoint: Path, server: LocalServer, demo_dataset: Path, traced_once: None
) -> None:
    repository, output = tmp_path / "repository", tmp_path / "out"
    export(str(checkpoint), repository, "layered", layers="all")
    common = ["bench", "--dataset", f"demo={demo_dataset}", "--output", str(output), "--layers", "--seeds", "1"]
    done = arch(*common, "--repository", str(repository))
    assert done.returncode == 0, done.stderr
    run = read_run(output / "results.json")
    (result,) = run.results
    assert result.layers is not None
    assert [one.layer for one in result.layers.layers] == [0, 1, 2]
    stored = stored_embeddings(cache, run, "layered", load_dataset(DECLARATIONS["demo"], demo_dataset))
    assert stored.layers.shape == (100, 3, 32)
    # HuBERT's last hidden state is what leaves its last layer.
    np.testing.assert_allclose(stored.layers[:, -1], stored.embeddings, atol=1e-5)
    assert (output / "plots" / "layers-demo.svg").exists()
    assert (
        f"{result.layers.layers[-1].layer - result.layers.best.layer} of 2 transformer layers"
        in (output / "report.md").read_text()
    )

    refused = arch(*common, "--server", server.grpc_url, "--output", str(tmp_path / "other"))
    assert refused.returncode == 2
    assert one_line(refused) == ("arch: --layers: no layer embeddings in logmel, tiny-hubert; export with --layers all")


def test_models_that_cannot_be_benched(tmp_path: Path, server: LocalServer, demo_dataset: Path) -> None:
    common = ["bench", "--server", server.grpc_url, "--dataset", f"demo={demo_dataset}", "--output", str(tmp_path)]
    done = arch(*common, "--model", "hubert-large")
    assert done.returncode == 2
    assert one_line(done) == "arch: the server has no model 'hubert-large'; it has: logmel, tiny-hubert"


@pytest.mark.skipif("ARCH_FSDD" not in os.environ, reason="ARCH_FSDD names no copy of the Free Spoken Digit Dataset")
def test_logmel_on_real_speech(tmp_path: Path, server: LocalServer) -> None:
    output = tmp_path / "out"
    done = arch(
        "bench", "--server", server.grpc_url, "--model", "logmel",
        "--dataset", f"audio_mnist={os.environ['ARCH_FSDD']}", "--output", str(output),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (result,) = read_run(output / "results.json").results
    assert (result.clips, result.failed) == (3000, 0)
    assert 0.4 <= result.score <= 0.6
