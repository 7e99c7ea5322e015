"""The command line: one clear line for bad input, and nothing imported that a command does not need."""

from __future__ import annotations

import ast
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "arch_bench", *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stderr.strip()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["export", "hubert-larg"], 2, "arch: unknown checkpoint 'hubert-larg': did you mean hubert-large"),
        (["export", "logmel", "--name", "a/b"], 2, "arch: 'a/b' cannot name a model"),
        (["serve", "--repository", "{tmp}"], 2, "arch: {tmp} holds no model: run `arch export`"),
        (["serve", "--repository", "{tmp}/none"], 2, "arch: no model repository at {tmp}/none"),
        (["bench", "--dataset", "esc51=x"], 2, "arch: unknown dataset 'esc51'; known: audio_mnist"),
        (["bench", "--dataset", "esc50={tmp}"], 2, "arch: esc50: {tmp} does not hold meta/esc50.csv"),
        (["bench", "--dataset", "audio_mnist={tmp}"], 2, "arch: audio_mnist: {tmp} does not hold data/*/*.wav"),
        (["bench", "--dataset", "esc50", "--data-root", "{tmp}"], 2, "arch: esc50: there is no folder {tmp}/esc50"),
    ],
)
def test_bad_input(tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    returned, text = run(*(argument.format(tmp=tmp_path) for argument in arguments))
    assert returned == code, text
    assert text.splitlines()[-1].startswith(message.format(tmp=tmp_path))


def test_no_server_there(tmp_path: Path, demo_dataset: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        code, text = run("bench", "--server", address, "--dataset", f"demo={demo_dataset}", "--output", str(tmp_path))
    assert code == 1
    assert text.startswith(f"arch: no Triton answers at {address}: ")
    assert "\n" not in text
    code, text = run("bench", "--server", "localhost", "--dataset", f"demo={demo_dataset}")
    assert (code, text) == (2, "arch: 'localhost' is no server address: wants HOST:PORT of Triton's gRPC endpoint")


def test_busy_port(repository: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, text = run("serve", "--repository", str(repository), "--grpc-port", str(port))
    assert code != 0
    assert text.splitlines()[-1].startswith(f"arch: port {port} is in use")


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("arch_bench.main", ("torch", "transformers", "ray", "sklearn", "matplotlib", "onnxruntime", "tritonclient")),
        ("arch_harness.bench.bench", ("torch", "transformers", "onnx", "onnxruntime")),
        ("arch_serve.server", ("torch", "transformers", "ray", "tritonclient")),
        ("arch_export.pipeline", ("ray", "sklearn", "soundfile")),
    ],
)
def test_each_part_imports_only_what_it_needs(module: str, forbidden: tuple[str, ...]) -> None:
    program = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not set(forbidden) & set(loaded)


@pytest.mark.parametrize("part", ["export/arch_export", "serve/arch_serve", "harness/arch_harness"])
def test_the_parts_do_not_import_one_another(part: str) -> None:
    others = {"arch_export", "arch_serve", "arch_harness"} - {part.split("/")[1]}
    for path in (ROOT / part).rglob("*.py"):
        if path.name.endswith("cli.py"):
            continue  # the command line is the one place that knows all three
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not {name.split(".")[0] for name in names} & others, path
