"""The command line: one clear line for bad input, and nothing imported that a command does not need."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import arch


def run(*arguments: str) -> tuple[int, str]:
    done = arch(*arguments)
    return done.returncode, done.stderr.strip()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(
            *(["export", "hubert-larg"], 2, "arch: unknown checkpoint 'hubert-larg': did you mean hubert-large"),
            marks=pytest.mark.torch,
        ),
        pytest.param(
            *(["export", "logmel", "--name", "a/b"], 2, "arch: 'a/b' cannot name a model"), marks=pytest.mark.torch
        ),
        (["serve", "--repository", "{tmp}"], 2, "arch: {tmp} holds no model: run `arch export`"),
        (["serve", "--repository", "{tmp}/none"], 2, "arch: no model repository at {tmp}/none"),
        (["bench", "--dataset", "esc51=x"], 2, "arch: unknown dataset 'esc51'; did you mean esc50?"),
        (["bench", "--dataset", "esc50={tmp}"], 2, "arch: esc50: {tmp} does not hold meta/esc50.csv"),
        (["bench", "--dataset", "audio_mnist={tmp}"], 2, "arch: audio_mnist: {tmp} does not hold data/*/*.wav"),
        (["bench", "--dataset", "esc50", "--data-root", "{tmp}"], 2, "arch: esc50: there is no folder {tmp}/esc50"),
    ],
)
def test_bad_input(tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    returned, text = run(*(argument.format(tmp=tmp_path) for argument in arguments))
    assert returned == code, text
    assert text.splitlines()[-1].startswith(message.format(tmp=tmp_path))


@pytest.mark.slow
def test_no_server_there(tmp_path: Path, demo_dataset: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        code, text = run("bench", "--server", address, "--dataset", f"demo={demo_dataset}", "--output", str(tmp_path))
    assert code == 1
    error, *more = text.splitlines()
    assert error.startswith(f"arch: no Triton answers at {address}: ")
    assert all(line.startswith("arch doctor: ") for line in more)  # of this machine, if anything is wrong with it
    code, text = run("bench", "--server", "localhost", "--dataset", f"demo={demo_dataset}")
    assert (code, text) == (2, "arch: 'localhost' is no server address: wants HOST:PORT of Triton's gRPC endpoint")


def test_serve_that_is_interrupted_before_it_serves(tmp_path: Path) -> None:
    """Whoever waits for it must not take that for a server that did its work."""
    code = """if True:
        import os, signal, sys
        from arch_serve.server import LocalServer
        LocalServer.start = lambda self: os.kill(os.getpid(), signal.SIGINT)
        from arch_bench.main import main
        sys.argv = ["arch", "serve", "--repository", sys.argv[1]]
        main()
    """
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "stopping")


def test_busy_port(tmp_path: Path) -> None:
    (tmp_path / "model" / "1").mkdir(parents=True)
    (tmp_path / "model" / "config.pbtxt").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, text = run("serve", "--repository", str(tmp_path), "--grpc-port", str(port))
    assert code != 0
    assert text.splitlines()[-1].startswith(f"arch: in use: port {port}. Stop")


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("arch_bench.main", ("torch", "transformers", "ray", "sklearn", "matplotlib", "onnxruntime", "tritonclient")),
        ("arch_harness.bench.bench", ("torch", "transformers", "onnx", "onnxruntime")),
        ("arch_serve.server", ("torch", "transformers", "ray", "tritonclient")),
        pytest.param("arch_export.pipeline", ("ray", "sklearn", "soundfile"), marks=pytest.mark.torch),
    ],
)
def test_each_part_imports_only_what_it_needs(module: str, forbidden: tuple[str, ...]) -> None:
    program = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not set(forbidden) & set(loaded)
