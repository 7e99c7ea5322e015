"""`arch bench` on a folder that another command has been at: a recomputation that was interrupted, and other probes."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from arch_harness.results.run import read_run
from arch_serve.server import LocalServer
from support.commands import ARCH, arch, one_line
from support.made_data import repeat_clips
from support.waiting import until

pytestmark = [pytest.mark.torch, pytest.mark.ray, pytest.mark.triton, pytest.mark.slow]

CLIPS = 800


@pytest.fixture
def many(tmp_path: Path, demo_dataset: Path) -> Path:
    """The demo dataset's clips several times over: enough to be interrupted among."""
    return repeat_clips(demo_dataset, tmp_path / "many", CLIPS)


def test_a_recomputation_that_was_interrupted_goes_on(
    tmp_path: Path, cache: Path, server: LocalServer, many: Path
) -> None:
    common = ["bench", "--server", server.grpc_url, "--model", "tiny-hubert", "--dataset", f"demo={many}"]
    assert arch(*common, "--seeds", "1", "--output", str(tmp_path / "first")).returncode == 0
    first = read_run(tmp_path / "first" / "results.json").results[0]
    assert first.stored == 0
    again = [*common, "--seeds", "1", "--output", str(tmp_path / "second"), "--recompute"]
    stored = set(cache.glob("*/*.parquet"))  # in as many files as it took seconds
    running = subprocess.Popen([*ARCH, *again], stderr=subprocess.PIPE, text=True)
    until(lambda: bool(set(cache.glob("*/*.parquet")) - stored), running)
    running.send_signal(signal.SIGINT)
    assert "goes on from here" in " ".join(running.communicate()[1].split())
    done = arch(*again)
    assert done.returncode == 0, done.stderr
    assert "embeddings were computed before this run was interrupted" in " ".join(done.stderr.split())
    second = read_run(tmp_path / "second" / "results.json").results[0]
    assert second.measurement is not None
    assert 0 < second.measurement.clips < CLIPS
    assert second.measurement.clips + second.stored == CLIPS
    assert second.score == pytest.approx(first.score, abs=1e-2)
    # It is done now; a run in another folder begins anew.
    assert "embedded by an earlier run, kept" in arch(*again).stderr
    assert (
        arch(*[str(tmp_path / "third") if part == str(tmp_path / "second") else part for part in again]).returncode == 0
    )
    assert read_run(tmp_path / "third" / "results.json").results[0].stored == 0


def test_a_folder_that_was_probed_again_is_scored_as_the_command_says(
    tmp_path: Path, server: LocalServer, demo_dataset: Path
) -> None:
    output = tmp_path / "out"
    common = ["bench", "--server", server.grpc_url, "--dataset", f"demo={demo_dataset}", "--output", str(output)]
    both = [*common, "--model", "logmel", "--model", "tiny-hubert", "--seeds", "1"]
    assert arch(*both).returncode == 0
    before = read_run(output / "results.json")
    assert arch("probe", str(output), "--probe", "knn").returncode == 0
    done = arch(*both)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("embedded by an earlier run, kept") == 2
    after = read_run(output / "results.json")
    assert after.settings == before.settings
    for old, new in zip(before.results, after.results, strict=True):
        assert (new.score, new.measurement, new.stored) == (old.score, old.measurement, 0)
    # Where a result would stay as it is beside others of other probes, that is said, and which.
    some = [*common, "--model", "logmel", "--seeds", "2"]
    refused = arch(*some)
    assert refused.returncode == 2
    assert "seeds 1 instead of 2" in one_line(refused)
    assert "tiny-hubert on demo" in one_line(refused)
    refused = arch(*both, "--workers", "3")
    assert refused.returncode == 2
    assert "other settings (workers" in one_line(refused)
