"""Paths and names that a shell would take apart, the place that a server works in, and what is left of it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import tritonclient.grpc as triton
from arch_common.errors import ServeError, ServeUsageError
from arch_serve import stubs
from arch_serve.access import Access
from arch_serve.server import LocalServer
from support.serve_models import WIDTH, add_model
from support.waiting import until
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

pytestmark = [pytest.mark.torch, pytest.mark.triton]

ODD = 'it\'s "my" & your; (models) 模型 [red]'


def ask(server: LocalServer, model: str) -> list[list[float]]:
    values = triton.InferInput("x", [1, WIDTH], "FP32")
    values.set_data_from_numpy(np.ones((1, WIDTH), np.float32))
    with triton.InferenceServerClient(server.grpc_url) as client:
        found: list[list[float]] = client.infer(model, [values], client_timeout=30).as_numpy("double").tolist()
    return found


def load(server: LocalServer, model: str) -> None:
    request = urllib.request.Request(
        f"http://{server.http_url}/v2/repository/models/{model}/load", data=b"", method="POST"
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - of http
        assert answer.status == 200


def test_a_repository_and_a_tmpdir_of_odd_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Served is what lies in the repository, also what is added or changed there later."""
    executed = tmp_path / "executed)"
    # Of the shell: $(touch /.../executed)
    repository = Path(f"{tmp_path}/$(touch {executed}/{ODD}") / os.fsdecode(b"not \xff UTF-8")
    add_model(repository, "plain")
    temporary = tmp_path / ODD
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    access = Access(allowed=["model-repository"])
    with LocalServer(repository, grpc_port=0, http_port=0, metrics_port=0, timeout_s=60, access=access) as server:
        assert [(status.name, status.state) for status in server.models] == [("plain", "READY")]
        assert ask(server, "plain") == [[2] * WIDTH]
        add_model(repository, "late")
        load(server, "late")
        assert ask(server, "late") == [[2] * WIDTH]
        path = repository / "late" / "1" / "model.onnx"
        graph = onnx.load(path)
        graph.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.array([3.0], np.float32), "two"))
        path.unlink()
        onnx.save(graph, path)
        os.utime(repository / "late" / "config.pbtxt")  # Triton looks at the dates of the folder of a version too
        load(server, "late")
        until(lambda: ask(server, "late") == [[3] * WIDTH], deadline_s=30)
    assert not [path for path in tmp_path.rglob("executed*") if path.is_file()]
    assert list(temporary.iterdir()) == []


def test_names_of_models(tmp_path: Path) -> None:
    for name in ("plain", "模型", "été", "my model", "$(touch executed)", "a&b", "*"):
        add_model(tmp_path, name)
    add_model(tmp_path, "renamed")
    (tmp_path / "renamed" / "1" / "model.onnx").rename(tmp_path / "renamed" / "1" / "my model.onnx")
    with (tmp_path / "renamed" / "config.pbtxt").open("a") as config:
        config.write('default_model_filename: "my model.onnx"\n')
    with LocalServer(tmp_path, grpc_port=0, http_port=0, metrics_port=0, timeout_s=60) as server:
        states = {status.name: status for status in server.models}
        ready = [name for name, status in states.items() if status.ready]
        assert ready == ["plain", "été", "模型"]
        for name in ready:
            assert ask(server, name) == [[2] * WIDTH]
    rule = "must be of letters, digits, dots, dashes and underscores to be served here, without"
    for name, bad in (("my model", "' '"), ("$(touch executed)", "'$( )'"), ("a&b", "'&'"), ("*", "'*'")):
        assert states[name].reason == f"a model's name {rule} {bad}: rename it, in config.pbtxt too"
    assert states["renamed"].reason.startswith(f"a model's default_model_filename {rule} ' ': ")
    assert not list(tmp_path.rglob("executed"))


def test_what_triton_says_names_the_repository_of_the_user(tmp_path: Path) -> None:
    add_model(tmp_path, "unreadable")
    (tmp_path / "unreadable" / "config.pbtxt").write_text('backend: "onnx')
    with LocalServer(tmp_path, grpc_port=0, http_port=0, metrics_port=0) as server:
        assert str(tmp_path / "unreadable" / "config.pbtxt") in server.models[0].short_reason


@pytest.mark.parametrize("place", ["folder", "file/log", "readonly/log"])
def test_a_log_that_cannot_be_written(tmp_path: Path, place: str) -> None:
    add_model(tmp_path / "models", "plain")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "readonly").symlink_to("/proc/self")
    server = LocalServer(tmp_path / "models", grpc_port=0, http_port=0, metrics_port=0, log_file=tmp_path / place)
    with pytest.raises(ServeUsageError, match=r"^cannot write the log to /[^ ]*: [A-Z][a-z ]+$"):
        server.start()


@pytest.mark.parametrize(("mebibytes", "free"), [(7, False), (8, True)])
def test_shared_memory_is_checked_before_triton_crashes(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch, mebibytes: int, free: bool
) -> None:
    """A batch of 8 clips of 5 s takes 2.44 MiB: with the stub's own, 4 MiB for each of two models."""
    for name in ("logmel", "tiny-hubert"):
        shutil.copytree(repository / name, tmp_path / name)
    monkeypatch.setattr(os, "statvfs", statvfs(mebibytes, os.statvfs))
    server = LocalServer(tmp_path, grpc_port=0, http_port=0, metrics_port=0)
    if free:
        with server:
            assert [status.ready for status in server.models] == [True, True]
    else:
        with pytest.raises(ServeError, match=r"^/dev/shm has 7 MiB free, and these models take 8 of it .* --shm-size"):
            server.start()


@pytest.mark.parametrize(
    ("kind", "gpus", "visible", "instances"),
    [
        ("KIND_CPU", [], "0,1", 2),
        ("KIND_GPU", [], "0,1", 4),
        ("KIND_GPU", [], "", 2),
        ("KIND_GPU", [0, 1, 2], "0", 6),
        ("KIND_AUTO", [], None, 8),
    ],
)
def test_shared_memory_is_that_of_the_instances_on_every_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, gpus: list[int], visible: str | None, instances: int
) -> None:
    for number in range(4):
        (tmp_path / str(number)).mkdir()
    monkeypatch.setattr(stubs, "_GPUS", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    config = ModelConfig()
    config.instance_group.add(count=2, kind=ModelInstanceGroup.Kind.Value(kind), gpus=gpus)
    monkeypatch.setattr(os, "statvfs", statvfs(instances, os.statvfs))
    stubs.check_shared_memory([config])
    monkeypatch.setattr(os, "statvfs", statvfs(instances - 1, os.statvfs))
    with pytest.raises(ServeError, match=f"these models take {instances} of it"):
        stubs.check_shared_memory([config])


def statvfs(mebibytes: int, real: Any) -> Any:
    def found(path: object) -> object:
        return SimpleNamespace(f_bavail=mebibytes, f_frsize=2**20) if str(path) == "/dev/shm" else real(path)  # noqa: S108

    return found


@pytest.fixture
def arch_serve() -> Iterator[Callable[[Path, Path], subprocess.Popen[str]]]:
    """Start `arch serve` over a repository with a folder for temporary files, until it is ready."""
    with contextlib.ExitStack() as started:

        def start(repository: Path, temporary: Path) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-c", "from arch_bench.main import main; main()", "serve", "--repository"),
                    *(str(repository), "--grpc-port", "0", "--http-port", "0", "--metrics-port", "0"),
                ],
                env=os.environ | {"TMPDIR": str(temporary), "COLUMNS": "200"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            started.callback(process.kill)  # of one that has ended it does nothing
            assert process.stdout is not None
            said = ""
            for line in process.stdout:
                if line.startswith("gRPC"):
                    break
                said += line
            assert f"Triton over {repository}".replace(" ", "") in "".join(said.split())  # wrapped, brackets and all
            return process

        yield start


@pytest.mark.slow
def test_a_closed_terminal_leaves_nothing(tmp_path: Path, arch_serve: Any) -> None:
    repository = tmp_path / "[red]models[/]"
    add_model(repository, "changed", extra='parameters { key: "content_hash" value: { string_value: "sha256:0" } }')
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = arch_serve(repository, temporary)
    assert [path.name for path in temporary.iterdir() if path.name.startswith("arch-serve-")]
    process.send_signal(signal.SIGHUP)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 0
    assert "warning: changed: it is not what was exported: its files were changed since\n" in said
    assert list(temporary.iterdir()) == []


@pytest.mark.slow
def test_what_a_killed_server_leaves_is_cleared_by_the_next(tmp_path: Path, arch_serve: Any) -> None:
    add_model(tmp_path / "models", "plain")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    living = arch_serve(tmp_path / "models", temporary)
    (of_living,) = temporary.iterdir()
    killed = arch_serve(tmp_path / "models", temporary)
    (of_killed,) = set(temporary.iterdir()) - {of_living}
    killed.kill()
    killed.communicate(timeout=60)
    for folder in (of_living, of_killed):
        os.utime(folder / ".lock", (0, 0))
    (temporary / "arch-serve-of-others").mkdir()
    process = arch_serve(tmp_path / "models", temporary)
    assert of_living.is_dir()
    assert not of_killed.exists()
    assert len(list(temporary.iterdir())) == 3
    for server in (process, living):
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=60)
    assert [path.name for path in temporary.iterdir()] == ["arch-serve-of-others"]


def test_without_a_place_to_work_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_model(tmp_path, "plain")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ServeError, match=re.escape("there is no folder to run a server in: set TMPDIR")):
        LocalServer(tmp_path, grpc_port=0, http_port=0, metrics_port=0).start()
