"""What `arch doctor` finds of the server and its ports."""

from __future__ import annotations

import importlib.util
import shutil
import socket
import sys
from pathlib import Path

import pytest
from arch_bench.health.server import check_ports, check_server
from arch_bench.health.surroundings import Surroundings
from support.faulty_machines import packages, program
from support.ports import free_port

pytestmark = [pytest.mark.torch, pytest.mark.triton]

HERE = Surroundings()


def wheel() -> Path:
    spec = importlib.util.find_spec("pytriton")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0])


def test_the_server_of_the_wheel() -> None:
    (found,) = check_server(HERE)
    assert (found.level, found.found, found.advice) == ("ok", "the one of the pip wheel runs", "")


def test_no_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setenv("PATH", str(tmp_path))
    (found,) = check_server(HERE)
    assert found.level == "absent"
    assert "pip install 'arch-bench[serve]'" in found.advice


def test_a_numpy_with_which_it_answers_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(packages(tmp_path, numpy="2.3.0"))
    (found,) = check_server(HERE)
    assert found.level == "fault"
    assert "NumPy 2.3.0 does not work with this server" in found.found


def test_a_library_that_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The real server and its real libraries, but for one."""
    real = wheel()
    home = tmp_path / "pytriton" / "tritonserver"
    (home / "bin").mkdir(parents=True)
    (tmp_path / "pytriton" / "__init__.py").touch()
    shutil.copy(real / "tritonserver" / "bin" / "tritonserver", home / "bin")
    for name in ("backends", "python_backend_stubs"):
        (home / name).symlink_to(real / "tritonserver" / name)
    libraries = tmp_path / "nvidia_pytriton.libs"
    libraries.mkdir()
    for one in (real.parent / "nvidia_pytriton.libs").iterdir():
        if not one.name.startswith("libb64-"):
            (libraries / one.name).symlink_to(one)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pytriton", raising=False)
    (found,) = check_server(HERE)
    assert found.level == "fault"
    assert found.found.startswith("the one of the pip wheel lacks libb64-")


def test_an_installed_server_that_does_not_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program(tmp_path, "tritonserver", "echo 'tritonserver: symbol lookup error: undefined symbol' >&2; exit 127")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (found,) = check_server(HERE)
    assert found.level == "fault"
    assert found.found == (
        f"the one at {tmp_path}/tritonserver does not run: tritonserver: symbol lookup error: undefined symbol"
    )


def test_ports() -> None:
    free = {"grpc": free_port(), "http": free_port(), "metrics": free_port()}
    (found,) = check_ports(Surroundings(ports=free))
    assert found.level == "ok"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (found,) = check_ports(Surroundings(ports=free | {"http": port}))
    assert found.level == "warning"
    assert found.found.startswith(f"in use: {port}")
    assert found.advice == "stop what listens there, or arch serve --http-port 0"
