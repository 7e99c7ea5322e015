"""What the report says of energy, memory and price, and of their absence."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from arch_harness.report import TerminalSummary, write_report
from arch_harness.report.choice.choose import choose
from arch_harness.report.choice.verdict import choice_table, details
from arch_harness.report.text.overview import build_overview
from arch_harness.report.text.tables import Section, Table
from arch_harness.results.measurement import Consumption
from arch_harness.results.rows import rows
from arch_harness.results.run import Footprint, Run
from rich.console import Console
from support.measurements import NO_POWER, consumption
from support.pages import Page, markdown_rows, terminal
from support.runs import DATASETS, MODELS, origin, run_of

WHY_NOT = "not told: GPU: the servers' metrics name none; CPU: there is no /sys/class/powercap"
LOST: dict[str, Any] = {"power": [], "untold": ["GPU, by Triton: its counter began anew"], "gpu_memory_mib": 2048.0}


def run_with(*taken: dict[str, Any] | None, datasets: tuple[str, ...] = DATASETS[:1]) -> Run:
    """A run of as many models as are given what they took, the same on each dataset."""
    run = run_of(MODELS[: len(taken)], datasets)
    for result in run.results:
        found = taken[MODELS.index(result.model)]
        assert result.measurement is not None
        result.measurement.consumption = None if found is None else Consumption.model_validate(found)
    run.footprints = [Footprint(model=MODELS[0], memory_mib=700.0)]
    return Run.model_validate(run.model_dump())


def section_of(run: Run) -> Section:
    (found,) = [one for one in build_overview(run).speed if one.title == "Energy, memory and price"]
    return found


def column(table: Table, title: str) -> list[str]:
    place = [one.title for one in table.columns].index(title)
    return [row[place] for row in table.rows]


def test_energy_stands_where_it_is_told_and_why_where_it_is_not(tmp_path: Path) -> None:
    run = run_with(consumption(), consumption(320.0), LOST)
    table = section_of(run).table
    # (350 - 120) W at 17.31 clips/s, (320 - 120) W at 25.1 clips/s.
    assert column(table, "Energy per clip") == ["13.3", "7.97", "not told"]
    assert column(table, "Power") == ["350", "320", "not told"]
    assert column(table, "Idle power") == ["120", "120", "not told"]
    assert column(table, "Peak GPU memory") == ["3,073", "3,073", "2,048"]
    assert column(table, "Server memory") == ["812", "812", "not told"]
    assert column(table, "Peak memory") == ["700", "not told", "not told"]
    told = "GPU, by Triton (not told: CPU: a server is on another machine)"
    assert column(table, "Energy of") == [told, told, "not told: GPU, by Triton: its counter began anew"]
    first = choice_table(choose(run))
    assert column(first, "Energy per clip") == ["13.3", "7.97", "not told"]
    assert "A clip takes 13.3 J beyond idle: GPU, by Triton." in details(choose(run))
    assert "less that of the same hardware with the models loaded and nothing in flight" in section_of(run).text

    write_report(run, tmp_path)
    page = Page((tmp_path / "report.html").read_text())
    markdown = markdown_rows((tmp_path / "report.md").read_text())
    for row in table.rows:
        assert row in markdown
        assert all(cell in page.cells for cell in row)
        assert " ".join(row) in [" ".join(line.split()) for line in terminal(run, 300).splitlines()]
    written = list(csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text())))
    assert [one["joules_per_clip"] == "" for one in written] == [False, False, False, False, True, True]
    assert float(written[0]["joules_per_clip"]) == pytest.approx(230 / 17.31)
    assert written[0]["energy_source"] == told


def test_without_any_power_the_first_table_is_as_narrow_as_ever_and_the_section_says_why(tmp_path: Path) -> None:
    run = run_with(NO_POWER, NO_POWER)
    assert "Energy per clip" not in [one.title for one in choice_table(choose(run)).columns]
    found = section_of(run)
    assert column(found.table, "Energy per clip") == ["not told", "not told"]
    assert column(found.table, "Energy of") == [WHY_NOT, WHY_NOT]
    assert f"No energy is told, since no power could be read. {WHY_NOT.removeprefix('not told: ')}." in found.text
    assert [row["joules_per_clip"] for row in rows(run)] == [None] * 4
    assert rows(run)[0]["energy_source"] == WHY_NOT
    write_report(run, tmp_path)
    assert WHY_NOT in Page((tmp_path / "report.html").read_text()).cells


def test_results_of_an_earlier_arch_say_so() -> None:
    assert column(section_of(run_with(None)).table, "Energy of") == ["not told: measured by an earlier arch"]


def test_energies_of_different_hardware_do_not_stand_side_by_side() -> None:
    run = run_with(consumption(), consumption(source="CPU, by RAPL"))
    assert "Energy per clip" not in [one.title for one in choice_table(choose(run)).columns]
    assert column(section_of(run).table, "Energy per clip") == ["13.3", "9.16"]
    assert "with the client's decoding and sending" in section_of(run).text
    assert not any("beyond idle" in line for line in details(choose(run)))


def test_over_datasets_it_is_the_geometric_mean_and_a_speed_taken_over_is_marked() -> None:
    run = run_with(consumption(), consumption(320.0), datasets=DATASETS)
    first, second = (230 / 17.31, 230 / (17.31 * 1.45))
    assert choose(run).row(MODELS[0]).joules_per_clip == pytest.approx((first * second) ** 0.5)
    run.results[0].carried = origin()
    assert column(section_of(run).table, "Energy per clip")[0] == "13.3†"
    assert column(choice_table(choose(run)), "Energy per clip")[0].endswith("†")
    # What was measured on another machine tells nothing of this one.
    run.results[0].carried = origin("another processor")
    assert choose(run).row(MODELS[0]).joules_per_clip is None


def test_of_several_runs_it_is_the_mean_with_its_interval() -> None:
    run = run_with(consumption())
    measured = run.results[0].measurement
    assert measured is not None
    document = measured.model_dump()
    again = {name: document[name] for name in ("clips_per_s", "steadiness", "loads")}
    again |= {"started": "2026-03-01T12:00:00Z", "consumption": consumption(370.0)}
    run.results[0].measurement = type(measured).model_validate(document | {"repeats": [again]})
    found = section_of(run)
    # 350 and 370 W: Student's t with one degree of freedom is 63.66 at 99 %, the standard error 10.
    assert column(found.table, "Power") == ["360 ± 637"]
    assert column(found.table, "Idle power") == ["120"]
    assert column(found.table, "Energy per clip") == ["13.9 ± 36.8"]
    assert "± is half of the 99 % interval" in found.text


def test_a_price_is_of_clips_and_of_audio_everywhere(tmp_path: Path) -> None:
    run = run_with(NO_POWER, NO_POWER)
    run.settings.price = 2.49
    million, hours = 2.49 * 1e6 / (3600 * 17.31), 2.49 * 1000 / (5 * 17.31)
    shown = [f"{hours:.1f}", f"{million:.1f}"]
    for table in (choice_table(choose(run)), section_of(run).table):
        titles = [one.title for one in table.columns]
        places = [titles.index("Price per 1,000 h"), titles.index("Price per 1M clips")]
        assert [table.rows[0][place] for place in places] == shown
    sentence = f"a million clips cost {shown[1]} and 1,000 hours of audio {shown[0]}."
    screen = Console(file=io.StringIO(), width=200, color_system=None)
    screen.print(TerminalSummary(run), soft_wrap=True)
    assert isinstance(screen.file, io.StringIO)
    write_report(run, tmp_path)
    markdown = (tmp_path / "report.md").read_text()
    for text in (screen.file.getvalue(), markdown, Page((tmp_path / "report.html").read_text()).text):
        assert sentence in text
    (row, *_) = csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text()))
    assert float(row["price_per_million_clips"]) == pytest.approx(million)
    assert float(row["price_per_1000_hours"]) == pytest.approx(hours)
    assert "Prices are of servers at 2.49 an hour that are kept saturated." in section_of(run).text
