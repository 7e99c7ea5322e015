"""What a tuning takes for another machine: versions of what serves and sends."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest
from arch_bench.tuning.machine import versions


def test_a_triton_that_is_installed_tells_its_version_or_is_known_by_its_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = tmp_path / "bin" / "tritonserver"
    binary.parent.mkdir()
    binary.write_bytes(b"#!/bin/false\n")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(binary.parent))
    digest = versions()["tritonserver"]
    assert len(digest) == 16
    binary.write_bytes(b"#!/bin/true\n")
    assert versions()["tritonserver"] != digest
    (tmp_path / "TRITON_VERSION").write_text("2.51.0\n")
    found = versions()
    assert found["tritonserver"] == "2.51.0"
    assert found["mlcommons-loadgen"] == importlib.metadata.version("mlcommons-loadgen")
    assert "nvidia-pytriton" not in found


@pytest.mark.triton
def test_the_triton_of_the_wheel_has_its_version() -> None:
    found = versions()
    assert found["nvidia-pytriton"] == importlib.metadata.version("nvidia-pytriton")
    assert "tritonserver" not in found
