"""What the report says of where the time goes, of faults, of several servers, and of embeddings from the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arch_harness.report import write_report
from arch_harness.report.text.overview import build_overview, results_table, run_notes, summary_lines
from arch_harness.results.measurement import Measurement
from arch_harness.results.run import Run
from support.measurements import load_point, measurement
from support.pages import Page, terminal
from support.runs import run_of

if TYPE_CHECKING:
    from pathlib import Path


def with_measurements(*changes: dict[str, Any] | None) -> Run:
    """A run of one dataset and as many models as there are changes; None leaves a model without a measurement."""
    run = run_of(tuple("abcdef"[: len(changes)]), ("d",))
    for result, change in zip(run.results, changes, strict=True):
        if change is None:
            result.measurement, result.stored = None, result.clips
        else:
            assert result.measurement is not None
            result.measurement = Measurement.model_validate(result.measurement.model_dump() | change)
    return run


def test_embeddings_from_the_store_have_a_score_and_no_speed(tmp_path: Path) -> None:
    run = with_measurements(None, {})
    rows = results_table(run).rows
    assert rows[0][3] == "91.3"
    assert rows[0][11:] == ("–",) * 9
    assert summary_lines(run) == [
        "d: a has the highest score, 91.3% (chance 2.0%), with embeddings from the store; b is the fastest, at 25.1 "
        "clips/s with a score of 87.6%."
    ]
    assert any(note.startswith("d × a: every embedding was read from the store") for note in run_notes(run))
    write_report(run, tmp_path)
    drawn = (tmp_path / "plots/score-d.svg").read_text()
    assert ">b ★<" in drawn
    assert ">a<" not in drawn
    assert "d × a" not in terminal(run, 120)


def test_a_run_that_only_read_the_store_has_no_timing(tmp_path: Path) -> None:
    run = with_measurements(None, None)
    assert build_overview(run).timing is None
    assert "a has the highest score, 91.3% (chance 2.0%), with embeddings from the store." in summary_lines(run)[0]
    write_report(run, tmp_path)
    for file in ("report.md", "report.html"):
        assert "Where the time goes" not in (tmp_path / file).read_text()
    of_speed = ("score-", "latency-", "batch-sizes-", "stages-", "timeline-")
    assert not [path for path in (tmp_path / "plots").iterdir() if path.name.startswith(of_speed)]


def test_the_fastest_is_so_only_of_those_measured() -> None:
    run = with_measurements({}, None)
    assert summary_lines(run)[0].endswith("and is the fastest of those measured, at 17.3 clips/s.")


def test_a_part_from_the_store_is_told() -> None:
    run = with_measurements({"clips": 766})
    run.results[0].stored = 1234
    assert run_notes(run)[-1] == (
        "d × a: 1,234 of 2,000 embeddings were read from the store. Throughput and latency are of the 766 that this "
        "run computed."
    )


def test_faults_are_shown_where_there_are_any(tmp_path: Path) -> None:
    run = with_measurements({"faults": {"retries": 12, "queue_full": 1200, "workers_lost": 1}}, {})
    section = build_overview(run).timing
    assert section is not None
    assert [one.title for one in section.more] == ["Faults"]
    assert section.more[0].table.rows == [("d", "a", "12", "1,200", "0", "0", "0", "0", "0", "0", "0", "1")]
    write_report(run, tmp_path)
    assert "1,200" in Page((tmp_path / "report.html").read_text()).cells
    assert "| d | a | 12 | 1,200 |" in (tmp_path / "report.md").read_text()


def test_several_servers_are_told_apart(tmp_path: Path) -> None:
    times = measurement(10.0, 200.0, 2000)["server"]
    servers = [
        {"address": "one:8001", "clips": 1500, "times": times, "dropped": 0},
        {"address": "two:8001", "clips": 500, "times": None, "dropped": 2},
    ]
    lost = measurement(10.0, 200.0, 2000)["stages"] | dict.fromkeys(("network_ms", "queue_ms", "compute_ms"))
    found = {"servers": servers, "server": None, "stages": lost, "concurrency": 24, "concurrency_found": True}
    run = with_measurements(found)
    run.settings.concurrency = None
    run.servers = [*run.servers, run.servers[0].model_copy(update={"address": "two:8001", "same_machine": False})]
    built = build_overview(run)
    assert built.timing is not None
    assert built.timing.more[0].title == "Servers"
    assert built.timing.more[0].table.rows == [
        ("d", "a", "one:8001", "1,500", "75.0", "46.0", "122", "6.10", "0"),
        ("d", "a", "two:8001", "500", "25.0", "–", "–", "–", "2"),
    ]
    method = dict(built.method)
    assert method["Servers"].count("triton 2.51.0 at ") == 2
    assert method["Client and server"].startswith("At different addresses")
    assert method["Requests in flight"] == "of one clip each, raised until the throughput stopped growing: 24"
    assert any("its statistics are lost" in note for note in built.notes)
    row = dict(zip((column.title for column in built.timing.stages.columns), built.timing.stages.rows[0], strict=True))
    assert row["In flight"] == "24, found"
    assert row["Server busy"] == row["Batch sizes"] == row["Network"] == row["Queue"] == row["Compute"] == "–"
    write_report(run, tmp_path)
    assert "not told apart" in (tmp_path / "plots/stages-d.svg").read_text()


def test_the_figures_are_those_of_the_measurement() -> None:
    built = build_overview(with_measurements({})).timing
    assert built is not None
    # 17.31 clips/s at 212.7 ms, of which the server has 0.84 and the network 0.16, fill 3.68 of 16 places.
    assert built.stages.rows[0][2:13] == (
        *("3.10", "1.90", "85.1", "34.0", "48.9", "130", "6.10, mostly 8", "16", "23.0", "1.44", "94.0"),
    )
    assert built.sentences == ["d × a: The server computes 94 % of the time: the harness is not the limit."]


def test_latencies_are_of_the_first_run_that_was_long_enough() -> None:
    again = {"started": "2026-03-01T12:00:00Z", "clips_per_s": 20.0, "steadiness": "steady"}
    again["loads"] = [load_point("paced", 33.0, 150, 14.0, rate=14.0, late_ms=0.0)]
    run = with_measurements({"steadiness": "too short", "repeats": [again]})
    (section,) = [one for one in build_overview(run).speed if one.title == "Latency by load"]
    assert [row[2:9] for row in section.table.rows] == [("70 %", "–", "14.0", "150", "14.0", "33.0", "43.2")]
