"""What the markers promise: testing what is light waits for nothing that is heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_SCRIPT = """
import sys, pytest
code = pytest.main([*sys.argv[1:], "-q", "-p", "no:cacheprovider", "-p", "no:xdist"])
print("imported:", *sys.modules)
sys.exit(code)
"""
QUICK = "not torch and not ray and not triton and not slow"


def imported(*arguments: str) -> set[str]:
    """The modules that a run of pytest has imported in the end."""
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, *arguments], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return set(done.stdout.splitlines()[-1].removeprefix("imported: ").split())


def test_testing_splits_imports_no_torch() -> None:
    found = imported("tests/harness/datasets/test_splits.py")
    assert "arch_harness.datasets.splits" in found
    assert not found & {"torch", "transformers", "onnx", "onnxruntime", "ray", "tritonclient"}


@pytest.mark.slow
def test_collecting_the_quick_tests_imports_nothing_that_their_markers_leave_out() -> None:
    found = imported("--collect-only", "-m", QUICK)
    assert "arch_harness.datasets.splits" in found
    assert not found & {"torch", "transformers", "onnx", "onnxruntime", "ray"}


def test_make_check_runs_the_quick_tests() -> None:
    assert QUICK in (ROOT / "Makefile").read_text()
