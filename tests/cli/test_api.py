"""The public API: as wide as the commands, typed, light to import."""

from __future__ import annotations

import inspect
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import arch_bench
import pytest
import typer
from arch_bench import data
from arch_bench.main import app
from arch_common import errors
from arch_common.files import check_folder
from support.commands import arch, one_line

# What only a terminal has: where to draw, what to show at the end, a second step of its own, and a file of the options,
# for which a program has arguments, and calls of `load_test` and `gate`.
_OF_THE_TERMINAL = {"check", "list_", "verbose", "quiet", "_file", "print_config"}
# Options that are one argument of the API together.
_OF_SERVERS = {"bench": ("tls", "tls_ca", "tls_cert", "tls_key", "header")}
_SINGULAR = {"dataset": "datasets", "server": "servers", "model": "models", "probe": "probes"}


@pytest.mark.parametrize("name", ["export", "serve", "bench", "probe", "demo", "publish"])
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
        ({"seeds": 10**20}, "seeds cannot be 100000000000000000000: input should be less than or equal to 1000"),
        ({"seed": 2**32}, "seed cannot be 4294967296: input should be less than 4294967296"),
        ({"workers": 10**6}, "workers cannot be 1000000: input should be less than or equal to 1000"),
        ({"workers": 1000}, "workers cannot be 1000: on the"),
        ({"concurrency": 10**9}, "concurrency cannot be 1000000000: input should be less than or equal to 10000"),
        ({"repeat": 100_000}, "repeat cannot be 100000: input should be less than or equal to 100"),
        ({"rate": 1e-9}, "rate cannot be 1e-09: input should be greater than or equal to 0.01"),
        ({"rate": math.inf}, "rate cannot be inf"),
        ({"rate": math.nan}, "rate cannot be nan"),
        ({"cache": __file__}, f"--cache {__file__} is a file, and must be a folder"),
        ({"cache": f"{__file__}/a/b"}, f"--cache {__file__}/a/b cannot be a folder: {__file__} is a file"),
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


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("file", "--output {file} is a file, and must be a folder"),
        ("file/a", "--output {file}/a cannot be a folder: {file} is a file"),
    ],
)
def test_where_a_report_cannot_be_is_told_before_a_server_is_asked(
    tmp_path: Path, demo_dataset: Path, output: str, message: str
) -> None:
    file = tmp_path / "file"
    file.touch()
    # Nothing listens there.
    asked = {"datasets": f"demo={demo_dataset}", "servers": "127.0.0.1:1", "output": tmp_path / output}
    with pytest.raises(arch_bench.UsageError) as caught:
        arch_bench.bench(**asked)  # type: ignore[arg-type]
    assert str(caught.value) == message.format(file=file)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_told_with_its_option(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(arch_bench.UsageError, match=re.escape(f"cannot be written: no permission in {tmp_path}")):
        check_folder(tmp_path / "a" / "b", "--output")
    tmp_path.chmod(0o700)


@pytest.mark.parametrize("workers", [0, 10**20])
def test_so_many_processes_cannot_verify(demo_dataset: Path, workers: int) -> None:
    dataset = data.open_dataset(f"demo={demo_dataset}")
    with pytest.raises(arch_bench.UsageError, match=f"workers cannot be {workers}: from 1 to 1000"):
        data.verify(dataset, workers=workers)


def test_a_number_beyond_all_bounds_is_a_wrong_command(tmp_path: Path, demo_dataset: Path) -> None:
    asked = ["bench", "--dataset", f"demo={demo_dataset}", "--output", str(tmp_path / "out")]
    done = arch(*asked, "--seeds", "99999999999999999999")
    assert done.returncode == 2
    assert one_line(done).startswith("arch: seeds cannot be 99999999999999999999: ")
