"""Several processes that send one load together, by Ray: on this machine, and on two."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from arch_common.errors import ArchError, UsageError
from support.commands import ARCH, arch, one_line, processes
from support.machines import FAR, GRPC_PORT, NEAR, RAY_PORT, Machines, joined, may_make_machines, two_machines

if TYPE_CHECKING:
    from arch_serve.server import LocalServer

pytestmark = [pytest.mark.triton, pytest.mark.torch, pytest.mark.ray, pytest.mark.slow]


def test_the_parts_of_a_run_are_one_on_one_clock() -> None:
    from arch_harness.load.logs import Log, Part, SampleTimes, merged

    def part(began: float, done: list[float], failed: list[bool]) -> Part:
        count = len(done)
        samples = SampleTimes(
            np.arange(count) * 100.0, np.arange(count), np.arange(count), np.zeros(count), np.array(done)
        )
        return Part(Log({"result_validity": "VALID"}, []), samples, np.array(failed), {}, began)

    samples, failed = merged([part(50.5, [5.0, 6.0], [False, True]), part(50.0, [7.0, 8.0, 9.0], [False] * 3)])
    assert samples.scheduled.tolist() == [500, 600, 0, 100, 200]
    assert len(set(samples.query.tolist())) == 5
    assert samples.seconds == pytest.approx(0.606)  # from the first of one to the last answer of the other
    assert samples.latencies(failed).tolist() == [5, 7, 8, 9, np.inf]


def test_processes_divide_the_rate_and_draw_moments_of_their_own() -> None:
    from arch_harness.load.sending.fleet import _share

    settings: dict[str, float | int | bool] = {
        "server_target_qps": 90.0,
        "server_max_async_queries": 900,
        "min_query_count": 459,
        "schedule_rng_seed": 5,
    }
    parts = [_share(settings, number, 3) for number in range(3)]
    assert sum(one["server_target_qps"] for one in parts) == 90
    assert {one["min_query_count"] for one in parts} == {459}  # each LoadGen judges its own part
    assert {one["server_max_async_queries"] for one in parts} == {300}
    assert len({one["schedule_rng_seed"] for one in parts}) == 3


def test_streams_are_of_one_process(demo_dataset: Path) -> None:
    done = arch("load", "--dataset", f"demo={demo_dataset}", "--scenario", "single-stream", "--workers", "2")
    assert (done.returncode, one_line(done)) == (
        2,
        "arch: --workers is of the scenarios server and offline: in single-stream one process waits for answers",
    )


def test_two_processes_send_what_one_was_asked_for(server: LocalServer, demo_dataset: Path, tmp_path: Path) -> None:
    from arch_harness.load.logs import read_log
    from arch_harness.load.report import read_load

    output = tmp_path / "out"
    done = arch(
        *("load", "--server", server.grpc_url, "--model", "logmel", "--dataset", f"demo={demo_dataset}"),
        *("--slo", "p99=5s", "--rate", "120", "--min-duration", "1", "--clips", "24", "--workers", "2"),
        *("--output", str(output)),
    )
    assert done.returncode == 0, done.stderr
    report = read_load(output / "load.json")
    (model,) = report.models
    assert model.ceiling.clips_per_s is not None
    assert model.ceiling.clips_per_s > 172  # or 120 would be left out
    (run,) = model.runs
    assert run.parts == 2
    assert run.valid, run.broken
    logs = [read_log(output / run.log / number) for number in ("1", "2")]
    assert [log.settings("effective")["target_qps"] for log in logs] == [60, 60]
    counts = [log.values["result_query_count"] for log in logs]
    assert min(counts) >= 459
    # Triton counted what both sent.
    assert run.server is not None
    assert run.queries == sum(counts) == run.server.requests
    assert len(report.senders) == 2
    assert {one.address for one in report.senders} == {None}
    for one in report.senders:  # a clock against itself
        assert abs(one.clock_ms) <= one.clock_uncertain_ms
    page = (output / "load.html").read_text()
    assert "2 on " in page
    assert "each with a LoadGen of its own" in page


def test_a_server_that_is_gone_is_one_line_from_several_processes(tmp_path: Path) -> None:
    from arch_harness.load.sending.client import Clips
    from arch_harness.load.sending.fleet import Fleet
    from arch_harness.load.sending.messages import Order
    from arch_harness.streaming.wire import Job
    from arch_harness.triton.endpoint import Endpoint

    np.zeros(16000, dtype=np.float32).tofile(tmp_path / "clips.f32")
    clips = Clips(tmp_path / "clips.f32", [16000], 16000, 0)
    gone = [Endpoint("127.0.0.1:9")]
    settings: dict[str, float | int | bool] = {"offline_expected_qps": 10, "min_duration_ms": 100}
    job = Job("logmel", Path(), 16000, 1.0, 160, 0, 8)

    def refused() -> AbstractContextManager[str]:
        raise UsageError("it cannot be read")

    with Fleet(2, None, gone) as fleet:
        with (
            fleet.sending([gone, gone], job, clips, "grpc") as driver,
            pytest.raises(ArchError, match=r"^the server at 127\.0\.0\.1:9 was lost: "),
        ):
            driver.parts(Order("Offline", settings, tmp_path / "log", 4))
        # A usage error too comes as what it was.
        with pytest.raises(UsageError, match=r"^it cannot be read$"), fleet.null_servers(refused):
            pass


@pytest.fixture
def machines(repository: Path) -> Iterator[Machines]:
    folder = Path(tempfile.mkdtemp(prefix="f", dir="/tmp"))  # short: Ray's sockets lie in it
    try:
        with two_machines(f"fleet-{os.getpid()}", folder, repository) as made:
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert processes(f"fleet-{os.getpid()}") == []


@may_make_machines()
def test_machines_of_a_cluster_send_together(machines: Machines, demo_dataset: Path, tmp_path: Path) -> None:
    """The far one has neither the dataset nor the clips, and a null model of its own to measure its ceiling."""
    from arch_harness.load.report import read_load

    data = tmp_path / "data"
    shutil.copytree(demo_dataset, data / "demo")
    far = joined(machines, data)
    try:
        running = machines.start(
            [
                *(*ARCH, "load", "--server", f"{NEAR}:{GRPC_PORT}", "--dataset", f"demo={data / 'demo'}"),
                *("--slo", "p99=5s", "--rate", "120", "--min-duration", "1", "--min-queries", "50", "--clips", "24"),
                *("--ray-address", f"{NEAR}:{RAY_PORT}", "--workers", "3", "--output", str(tmp_path / "out")),
            ],
            {"COLUMNS": "200"},
        )
        said, errors = running.communicate(timeout=300)
    finally:
        far.kill()
        far.wait()
    report = read_load(tmp_path / "out" / "load.json")
    assert {one.address for one in report.senders} == {NEAR, FAR}
    assert len(report.senders) == 3
    (run,) = report.models[0].runs
    assert run.parts == 3
    assert run.failed == 0, errors
    assert report.models[0].ceiling.clips_per_s is not None, errors
    assert f"({FAR})" in (tmp_path / "out" / "load.html").read_text()
    assert "keeps p99 <= 5000 ms up to 120 clips/s" in " ".join(said.split())
