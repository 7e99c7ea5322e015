"""`arch bench` and its embedding store: what a second run computes, and what is left of one that was killed."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import soundfile
from arch_harness.results.run import Result, read_run
from arch_serve.server import LocalServer
from support.commands import ARCH, arch, marked, one_line, processes, still_running
from support.made_data import repeat_clips
from support.waiting import until

pytestmark = [pytest.mark.torch, pytest.mark.ray, pytest.mark.triton, pytest.mark.slow]

CLIPS = 100
MANY = 1000


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, demo_dataset: Path) -> Path:
    """The demo dataset's clips many times over: enough to be killed among."""
    return repeat_clips(demo_dataset, tmp_path_factory.mktemp("data") / "many", MANY)


def options(server: LocalServer, data: Path, output: Path, model: str = "logmel") -> list[str]:
    return [
        "bench", "--server", server.grpc_url, "--model", model, "--dataset", f"demo={data}", "--output", str(output),
        "--seeds", "1",
    ]  # fmt: skip


def result_of(output: Path) -> Result:
    (result,) = read_run(output / "results.json").results
    return result


def test_a_second_run_computes_nothing_and_says_so(
    tmp_path: Path, cache: Path, server: LocalServer, demo_dataset: Path
) -> None:
    assert arch(*options(server, demo_dataset, tmp_path / "first")).returncode == 0
    done = arch(*options(server, demo_dataset, tmp_path / "second"))
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stderr.split())
    assert "logmel on demo: 100 of 100 embeddings come from the store, none is computed" in said
    first, second = result_of(tmp_path / "first"), result_of(tmp_path / "second")
    assert (first.stored, second.stored) == (0, CLIPS)
    assert (second.score, second.interval, second.failures) == (first.score, first.interval, [])
    # Its speed is that of the first one, and says so.
    assert first.carried is None
    assert second.carried is not None
    assert (second.measurement, second.carried.started) == (first.measurement, first.started)
    assert second.carried.machine == read_run(tmp_path / "first" / "results.json").machine
    assert "† not measured in this run" in done.stdout
    assert "this hardware" in " ".join(done.stdout.split())
    # Asked in another way it would be another one; and an entry that an earlier arch wrote has none.
    other = arch(*options(server, demo_dataset, tmp_path / "other"), "--concurrency", "3")
    assert other.returncode == 0, other.stderr
    assert result_of(tmp_path / "other").measurement is None
    (kept,) = cache.glob("*/speed.json")
    kept.rename(tmp_path / "speed.json")
    quiet = arch(*options(server, demo_dataset, tmp_path / "without"), "--quiet")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, f"{tmp_path / 'without' / 'report.html'}\n", "")
    assert result_of(tmp_path / "without").measurement is None
    assert result_of(tmp_path / "without").carried is None

    # A result with stored embeddings is not what --recompute asks for; one without is kept.
    done = arch(*options(server, demo_dataset, tmp_path / "second"), "--recompute")
    assert done.returncode == 0, done.stderr
    third = result_of(tmp_path / "second")
    assert (third.stored, third.carried) == (0, None)
    assert third.measurement is not None
    assert third.measurement.clips == CLIPS
    done = arch(*options(server, demo_dataset, tmp_path / "second"), "--recompute")
    assert "logmel on demo: done by an earlier run, kept" in done.stderr
    assert result_of(tmp_path / "second") == third


def test_only_what_changed_is_computed_and_measured(tmp_path: Path, server: LocalServer, demo_dataset: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(demo_dataset, folder)
    broken, changed = sorted((folder / "audio").iterdir())[:2]
    broken.write_bytes(b"RIFF, but not a sound")
    assert arch(*options(server, folder, tmp_path / "first")).returncode == 1
    first = result_of(tmp_path / "first")
    assert (first.stored, first.failed) == (0, 1)
    soundfile.write(changed, [0.0] * 16000, 16000)
    done = arch(*options(server, folder, tmp_path / "second"))
    assert done.returncode == 1
    assert "98 of 100 embeddings come from the store, 2 are computed" in " ".join(done.stderr.split())
    second = result_of(tmp_path / "second")
    assert second.measurement is not None
    assert (second.stored, second.measurement.clips, second.failed) == (CLIPS - 2, 1, 1)
    assert [failure.clip for failure in second.failures] == [f"audio/{broken.name}"]


def test_killed_between_embedding_and_probing_keeps_the_speed(
    tmp_path: Path, server: LocalServer, demo_dataset: Path
) -> None:
    command = [*options(server, demo_dataset, tmp_path / "out"), "--seeds", "100"]
    passed = tmp_path / "out" / "measurements" / "logmel--demo.json"
    _kill(command, passed.exists, str(tmp_path))
    assert read_run(tmp_path / "out" / "results.json").results == []
    done = arch(*options(server, demo_dataset, tmp_path / "out"), "--seeds", "100")
    assert done.returncode == 0, done.stderr
    assert "logmel on demo: embedded by an earlier run, kept" in done.stderr
    result = result_of(tmp_path / "out")
    assert result.stored == 0
    assert result.measurement is not None
    assert result.measurement.clips == CLIPS
    assert f'"seconds": {result.measurement.seconds}' in passed.read_text()


def test_killed_while_embedding_goes_on_with_what_is_stored(
    tmp_path: Path, cache: Path, server: LocalServer, many: Path
) -> None:
    command = options(server, many, tmp_path / "out", "tiny-hubert")
    _kill(command, lambda: any(cache.glob("*/*.parquet")), str(tmp_path))
    done = arch(*command)
    assert done.returncode == 0, done.stderr
    result = result_of(tmp_path / "out")
    computed = result.measurement.clips if result.measurement else 0
    assert result.stored > 0
    assert result.stored + computed == MANY
    assert arch(*command[:-4], "--output", str(tmp_path / "undisturbed"), "--seeds", "1", "--recompute").returncode == 0
    assert result_of(tmp_path / "undisturbed").score == pytest.approx(result.score, abs=1e-3)


def test_a_killed_ray_ends_the_run_with_one_line_and_the_next_goes_on(
    tmp_path: Path, cache: Path, server: LocalServer, many: Path
) -> None:
    command, mark = options(server, many, tmp_path / "out", "tiny-hubert"), str(tmp_path)
    running = subprocess.Popen([*ARCH, *command], stderr=subprocess.PIPE, text=True, env=marked(mark))
    until(lambda: any(cache.glob("*/*.parquet")), running)
    (raylet,) = processes(mark, "raylet")
    raylet.kill()
    _, errors = running.communicate(timeout=120)
    assert running.returncode == 1, errors
    said = [line for line in errors.splitlines() if line and not line.startswith(("starting ", "embed "))]
    assert said == [
        "arch: Ray has ended under the run: its process 'raylet' was killed, for want of memory perhaps; what was done "
        f"is kept, and the same command with --output {tmp_path / 'out'} goes on from there"
    ]
    until(lambda: not still_running(mark), pause_s=0.1)
    done = arch(*command)
    assert done.returncode == 0, done.stderr
    result = result_of(tmp_path / "out")
    assert result.stored > 0
    assert result.stored + (result.measurement.clips if result.measurement else 0) == MANY


def _kill(command: list[str], ready: Callable[[], bool], mark: str) -> None:
    """Run a command, and kill it with -9 once `ready`; nothing that it started stays."""
    running = subprocess.Popen([*ARCH, *command], stderr=subprocess.PIPE, text=True, env=marked(mark))
    until(ready, running)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    until(lambda: not still_running(mark), pause_s=0.1)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system with room for 96 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("may not mount a file system here; embeddings/test_store.py has the kernel refuse by other means")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_ends_the_run_with_one_line_and_the_next_goes_on(
    tmp_path: Path, server: LocalServer, many: Path, small_disk: Path
) -> None:
    command = [*options(server, many, tmp_path / "out", "tiny-hubert"), "--cache", str(small_disk / "cache")]
    done = arch(*command)
    assert done.returncode == 1, done.stderr
    line = one_line(done)
    assert "No space left on device; the embeddings stored so far stay; what was done is kept, and the same" in line
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    done = arch(*command)
    assert done.returncode == 0, done.stderr
    result = result_of(tmp_path / "out")
    assert result.stored + (result.measurement.clips if result.measurement else 0) == MANY
    assert len(list((small_disk / "cache").glob("*/*.parquet"))) == 1
