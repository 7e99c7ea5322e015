"""Load tests of a real Triton with MLPerf's LoadGen, short."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema
import numpy as np
import psutil
import pytest
from arch_bench import read_load_test
from arch_common.errors import ArchError
from support.commands import arch, interrupted, one_line, still_running

if TYPE_CHECKING:
    from arch_harness.load.measure import LoadTarget, LoadTest
    from arch_harness.load.report import LoadReport
    from arch_harness.load.sending.client import Clips
    from arch_serve.server import LocalServer

pytestmark = [pytest.mark.triton, pytest.mark.torch, pytest.mark.slow]


@pytest.fixture(scope="module")
def clips(demo_dataset: Path) -> Iterator[Clips]:
    from arch_harness.datasets.registry import open_dataset
    from arch_harness.load.sending.client import decoded

    with decoded(open_dataset(f"demo={demo_dataset}", Path()), 16000, 24, 0, print) as found:
        yield found


@pytest.fixture(scope="module")
def scene(
    server: LocalServer, clips: Clips, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[LoadTest, LoadTarget]]:
    from arch_harness.load.asked import LoadRequest, Slo
    from arch_harness.load.measure import LoadTarget, LoadTest, job_of
    from arch_harness.load.sending.client import Driver
    from arch_harness.triton.endpoint import Endpoint
    from arch_harness.triton.server import Server

    asked = LoadRequest(slo=Slo(0.99, 5000), rates=(40.0,), min_duration_s=1, min_queries=459)
    with ExitStack() as stack:
        endpoint = Endpoint(server.grpc_url)
        running = stack.enter_context(Server(endpoint))
        facts = running.models(["logmel"])[0]
        driver = stack.enter_context(Driver([endpoint], job_of(facts), clips))
        test = LoadTest(asked, clips, tmp_path_factory.mktemp("load"), lambda _: None)
        yield test, LoadTarget(driver, [running], "logmel", 32)


def test_a_run_is_judged_by_loadgen_and_told_by_its_log(scene: tuple[LoadTest, LoadTarget]) -> None:
    from arch_harness.load.logs import read_log

    test, target = scene
    run = test.at_rate(target, 100.0, "curve")
    log = read_log(test.folder / run.log)
    assert run.queries == log.values["result_query_count"] == log.values["generated_query_count"]
    assert run.queries >= 459
    assert log.values["result_validity"] == "VALID"
    assert run.valid, run.broken
    assert run.failed == 0
    # Our own figures of every sample and LoadGen's summary are of the same latencies.
    summary = dict(
        line.split(":")
        for line in (test.folder / run.log / "mlperf_log_summary.txt").read_text().splitlines()
        if ": " in line
    )
    lines = {name.strip(): value.strip() for name, value in summary.items()}
    assert run.p99_ms == pytest.approx(int(lines["99.00 percentile latency (ns)"]) / 1e6)
    assert run.p50_ms == pytest.approx(int(lines["50.00 percentile latency (ns)"]) / 1e6)
    # LoadRequest for and used.
    assert run.requested["server_target_qps"] == run.effective["target_qps"] == 100
    assert run.effective["target_latency_ns"] == 5_000_000_000
    # Triton counted what was sent.
    assert run.server is not None
    assert run.server.requests == run.queries
    assert sum(size * count for size, count in run.server.batch_sizes.items()) == run.queries
    assert run.goodput == pytest.approx(run.clips_per_s)


def test_a_stall_shows_in_the_open_loop_and_not_in_the_median_of_a_closed_one(
    scene: tuple[LoadTest, LoadTarget], server: LocalServer
) -> None:
    test, target = scene
    assert server._process is not None
    # Not its stubs, which it looks after: one that does not answer would be given up. Nothing reaches them meanwhile.
    stopped = psutil.Process(server._process.pid)

    def stall() -> None:
        time.sleep(1.0)
        stopped.suspend()
        time.sleep(2.0)
        stopped.resume()

    def during(run: object) -> object:
        thread = threading.Thread(target=stall)
        thread.start()
        try:
            return run()  # type: ignore[operator]
        finally:
            thread.join()

    closed_settings = {"min_duration_ms": 4000, "min_query_count": 5}
    closed = during(lambda: test.run_once(target, "single-stream", closed_settings, None, "measured"))
    opened = during(lambda: test.at_rate(target, 100.0, "curve"))
    # Arrivals go on while it stands still: those of two seconds wait, and nearly two seconds at worst.
    assert opened.p99_ms > 1500  # type: ignore[attr-defined]
    assert opened.p90_ms > 500  # type: ignore[attr-defined]
    # The closed loop sends nothing meanwhile, so that one clip of hundreds shows it.
    assert closed.p50_ms < 200  # type: ignore[attr-defined]
    assert closed.p99_ms < 1000  # type: ignore[attr-defined]
    assert closed.seconds > 4  # type: ignore[attr-defined]


def test_audio_in_shared_memory_is_the_same_audio(clips: Clips, server: LocalServer, tmp_path: Path) -> None:
    """Each clip's embedding is that of its own samples, over both transports, and nothing stays behind."""
    from arch_harness.load.sending import driver
    from arch_harness.load.sending.client import Driver
    from arch_harness.load.sending.messages import Order, Setup
    from arch_harness.streaming.buffers import FOLDER, PREFIX
    from arch_harness.streaming.shared_memory import SharedClips
    from arch_harness.streaming.wire import INFER, Job, read_answer
    from arch_harness.triton.endpoint import Endpoint

    endpoint = Endpoint(server.grpc_url)
    job = Job("logmel", Path(), 16000, 1.0, 160, 0, 8)
    before = set(FOLDER.glob(f"{PREFIX}*"))
    lengths = list(clips.lengths)
    lengths[0] -= 1  # an odd one, behind which the next begins at a multiple of 8 bytes all the same
    samples = np.fromfile(clips.file, dtype=np.float32)
    np.delete(samples, 0).tofile(tmp_path / "clips.f32")
    with SharedClips([endpoint], tmp_path / "clips.f32", lengths) as places, endpoint.channel() as channel:
        assert set(FOLDER.glob(f"{PREFIX}*")) != before
        call = channel.unary_unary(INFER)
        answers = []
        for shared in (None, places):
            bodies = driver._bodies(Setup([endpoint], job, tmp_path / "clips.f32", lengths, shared))
            answers.append([read_answer(job, call(body, timeout=10)) for body in bodies])
            assert max(map(len, bodies)) < 1000 or shared is None
    for one, other in zip(*answers, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(answers[0][0], answers[0][1])
    with Driver([endpoint], job, clips, "shared-memory") as sending:
        settings: dict[str, float | int | bool] = {"min_duration_ms": 200, "min_query_count": 10}
        assert sending.run(Order("SingleStream", settings, tmp_path / "log", 1)).failed == []
    assert set(FOLDER.glob(f"{PREFIX}*")) == before


def test_the_round_trip_is_that_of_an_empty_call(server: LocalServer) -> None:
    from arch_harness.triton.endpoint import Endpoint
    from arch_harness.triton.server import Server

    with Server(Endpoint(server.grpc_url)) as running:
        assert 0.01 < running.round_trip_ms() < 1000


def test_offline_and_multi_stream(scene: tuple[LoadTest, LoadTarget]) -> None:
    test, target = scene
    short = {"offline_expected_qps": 100, "min_duration_ms": 500, "min_query_count": 1}
    offline = test.run_once(target, "offline", short, None, "measured")
    assert offline.queries == 1
    assert offline.clips == offline.effective["samples_per_query"] == 55  # 1.1 times what the rate and duration make
    settings = {"multi_stream_samples_per_query": 4, "min_duration_ms": 300, "min_query_count": 10}
    multi = test.run_once(target, "multi-stream", settings, None, "measured")
    assert multi.clips == 4 * multi.queries
    assert not multi.valid
    assert [one.rule for one in multi.broken] == ["early stopping"]
    assert multi.broken[0].advice.endswith("--min-queries 662 is enough if none more is late")


def test_loadgen_is_told_the_percentile_that_is_promised(
    scene: tuple[LoadTest, LoadTarget], clips: Clips, tmp_path: Path
) -> None:
    """Or it judges p99 of the queries that are enough for p90."""
    from arch_harness.load.asked import LoadRequest, Slo, default_queries
    from arch_harness.load.measure import LoadTest

    for scenario in ("multi-stream", "single-stream"):
        slo = Slo(0.8, 5000)
        queries = default_queries(scenario, slo)
        asked = LoadRequest(scenario, slo, min_duration_s=0.1, min_queries=queries)
        test = LoadTest(asked, clips, tmp_path, print)
        test._once(scene[1], 5.0)
        (run,) = test._runs
        assert run.effective["target_latency_percentile"] == 0.8
        assert run.valid, run.broken
        assert run.kept


def test_clips_that_fail_count_as_late_and_make_a_run_invalid() -> None:
    from arch_harness.load.logs import SampleTimes, percentile

    samples = SampleTimes(np.arange(4.0), np.arange(4), np.zeros(4, int), np.zeros(4), np.array([5.0, 6.0, 7.0, 8.0]))
    latencies = samples.latencies(np.array([False, True, False, False]))
    assert latencies.tolist() == [5.0, 7.0, 8.0, np.inf]
    assert percentile(latencies, 0.5) == 8.0
    assert percentile(latencies, 0.99) == np.inf


def test_a_query_of_several_clips_lasts_until_its_last_answer() -> None:
    from arch_harness.load.logs import SampleTimes

    samples = SampleTimes(
        np.zeros(4), np.array([0, 0, 1, 1]), np.zeros(4, int), np.zeros(4), np.array([5.0, 9.0, 7.0, 3.0])
    )
    assert samples.latencies(np.zeros(4, np.bool_)).tolist() == [7.0, 9.0]


def test_a_server_that_is_gone_is_one_line(clips: Clips, tmp_path: Path) -> None:
    from arch_harness.load.sending.client import Driver
    from arch_harness.load.sending.messages import Order
    from arch_harness.streaming.wire import Job
    from arch_harness.triton.endpoint import Endpoint

    job = Job("logmel", Path(), 16000, 1.0, 160, 0, 8)
    with Driver([Endpoint("127.0.0.1:9")], job, clips) as driver:
        with pytest.raises(ArchError, match=r"the server at 127\.0\.0\.1:9 was lost: .*connect"):
            driver.run(Order("SingleStream", {"min_duration_ms": 100}, tmp_path / "log", 1))
        process = driver._process
    assert process is not None
    assert process.poll() is not None


@pytest.fixture(scope="module")
def tested(
    server: LocalServer, demo_dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, LoadReport, str]:
    """The command itself, with the client's ceiling: a curve of two rates, one of which no client here can send."""
    from arch_harness.load.report import LoadReport

    output = tmp_path_factory.mktemp("command") / "out"
    done = arch(
        *("load", "--server", server.grpc_url, "--model", "logmel", "--model", "tiny-hubert"),
        *("--dataset", f"demo={demo_dataset}", "--slo", "p99=5s", "--rate", "120:100000:2"),
        *("--min-duration", "1", "--clips", "24", "--transport", "shared-memory", "--output", str(output)),
    )
    assert done.returncode == 0, done.stderr
    return output, LoadReport.from_json((output / "load.json").read_bytes()), done.stdout + done.stderr


def test_the_command_writes_what_it_says(tested: tuple[Path, LoadReport, str]) -> None:
    output, report, said = tested
    assert [one.model.name for one in report.models] == ["logmel", "tiny-hubert"]
    page = (output / "load.html").read_text()
    for one in report.models:
        ceiling = one.ceiling.clips_per_s
        assert ceiling is not None
        assert 171 < ceiling < 140_000  # 120 is below 70 % of it, 100,000 above
        assert one.refused == [100_000]
        (run,) = one.runs
        assert run.rate == pytest.approx(120)
        assert f"{one.model.name} keeps p99 <= 5000 ms up to 120 clips/s" in " ".join(said.split())
        assert (output / run.log / "mlperf_log_detail.txt").is_file()
    assert "seconds of audio a second" in page
    assert page.count("<svg") == 6
    assert "read by the servers in shared memory" in page
    assert report.transport == "shared-memory"
    assert report.round_trips == {}  # the server is on this machine
    schema = json.loads(files("arch_harness.load").joinpath("load.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator(schema).validate(json.loads((output / "load.json").read_bytes()))
    assert read_load_test(output).report == report
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert json.loads((output / "load.json").read_bytes())["slo"] == {"share": 0.99, "milliseconds": 5000.0}


def test_ctrl_c_ends_it_and_what_it_started(server: LocalServer, demo_dataset: Path, tmp_path: Path) -> None:
    code, last = interrupted(
        *("ctrl-c-load", "this client can send", 2, 20, "load", "--server", server.grpc_url, "--model", "logmel"),
        *("--dataset", f"demo={demo_dataset}", "--scenario", "single-stream", "--full"),
        *("--output", str(tmp_path / "out")),
    )
    assert code == 130
    assert last == f"interrupted; LoadGen's logs of the runs that ended are in {tmp_path / 'out'}"
    assert still_running("ctrl-c-load") == []


def test_a_report_that_has_no_place_is_refused_before_anything_is_started(demo_dataset: Path, tmp_path: Path) -> None:
    from arch_harness.bench.resuming.output import held_output

    def refused(output: Path) -> str:
        done = arch(
            *("load", "--server", "127.0.0.1:9", "--dataset", f"demo={demo_dataset}", "--slo", "p99=1s"),
            *("--output", str(output)),
        )
        assert done.returncode == 2
        return one_line(done)

    (tmp_path / "README.md").write_text("no folder")
    assert refused(tmp_path / "README.md").endswith("README.md is a file, and must be a folder")
    assert refused(tmp_path / "README.md" / "out").startswith("arch: --output ")
    with held_output(tmp_path / "out"):
        assert "is being written by" in refused(tmp_path / "out")


def test_ctrl_c_costs_no_run_that_had_ended(server: LocalServer, demo_dataset: Path, tmp_path: Path) -> None:
    code, last = interrupted(
        *("ctrl-c-kept", ": p99 ", 0.5, 20, "load", "--server", server.grpc_url, "--model", "logmel"),
        *("--dataset", f"demo={demo_dataset}", "--slo", "p99=5s", "--rate", "50:60:2", "--min-queries", "20"),
        *("--min-duration", "4", "--clips", "8", "--output", str(tmp_path / "out")),
    )
    assert code == 130
    assert last == f"interrupted; LoadGen's logs of the runs that ended are in {tmp_path / 'out'}"
    (one,) = read_load_test(tmp_path / "out").report.models
    assert one.unfinished == "interrupted"
    assert [run.rate for run in one.runs] == [50]


def test_options_without_a_use_are_one_line(demo_dataset: Path) -> None:
    for options, line in (
        (("--full", "--min-duration", "10", "--slo", "p99=1s"), "--full and --min-duration: choose one"),
        (("--hop", "1", "--scenario", "offline"), "--hop is of the scenario server: in offline no streams are counted"),
        (("--repeats", "3", "--slo", "p99=1s", "--rate", "5"), "--repeats is of the search for the highest rate: "),
    ):
        done = arch("load", "--dataset", f"demo={demo_dataset}", *options)
        assert done.returncode == 2
        assert one_line(done).startswith(f"arch: {line}")


def test_usage() -> None:
    done = arch("load", "--dataset", "demo")
    assert (done.returncode, one_line(done)) == (
        2,
        "arch: --slo is missing: the scenario server holds a rate to a promise, such as p99=200ms",
    )


def test_a_file_of_another_version_is_one_line(tested: tuple[Path, LoadReport, str], tmp_path: Path) -> None:
    from arch_harness.load.report import LOAD_SCHEMA_VERSION, read_load

    whole = json.loads((tested[0] / "load.json").read_bytes())
    (tmp_path / "load.json").write_text(json.dumps(whole | {"schema_version": 9}))
    with pytest.raises(ArchError) as caught:
        read_load(tmp_path / "load.json")
    assert str(caught.value) == (
        f"{tmp_path}/load.json follows version 9 of the schema, and this arch reads version {LOAD_SCHEMA_VERSION}: "
        "test the load again, or read it with the arch that wrote it"
    )
    (tmp_path / "load.json").write_text(json.dumps(whole | {"colour": "red"}))
    with pytest.raises(
        ArchError, match=rf"is no file of a load test of schema version {LOAD_SCHEMA_VERSION}: colour: "
    ):
        read_load(tmp_path / "load.json")
    with pytest.raises(ArchError, match=r"cannot read .*: No such file"):
        read_load_test(tmp_path / "none")


def test_shared_memory_is_for_servers_on_this_machine(demo_dataset: Path) -> None:
    done = arch(
        *("load", "--server", "192.0.2.1:8001", "--dataset", f"demo={demo_dataset}", "--slo", "p99=1s"),
        *("--transport", "shared-memory"),
    )
    assert done.returncode == 2
    assert one_line(done).startswith(
        "arch: --transport shared-memory is for servers on this machine, and 192.0.2.1:8001 "
    )


def test_the_network_stands_beside_latencies(tested: tuple[Path, LoadReport, str]) -> None:
    from arch_harness.load.formats import render_page

    away = tested[1].model_copy(update={"round_trips": {"gpu1:8001": 1.25}})
    page = render_page(away)
    assert page.count("etwork round trip 1.25 ms to gpu1:8001: part of each latency") == 3
