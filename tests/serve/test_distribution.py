"""What is checked before a tritonserver is launched."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
import sysconfig
from typing import TYPE_CHECKING

import pytest
from arch_common.errors import ServeError, ServeUsageError
from arch_serve import distribution
from arch_serve.distribution import prepare_distribution
from arch_serve.repository import select_models
from arch_serve.server import LocalServer, ModelStatus
from support.serve_models import add_model

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.torch


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "model_repository"
    add_model(folder, "alpha")
    add_model(folder, "beta")
    add_model(folder, ".hidden")
    (folder / "README.md").write_text("weights are generated\n")
    return folder


def test_every_visible_model_or_the_named_ones(repository: Path) -> None:
    assert select_models(repository) == ["alpha", "beta"]
    assert select_models(repository, ["beta", "beta"]) == ["beta"]


def test_missing_repository(tmp_path: Path) -> None:
    with pytest.raises(ServeUsageError, match=r"no model repository at .*arch export") as error:
        LocalServer(tmp_path / "nowhere").start()
    assert error.value.exit_code == 2


def test_empty_repository(tmp_path: Path) -> None:
    with pytest.raises(ServeUsageError, match="holds no model: run `arch export`"):
        LocalServer(tmp_path).start()


def test_unknown_model_lists_those_there_are(repository: Path) -> None:
    with pytest.raises(ServeUsageError, match="holds no model gamma; it holds alpha, beta"):
        LocalServer(repository, ["alpha", "gamma"]).start()


def test_numpy_2_is_refused(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "2.1.0")
    server = LocalServer(repository, grpc_port=0, http_port=0, metrics_port=0)
    with pytest.raises(ServeError, match=r"NumPy 2\.1\.0 does not work .*numpy<2"):
        server.start()


def test_no_server_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ServeError, match=r"no tritonserver is installed: .*arch-bench\[serve\]"):
        prepare_distribution(tmp_path)


def test_missing_libpython_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_config_var", lambda _: str(tmp_path))
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    monkeypatch.setattr(distribution, "find_library", lambda _: None)
    with pytest.raises(ServeError, match=r"apt-get install libpython3\.\d+"):
        prepare_distribution(tmp_path)


def test_an_installed_server_runs_with_its_own_backends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = tmp_path / "bin" / "tritonserver"
    binary.parent.mkdir()
    binary.touch(mode=0o755)
    (tmp_path / "backends").mkdir()
    monkeypatch.setenv("PATH", str(binary.parent))
    found = prepare_distribution(tmp_path / "unused")
    assert (found.binary, found.backends) == (binary, tmp_path / "backends")


@pytest.mark.parametrize(
    ("reason", "short"),
    [
        ("", ""),
        ("Internal: TritonModelException: no GPU\n\nAt:\n  model.py(1): initialize\n", "no GPU"),
        ("Invalid argument: unexpected platform", "unexpected platform"),
        ("\n  ModuleNotFoundError: No module named 'x'", "No module named 'x'"),
    ],
)
def test_short_reason(reason: str, short: str) -> None:
    assert ModelStatus("m", "1", "UNAVAILABLE", reason).short_reason == short
