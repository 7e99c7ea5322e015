"""The public API: as wide as the commands, typed, light to import."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import arch_bench
import pytest
import typer
from arch_bench.main import app
from arch_common import errors

# What only a terminal has: where to draw, what to show at the end, and a second step of its own.
_OF_THE_TERMINAL = {"check", "list_"}
# Options that are one argument of the API together.
_OF_SERVERS = {"bench": ("tls", "tls_ca", "tls_cert", "tls_key", "header")}
_SINGULAR = {"dataset": "datasets", "server": "servers", "model": "models", "probe": "probes"}


@pytest.mark.parametrize("name", ["export", "serve", "bench", "probe", "demo"])
def test_no_command_can_do_what_the_api_cannot(name: str) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    options = {parameter.name for parameter in commands[name].params} - {"help"} - _OF_THE_TERMINAL
    arguments = set(inspect.signature(getattr(arch_bench, name)).parameters)
    wanted = {"servers" if option in _OF_SERVERS.get(name, ()) else _SINGULAR.get(option, option) for option in options}
    assert wanted <= arguments, wanted - arguments


def test_everything_public_is_there_and_typed() -> None:
    for name in arch_bench.__all__:
        found = getattr(arch_bench, name)
        if inspect.isfunction(found):
            hints = inspect.signature(found)
            assert hints.return_annotation is not inspect.Signature.empty, name
            assert all(one.annotation is not inspect.Parameter.empty for one in hints.parameters.values()), name
    assert (Path(arch_bench.__file__).parent / "py.typed").is_file()
    assert arch_bench.__version__.count(".") == 2


def test_importing_it_brings_no_part() -> None:
    parts = ("numpy", "torch", "ray", "pandas", "grpc")
    script = f"import sys, arch_bench; print([name for name in {parts} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_all_errors_stand_in_one_drawing() -> None:
    """The docstring names each class with its exit code, and each is an `ArchError`."""
    drawn = errors.__doc__ or ""
    classes = [one for _, one in inspect.getmembers(errors, inspect.isclass) if one.__module__ == errors.__name__]
    assert len(classes) >= 9
    for one in classes:
        assert issubclass(one, errors.ArchError)
        (line,) = [line for line in drawn.splitlines() if re.match(rf"[ │├└─]*{one.__name__} ", line)]
        assert f" {one.exit_code} " in line, line


@pytest.mark.parametrize("script", ["arch", "arch-bench", "python -m arch_bench"])
def test_the_version_by_each_name(script: str) -> None:
    binary = Path(sys.executable).parent
    command = [sys.executable, "-m", "arch_bench"] if script.startswith("python") else [str(binary / script)]
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"arch {arch_bench.__version__}\n"


def test_the_first_page_of_help_names_no_tool_of_tests() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "arch_bench", "data", "--help"], capture_output=True, text=True, check=True
    )
    assert "verify" in done.stdout
    assert "fake" not in done.stdout


def test_shell_completion_is_offered() -> None:
    # Typer otherwise asks which shell it was started from.
    environment = os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    command = [sys.executable, "-m", "arch_bench", "--show-completion", "bash"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert "complete " in done.stdout
    assert "_ARCH_COMPLETE=complete_bash" in done.stdout


def test_a_folder_without_a_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(arch_bench.UsageError, match=r"holds no results\.json; name a folder that arch bench wrote"):
        arch_bench.load(tmp_path)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"splits": "Strict"}, "unknown splits 'Strict': arch or strict"),
        ({"probes": "bogus"}, "probes.0 cannot be 'bogus'"),
        ({"seed": -1}, "seed cannot be -1"),
        ({"seeds": 0}, "seeds cannot be 0"),
        ({"workers": 0}, "workers cannot be 0"),
        ({"concurrency": 0}, "concurrency cannot be 0"),
        ({"transport": "shared memory"}, "transport cannot be 'shared memory'"),
        ({"datasets": []}, "no dataset is named"),
        ({"servers": "localhost"}, "'localhost' is no server address"),
    ],
)
def test_what_cannot_be_is_one_line_before_anything_is_started(
    tmp_path: Path, demo_dataset: Path, asked: dict[str, object], message: str
) -> None:
    with pytest.raises(arch_bench.UsageError, match=re.escape(message)) as caught:
        arch_bench.bench(**({"datasets": f"demo={demo_dataset}", "output": tmp_path / "out"} | asked))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
