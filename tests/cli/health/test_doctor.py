"""`arch doctor` as it is run, on machines with faults."""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import arch_bench
import pytest
from arch_bench.health import checks as health
from arch_bench.health.finding import Finding
from arch_bench.health.page import page, summary
from arch_bench.health.space import SHARED
from arch_bench.health.surroundings import Surroundings
from rich.console import Console
from support.commands import ARCH, arch, one_line
from support.faulty_machines import packages

pytestmark = [pytest.mark.torch, pytest.mark.triton]


def found_by(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, str]]:
    answer = json.loads(done.stdout)
    levels = [one["level"] for one in answer["findings"]]
    assert answer["faults"] == levels.count("fault")
    assert done.returncode == (1 if answer["faults"] else 0)
    return {one["topic"]: one for one in answer["findings"]}


def few_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (120, 120))


def test_this_machine_as_a_function_and_as_a_command() -> None:
    """The tests run here, so nothing stops arch."""
    found = arch_bench.doctor(ports=(1, 2, 3))
    assert [one for one in found if one.level == "fault"] == []
    assert found_by(arch("doctor", "--json")).keys() == {one.topic for one in found}


def test_a_machine_with_many_faults(tmp_path: Path) -> None:
    modules = packages(tmp_path / "modules", numpy="2.3.0", onnxruntime_gpu="1.31.1")
    (tmp_path / "reports").touch()
    environ = os.environ | {
        "PYTHONPATH": f"{modules}:{os.environ.get('PYTHONPATH', '')}",
        "http_proxy": "http://127.0.0.1:9",
        "HF_HUB_OFFLINE": "1",
    }
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        options = ["doctor", "--output", str(tmp_path / "reports"), "--grpc-port", port]
        done = arch(*options, "--json", env=environ, preexec_fn=few_files)
        shown = arch(*options, env=environ | {"COLUMNS": "100"}, preexec_fn=few_files)
    found = found_by(done)
    troubles = {topic: one["level"] for topic, one in found.items() if one["level"] in ("warning", "fault")}
    assert troubles.items() >= {
        ("NumPy", "fault"),
        ("ONNX Runtime", "fault"),
        ("tritonserver", "fault"),
        ("reports", "fault"),
        ("open files", "fault"),
        ("ports", "warning"),
        ("proxy", "warning"),
    }
    assert all(one["advice"] or one["topic"] == "tritonserver" for one in found.values() if one["topic"] in troubles)
    assert shown.returncode == 1
    lines = shown.stdout.splitlines()
    assert {("FAULT", "NumPy"), ("warning", "ports")} <= {tuple(line.split()[:2]) for line in lines}
    assert lines[-1].startswith("arch doctor: ")
    assert f"{json.loads(done.stdout)['faults']} faults" in lines[-1]


def may_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode == 0


@pytest.mark.skipif(not may_mount(), reason="only root may mount file systems")
def test_a_full_disk_and_a_small_shared_memory(tmp_path: Path) -> None:
    """Real file systems, that only the command sees."""
    script = 'mount -t tmpfs -o size=4m none "$0" && mount -t tmpfs -o size=8m none /dev/shm && exec "$@"'
    command = [*ARCH, "doctor", "--json", "--output", str(tmp_path), "--cache", str(tmp_path / "cache")]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, str(tmp_path), *command], capture_output=True, text=True, check=False
    )
    answer = json.loads(done.stdout)["findings"]
    full = [one for one in answer if one["topic"] == "disk" and one["level"] == "fault"]
    assert [one["found"] for one in full] == ["4 MiB free of 4 MiB for reports, embeddings"]
    (shared,) = [one for one in answer if one["topic"] == SHARED]
    assert (shared["level"], shared["found"]) == ("fault", "8 MiB free of 8 MiB: a model takes 4 to 18 MiB of it")
    assert done.returncode == 1


def test_a_run_that_fails_says_what_is_wrong_here(tmp_path: Path, demo_dataset: Path) -> None:
    """The error is one line, as before; then what the doctor finds, for this machine."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        options = ["bench", "--server", address, "--dataset", f"demo={demo_dataset}", "--output", str(tmp_path)]
        done = arch(*options, preexec_fn=few_files)
        wrong = arch(*options, "--concurrency", "100000", preexec_fn=few_files)
    assert done.returncode == 1
    error, *more = done.stderr.splitlines()
    assert error.startswith(f"arch: no Triton answers at {address}")
    assert all(line.startswith("arch doctor: ") for line in more)
    assert [line for line in more if line.startswith("arch doctor: fault: open files: 120 at a time: ulimit -n")]
    # What was asked for is wrong on any machine.
    assert wrong.returncode == 2
    assert one_line(wrong) == wrong.stderr.strip()


def test_a_check_that_fails_or_hangs_hides_nothing() -> None:
    release = threading.Event()

    def broken(_: Surroundings) -> list[Finding]:
        raise KeyError("MemAvailable")

    def stuck(_: Surroundings) -> list[Finding]:
        release.wait(60)
        return []

    def full(_: Surroundings) -> list[Finding]:
        return [Finding("disk", "fault", "full")]

    checks = (health.Check("memory", broken, "run"), health.Check("disk", full, "run"))
    found = list(health.examine(Surroundings(), checks))
    assert [(one.topic, one.level) for one in found] == [("memory", "warning"), ("disk", "fault")]
    assert found[0].found == "could not be looked at: KeyError: 'MemAvailable'"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(health, "CHECKS", (*checks[1:], health.Check("driver", stuck, "own server")))
        assert [one.topic for one in health.troubles_of_run(Surroundings(), True, seconds=0.2)] == ["disk"]
        assert [one.topic for one in health.troubles_of_run(Surroundings(), False)] == ["disk"]
    release.set()


def test_each_check_concerns_runs_or_is_known_not_to() -> None:
    ask = {one.topic: one.concerns for one in health.CHECKS}
    assert ask["disk"] == "run"
    assert ask["GPU"] == "own server"
    assert ask["ports"] == "start"  # arch bench takes others


def test_the_page() -> None:
    console = Console(width=60, record=True, file=io.StringIO())
    found = [Finding("disk", "ok", "[red]100 GiB"), Finding("GPU", "warning", "old", "update it")]
    console.print(page(found))
    assert [line.rstrip() for line in console.export_text().splitlines()] == [
        "ok       disk  [red]100 GiB",
        "warning  GPU   old",
        "               → update it",
    ]
    assert summary(found) == "arch doctor: 1 warning: arch works"
    assert summary(found[:1]) == "arch doctor: nothing is wrong on this machine"
    assert summary([*found, Finding("x", "fault", "y")]) == "arch doctor: 1 fault, 1 warning"


def test_python_without_a_part_can_be_looked_at(tmp_path: Path) -> None:
    """The doctor itself needs no part."""
    code = "import sys, arch_bench.health; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"ray", "torch", "onnxruntime", "tritonclient", "psutil", "sklearn", "numpy"} & set(loaded)
