"""What a load test writes and says, whatever becomes of it: by a law in the place of servers, see `support.loads`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import pytest
from arch_bench.load_tests.testing import LoadTested, read_load_test
from arch_common.errors import ArchError
from arch_harness.load.asked import LoadRequest, Slo
from arch_harness.load.formats import render_page
from arch_harness.load.report import Ceiling, LoadReport, ModelLoad
from arch_harness.load.sentences import answers, method, network, warnings
from support.loads import FREE, QUERIES, Law, OwnServer, clips_of, facts_of, load_of, reporter_of

SEARCH = LoadRequest(slo=Slo(0.99, 200), repeats=1)
LOST = "the server at gpu1:8001 was lost: connection refused"


def lost(*_: object) -> NoReturn:
    raise ArchError(LOST)


def at(number: int, what: BaseException) -> Any:
    """Raises that in a run."""

    def end(run: int) -> None:
        if run >= number:
            raise what

    return end


def told(asked: LoadRequest, law: Law, folder: Path, ceiling: Ceiling = FREE) -> LoadReport:
    """The report of one model."""
    reporter = reporter_of(asked, folder)
    load_of(law, asked).model(facts_of("a"), [], [], ceiling, reporter.keep)
    return reporter.report


@pytest.mark.parametrize(
    ("what", "why"),
    [(ArchError(LOST), LOST), (KeyboardInterrupt(), "interrupted"), (ValueError("no\nnumber"), "ValueError: no")],
)
def test_a_failure_costs_no_run_and_claims_no_search(tmp_path: Path, what: BaseException, why: str) -> None:
    reporter = reporter_of(SEARCH, tmp_path, ("a", "b", "c"))
    load_of(Law(), SEARCH).model(facts_of("a"), [], [], FREE, reporter.keep)
    (first,) = read_load_test(tmp_path).report.models  # written before the next one begins
    assert first.sustained is not None
    with pytest.raises(type(what)):
        load_of(Law(end=at(6, what)), SEARCH).model(facts_of("b"), [], [], FREE, reporter.keep)
    report = read_load_test(tmp_path).report
    assert report.models[0] == first
    second = report.models[1]
    assert (second.unfinished, second.sustained) == (why, None)
    assert [run.rate for run in second.runs] == pytest.approx([12.5, 25, 50], rel=0.01)  # behind two that warm up
    assert answers(report)[1] == (
        f"b was not measured to the end: {why}. Of the 3 runs that had ended the highest that kept p99 <= 200 ms is at "
        "50.0 clips/s, which is no answer yet."
    )
    assert "c was not measured: the test ended before" in warnings(report)
    assert "which is no answer yet" in (tmp_path / "load.html").read_text()


def test_a_model_without_a_run_is_named_beside_those_with_some(tmp_path: Path) -> None:
    reporter = reporter_of(SEARCH, tmp_path, ("b", "a"))
    with pytest.raises(ArchError, match=r"^the server at gpu1"):
        load_of(Law(end=lost), SEARCH).model(facts_of("b"), [], [], FREE, reporter.keep)
    assert not reporter.written
    assert list(tmp_path.iterdir()) == []
    load_of(Law(), SEARCH).model(facts_of("a"), [], [], FREE, reporter.keep)
    assert reporter.written
    assert answers(read_load_test(tmp_path).report)[0] == f"b was not measured: {LOST}."


def test_what_fails_behind_the_last_run_costs_no_answer(tmp_path: Path) -> None:
    reporter = reporter_of(SEARCH, tmp_path)
    with pytest.raises(ArchError, match=r"^the server at gpu1"):
        load_of(Law(shut=lost), SEARCH).model(facts_of("a"), [], [], FREE, reporter.keep)
    assert answers(read_load_test(tmp_path).report)[0].startswith("a sustains 98.5 clips/s (")


def test_a_report_that_cannot_be_written_hides_no_failure() -> None:
    def keep(_: ModelLoad) -> NoReturn:
        raise ArchError("cannot write load.json: No space left on device")

    notes: list[str] = []
    with pytest.raises(ArchError, match=r"^the server at gpu1"):
        load_of(Law(end=at(4, ArchError(LOST))), SEARCH, notes=notes).model(facts_of("a"), [], [], FREE, keep)
    assert notes[-1] == "warning: cannot write load.json: No space left on device"


def test_servers_are_asked_before_and_a_round_trip_that_fails_is_no_failure(tmp_path: Path) -> None:
    server = OwnServer("gpu1:8001", ArchError(LOST))
    reporter = reporter_of(SEARCH, tmp_path, ("a", "b"), server)
    for name in ("a", "b"):
        load_of(Law(), SEARCH).model(facts_of(name), [], [], FREE, reporter.keep)
    assert server.asked == 1
    report = read_load_test(tmp_path).report
    assert report.round_trips == {"gpu1:8001": None}
    assert network(report).startswith("network round trip not known to gpu1:8001: ")


def test_each_model_has_the_clips_of_its_own_sample_rate(tmp_path: Path) -> None:
    asked = LoadRequest(slo=Slo(0.99, 200), rates=(50.0,))
    reporter = reporter_of(asked, tmp_path, ("low", "high"))
    for name, rate, seconds in (("low", 16000, 2.0), ("high", 32000, 1.0)):
        load_of(Law(), asked, clips_of(seconds, rate)).model(facts_of(name, rate), [], [], FREE, reporter.keep)
    report = read_load_test(tmp_path).report
    low, high = answers(report)
    assert "100 seconds of audio a second, 100 streams of 2.00 s clips" in low
    assert "50.0 seconds of audio a second, 50 streams of 1.00 s clips" in high
    terms = dict(method(report))
    assert "2.00 s in the mean" in terms["Clips, low"]
    assert "1.00 s in the mean" in terms["Clips, high"]


def test_a_client_that_is_late_near_the_rate_is_in_the_answer(tmp_path: Path) -> None:
    report = told(SEARCH, Law(late_ms=30), tmp_path)
    (answer,) = answers(report)
    assert answer.endswith(" Near that rate this client sent late, so that the servers may carry more.")
    (line,) = warnings(report)
    assert line.startswith("a: in ")
    assert line.endswith(
        "runs near 100 clips/s this client sent late, at worst by 30.0 ms (p99), which counts against the servers"
    )
    assert line in render_page(report)
    assert "sent late" not in answers(told(SEARCH, Law(late_ms=10), tmp_path))[0]


def test_clips_that_fail_near_the_rate_are_in_the_answer(tmp_path: Path) -> None:
    report = told(SEARCH, Law(failed=5), tmp_path)
    assert answers(report)[0].endswith(" Near that rate clips failed.")
    (line,) = warnings(report)
    assert line.endswith("clips failed, which count as late; most with: full")


def test_a_rate_that_nothing_keeps_as_the_client_is_late(tmp_path: Path) -> None:
    report = told(SEARCH, Law(capacity=0, late_ms=900), tmp_path)
    assert report.models[0].sustained is not None
    assert report.models[0].sustained.rate == 0
    assert answers(report)[0].endswith(" Near that rate this client sent late, so that the servers may carry more.")


@pytest.mark.parametrize("scenario", ["single-stream", "multi-stream"])
def test_the_streams_are_held_to_the_promise(scenario: Any, tmp_path: Path) -> None:
    asked, law = LoadRequest(scenario, Slo(0.9, 200)), Law()
    report = told(asked, law, tmp_path)
    name = scenario.replace("-", "_")
    assert law.orders[-1].settings[f"{name}_target_latency_percentile"] == 0.9
    assert LoadTested(tmp_path, report).failure == ""
    assert answers(report)[0].endswith(", p90 10.0 ms, and keeps p90 <= 200 ms.")
    report = told(asked, Law(capacity=0), tmp_path)
    (run,) = report.models[0].runs
    assert (run.kept, run.valid) == (False, False)
    assert [one.rule for one in run.broken] == ["p90 <= 200 ms"]
    assert answers(report)[0].endswith(", p90 1,000 ms, and does not keep p90 <= 200 ms.")
    assert warnings(report) == [
        f"a is INVALID: p90 <= 200 ms: {QUERIES:,} of {QUERIES:,} queries were late: promise less, or answer faster"
    ]
    page = tmp_path / "load.html"
    assert LoadTested(tmp_path, report).failure == f"no run of a is VALID: {page} names the broken rules"
    free = told(LoadRequest(scenario), Law(capacity=0), tmp_path)
    assert answers(free)[0].endswith(" 1,000 ms.")
    assert LoadTested(tmp_path, free).failure == ""


def test_rates_above_the_clients_own_are_no_broken_promise(tmp_path: Path) -> None:
    asked = LoadRequest(slo=Slo(0.99, 200), rates=(5000.0, 6000.0))
    reporter = reporter_of(asked, tmp_path, ("a",))
    ceiling = Ceiling(clips_per_s=2000, where="here", allowed=0.7)
    load_of(Law(), asked).model(facts_of("a"), [], [], ceiling, reporter.keep)
    report = read_load_test(tmp_path).report
    assert answers(report) == [
        "a was measured at no rate: 5,000, 6,000 clips/s are above 70.0 % of the 2,000 clips/s that this client sends."
    ]
    assert LoadTested(tmp_path, report).failure == (
        "no rate of a was measured: all are above what this client may send"
    )
