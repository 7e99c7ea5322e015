"""What is said where a part of arch is not installed."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest
from arch_bench.extras import missing, needs
from arch_common.errors import MissingExtraError


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let the metadata look as if these distributions were not installed."""
    known = importlib.metadata.requires

    def requires(name: str) -> list[str] | None:
        if name in names:
            raise importlib.metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(importlib.metadata, "requires", requires)


def test_everything_is_there() -> None:
    assert {extra: missing(extra) for extra in ("export", "serve", "bench")} == {"export": [], "serve": [], "bench": []}


# grpcio comes by way of tritonclient's extra; its module has another name.
@pytest.mark.parametrize(("module", "distribution"), [("grpc", "grpcio"), ("numba", "numba"), ("llvmlite", "llvmlite")])
def test_a_missing_package_of_an_extra_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, module: str, distribution: str
) -> None:
    without(monkeypatch, distribution)
    assert missing("bench") == [distribution]
    with pytest.raises(MissingExtraError) as caught, needs("bench"):
        raise ModuleNotFoundError(f"No module named {module!r}", name=f"{module}.inner")
    assert str(caught.value) == (
        f"this needs the package {module!r}, which is not installed: pip install 'arch-bench[bench]' (in a clone: pip "
        "install '.[bench]')"
    )
    assert caught.value.exit_code == 2


def test_a_module_that_no_extra_brings_is_a_fault_of_ours() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"arch_harness\.nowhere"), needs("bench"):
        import arch_harness.nowhere  # type: ignore[import-not-found]  # noqa: F401


def test_the_command_says_it_in_one_line() -> None:
    """Where the import system knows no Ray and the metadata no distribution of it."""
    script = (
        "import importlib.metadata as metadata, sys\n"
        "known = metadata.requires\n"
        "def requires(name):\n"
        "    if name == 'ray': raise metadata.PackageNotFoundError(name)\n"
        "    return known(name)\n"
        "metadata.requires = requires\n"
        "sys.modules['pyarrow'] = None\n"
        "sys.argv = ['arch', 'cache', 'list']\n"
        "from arch_bench.main import main; main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("arch: this needs the package ")
    assert done.stderr.count("\n") == 1
