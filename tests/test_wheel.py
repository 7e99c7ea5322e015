"""What `python -m build` makes is whole: installed where the clone is not, its commands run."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import arch_bench
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PACKAGES = ("arch_common", "arch_export", "arch_serve", "arch_harness", "arch_bench")


def run(*command: str | Path, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, built: Path) -> Path:
    """The commands of an environment in which the wheel is installed, with the dependencies of this one."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    (wheel,) = built.glob("*.whl")
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel, cwd=folder)
    # After its own packages in the path; what points at the clone is a .pth file there, and those do not count here.
    (own,) = folder.glob("lib/python*/site-packages")
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def test_the_wheel_holds_what_is_no_code_too(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert {f"arch_harness/report/templates/report.{kind}.j2" for kind in ("html", "md")} <= names
    assert {f"arch_harness/report/templates/reproduction.{kind}.j2" for kind in ("html", "md")} <= names
    assert "arch_harness/published/arch.csv" in names
    assert {"arch_bench/config/bench.schema.json", "arch_harness/load/load.schema.json"} <= names
    assert {f"arch_serve/backends/onnxruntime/{name}.py" for name in ("model", "batches")} <= names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == set(PACKAGES)


def test_the_source_distribution_holds_the_tests_and_the_licence(built: Path) -> None:
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "tests/conftest.py", "cli/arch_bench/api.py"} <= names


def test_it_comes_from_the_wheel(installed: Path) -> None:
    where = run(
        installed / "python", "-c", "import arch_bench; arch_bench.load; print(arch_bench.__file__)", cwd=installed
    )
    assert Path(where).is_relative_to(installed.parent)


@pytest.mark.parametrize("command", [["arch"], ["arch-bench"], ["python", "-m", "arch_bench"]], ids=" ".join)
def test_its_commands_run(installed: Path, command: list[str]) -> None:
    name, *arguments = command
    assert run(installed / name, *arguments, "--version", cwd=installed) == f"arch {arch_bench.__version__}\n"
    page = run(installed / name, *arguments, "--help", cwd=installed)
    assert all(part in page for part in ("export", "serve", "bench", "probe"))
