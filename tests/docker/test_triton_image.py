"""docker/triton.sh with the real tritonserver, and what the dashboard and the alerts ask of its metrics."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from arch_serve.access import Access
from arch_serve.distribution import prepare_distribution
from support.dockerfiles import DOCKER, queries
from support.ports import free_port
from support.serve_models import add_model
from support.waiting import until

pytestmark = [pytest.mark.torch, pytest.mark.triton]

# Told where there is a GPU only; the names were read at the metrics endpoint of this server on one.
OF_GPUS = {"nv_gpu_utilization", "nv_gpu_memory_used_bytes", "nv_gpu_power_usage", "nv_energy_consumption"}
METRIC = re.compile(r"\b(?:nv|arch)_\w+")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """The script as the image runs it: on PATH is the tritonserver of the wheel, its backends are named besides."""
    folder = tmp_path_factory.mktemp("image")
    for name in ("a", "b"):
        add_model(folder / "models", name)
    add_model(folder / "models", "broken")
    (folder / "models" / "broken" / "1" / "model.onnx").write_bytes(b"no ONNX file")
    distribution = prepare_distribution(folder)
    (folder / "bin").mkdir()
    binary = folder / "bin" / "tritonserver"
    libraries = shlex.quote(distribution.environment["LD_LIBRARY_PATH"])
    binary.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" >{folder}/arguments\n'
        f'LD_LIBRARY_PATH={libraries} exec {distribution.binary} "$@"\n'
    )
    binary.chmod(0o755)
    ports = {name: free_port() for name in ("http", "grpc", "metrics")}
    options = [f"--{name}-{what}" for name, port in ports.items() for what in ("address=127.0.0.1", f"port={port}")]
    environment = distribution.environment | {"MODELS": str(folder / "models")}
    environment |= {"PATH": f"{folder / 'bin'}:{distribution.environment['PATH']}"}
    environment["LD_LIBRARY_PATH"] = os.environ.get("LD_LIBRARY_PATH", "")
    command = [str(DOCKER / "triton.sh"), f"--backend-directory={distribution.backends}", *options]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log) as process,
    ):
        metrics = f"http://127.0.0.1:{ports['metrics']}/metrics"
        try:
            until(lambda: get(metrics)[0] == 200, process, pause_s=0.1)
            yield SimpleNamespace(
                http=f"http://127.0.0.1:{ports['http']}/v2",
                metrics=get(metrics)[1],
                arguments=(folder / "arguments").read_text().splitlines(),
            )
        finally:
            process.terminate()


def get(url: str, body: bytes | None = None) -> tuple[int, str]:
    """Code and text of an answer; 0 without one."""
    try:
        with urllib.request.urlopen(url, body, timeout=10) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def test_it_serves_what_loads(image: SimpleNamespace) -> None:
    ready = {name: get(f"{image.http}/models/{name}/ready")[0] == 200 for name in ("a", "b", "broken")}
    assert ready == {"a": True, "b": True, "broken": False}
    assert get(f"{image.http}/health/live")[0] == 200  # what the image's health check asks for


@pytest.mark.parametrize("path", ["repository/index", "repository/models/a/unload", "logging", "trace/setting"])
def test_what_changes_it_is_closed(image: SimpleNamespace, path: str) -> None:
    assert get(f"{image.http}/{path}", b"{}")[0] == 403


def test_it_closes_what_arch_serve_closes(image: SimpleNamespace) -> None:
    access = Access()
    expected = access.options(access.hosts("0.0.0.0"))
    closed = [one for one in image.arguments if "-restricted-" in one]
    assert [one.rpartition("=")[0] for one in closed] == [one.rpartition("=")[0] for one in expected]
    assert all(re.fullmatch(r"[0-9a-f]{32}", one.rpartition("=")[2]) for one in closed)


def test_without_a_model_it_says_so(tmp_path: Path) -> None:
    run = subprocess.run([DOCKER / "triton.sh"], env={"MODELS": str(tmp_path)}, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (1, f"triton.sh: no model in {tmp_path}: export one first\n")


def test_the_dashboard_and_the_alerts_ask_for_metrics_that_there_are(image: SimpleNamespace) -> None:
    told = set(re.findall(r"^# TYPE (\w+)", image.metrics, re.MULTILINE))
    asked = {name for query in queries() for name in METRIC.findall(query)}
    assert {"nv_inference_queue_duration_us", "arch_execution_info", "nv_gpu_power_usage"} <= asked
    # Those of GPUs are told where there is one; the server knows their names everywhere.
    assert asked - told - OF_GPUS == set()


def test_their_labels_are_the_metrics_own(image: SimpleNamespace) -> None:
    labels = set(re.findall(r'(\w+)="', image.metrics)) | {"job"}
    for query in queries():
        for names in re.findall(r"by \(([^)]*)\)|\{(\w+)[!=]", query):
            assert set(filter(None, [*re.split(r",\s*", names[0]), names[1]])) <= labels, query
