"""Ablations in the report: a section with its table and drawing, a short table in the terminal, what was not done."""

from __future__ import annotations

from pathlib import Path

from arch_harness.report import write_report
from arch_harness.report.plots.ablations import draw_ablations
from arch_harness.report.text.overview import build_overview
from arch_harness.results.run import Run
from support.pages import Page, terminal
from support.runs import ablation, run_of


def ablated() -> Run:
    run = run_of(("a", "b"), ("d",))
    run.ablations = [
        ablation(run, "loudness=peak"),
        ablation(run, "resampler=soxr-vhq", -0.01, 0.02),
        ablation(run, "length=centre", 0.0, 0.0, largest_change=1e-7, mean_cosine=1.0),
        ablation(run, "padding=exact", 0.02, 0.06, variant="b"),
    ]
    run.unablated = ["--ablate padding: b has no form that leaves padding out"]
    return run


def test_a_section_says_what_is_real_and_what_is_noise(tmp_path: Path) -> None:
    run = ablated()
    section = build_overview(run).ablations
    assert section is not None
    assert [(row[2], row[4], row[5], row[6]) for row in section.table.rows] == [
        ("loudness=peak", "-3.0", "-5.0 to -1.0", "real"),
        ("resampler=soxr-vhq", "+0.5", "-1.0 to +2.0", "noise"),
        ("length=centre", "+0.0", "+0.0 to +0.0", "no effect"),
        ("padding=exact (b)", "+4.0", "+2.0 to +6.0", "real"),
    ]
    write_report(run, tmp_path)
    page = Page((tmp_path / "report.html").read_text())
    assert page.problems == []
    for meaning in section.meanings:
        assert page.text.count(meaning.text) == 1
    assert "Not done: --ablate padding: b has no form" in page.text
    assert "loudness=peak" in (tmp_path / "plots" / "ablations-d.svg").read_text()
    assert "## Preprocessing" in (tmp_path / "report.md").read_text()
    assert "(plots/ablations-d.svg)" in (tmp_path / "report.md").read_text()


def test_the_terminal_shows_the_largest_first() -> None:
    lines = terminal(ablated(), 80).splitlines()
    first = next(place for place, line in enumerate(lines) if line.startswith("other preprocessing"))
    assert [line.split()[0] for line in lines[first + 1 : first + 5]] == [
        *("padding=exact", "loudness=peak", "resampler=soxr-vhq", "length=centre"),
    ]
    assert "+4.0 (+2.0 to +6.0) real" in lines[first + 1]
    said = " ".join("\n".join(lines).split())
    assert "2 of 4 other settings of the preprocessing change a score by more than noise, 1 do not, 1 move no" in said
    assert "not done: --ablate padding: b has no form that leaves padding out" in said


def test_a_run_without_ablations_has_no_trace_of_them(tmp_path: Path) -> None:
    run = run_of(("a",), ("d",))
    assert draw_ablations(run) == []
    write_report(run, tmp_path)
    for name in ("report.html", "report.md"):
        assert "reprocessing" not in (tmp_path / name).read_text()
    assert "preprocessing" not in terminal(run, 80)
