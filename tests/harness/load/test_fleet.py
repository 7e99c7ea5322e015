"""Several processes that send one load together, by Ray: on this machine, and on two."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from arch_common.errors import ArchError, UsageError
from support.commands import ARCH, arch, interrupted, one_line, processes, still_running
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
    # 459 queries are 15.3 s of 30 clips/s; a process with fewer by chance has them too before the common end.
    (longest,) = {one["min_duration_ms"] for one in parts}
    assert 18_000 < longest < 18_300
    assert _share(settings, 0, 1).get("min_duration_ms") is None
    assert {one["server_max_async_queries"] for one in parts} == {300}
    assert len({one["schedule_rng_seed"] for one in parts}) == 3


def test_parts_begin_and_are_told_of_by_the_clocks_of_their_machines(tmp_path: Path) -> None:
    """A machine 50 s ahead is told a moment 50 s later, and what it says is 50 s earlier here."""
    from arch_harness.load.logs import Log, Part, SampleTimes
    from arch_harness.load.sending.fleet import Clock, FleetDriver, SenderHandle
    from arch_harness.load.sending.messages import Order
    from arch_harness.load.sending.remote import SenderMachine

    class Actor:
        def __init__(self) -> None:
            self.run = self

        def remote(self, order: Order) -> int:
            self.order = order
            samples = SampleTimes(np.array([8.0]), np.zeros(1, int), np.zeros(1, int), np.zeros(1), np.ones(1))
            self.answer = Part(Log({}, []), samples, np.zeros(1, np.bool_), {}, order.begin), {"log": b"text"}
            return id(self)

    senders = [SenderHandle(Actor(), SenderMachine.unknown(), None, Clock(ahead, 0.001)) for ahead in (0.0, 50.0)]
    compared: list[bool] = []
    fleet: Any = SimpleNamespace(
        senders=senders,
        compare_clocks=lambda: compared.append(True),
        answers=lambda asked, _: [one.actor.answer for one in asked.values()],
    )
    first, second = FleetDriver(fleet).parts(Order("Server", {"server_target_qps": 9.0}, tmp_path, None))
    assert compared == [True]
    assert senders[1].actor.order.begin - senders[0].actor.order.begin == pytest.approx(50)
    assert second.began == pytest.approx(first.began)
    assert second.first == pytest.approx(first.began + 0.008)
    assert (tmp_path / "2" / "log").read_bytes() == b"text"


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
    assert {one.cores for one in report.senders} == {report.machine.cores}
    lasted = [log.settings("effective")["min_duration_ms"] for log in logs]
    assert lasted[0] == lasted[1] > 1000 * 459 / 60
    page = (output / "load.html").read_text()
    assert "2 on " in page
    assert "each with a LoadGen of its own" in page


def test_a_server_that_is_gone_is_one_line_from_several_processes(tmp_path: Path) -> None:
    from arch_harness.load.sending.client import Clips
    from arch_harness.load.sending.fleet import Fleet
    from arch_harness.streaming.wire import Job
    from arch_harness.triton.endpoint import Endpoint

    np.zeros(16000, dtype=np.float32).tofile(tmp_path / "clips.f32")
    clips = Clips(tmp_path / "clips.f32", [16000], 16000, 0)
    gone = [Endpoint("127.0.0.1:9")]
    job = Job("logmel", Path(), 16000, 1.0, 160, 0, 8)

    def refused() -> AbstractContextManager[str]:
        raise UsageError("it cannot be read")

    with Fleet(2, None, []) as fleet:
        with (
            pytest.raises(ArchError, match=r"^the server at 127\.0\.0\.1:9 was lost: "),
            fleet.sending([gone, gone], job, clips, "grpc"),
        ):
            pass
        # A usage error too comes as what it was.
        with pytest.raises(UsageError, match=r"^it cannot be read$"), fleet.null_servers(refused):
            pass


def test_ctrl_c_ends_several_processes_and_leaves_nothing(
    server: LocalServer, demo_dataset: Path, tmp_path: Path
) -> None:
    place = tmp_path / "t"
    place.mkdir()
    # Into the run, which would take ten minutes.
    code, last = interrupted(
        *("ctrl-c-fleet", "this client can send", 3, 60, "load", "--server", server.grpc_url, "--model", "logmel"),
        *("--dataset", f"demo={demo_dataset}", "--slo", "p99=5s", "--rate", "60", "--full", "--workers", "2"),
        *("--output", str(tmp_path / "out")),
        TMPDIR=str(place),
    )
    assert code == 130
    assert last.startswith("interrupted; LoadGen's logs of the runs that ended")
    assert still_running("ctrl-c-fleet") == []
    assert [one.name for one in place.iterdir() if one.name.startswith("arch-")] == []


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
