"""Reports: what they say, and that every format says the same."""

from __future__ import annotations

from pathlib import Path

import arch_harness.report
import pytest
from arch_harness.report import write_report
from arch_harness.report.choice.choose import choose
from arch_harness.report.choice.verdict import choice_table
from arch_harness.report.formats.html import render_html
from arch_harness.report.formats.markdown import render_markdown
from arch_harness.report.plots.pareto import draw_fronts
from arch_harness.report.plots.plot_kinds import RESULT_PLOTS, TIMING_PLOTS, draw_plots
from arch_harness.report.text.numbers import clean, number, percent, scientific, shorten
from arch_harness.report.text.overview import build_overview, results_table, run_notes, summary_lines
from arch_harness.results.metric_definitions import METRICS
from arch_harness.results.run import Pair, Unscored
from support.pages import Page, markdown_rows, terminal
from support.runs import DATASETS, MODELS, RUNS, layer_scores, origin, run_of, small, unscored, usual


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name == "stress" else []) for name in RUNS]
)
def test_every_format_shows_the_same_rows(name: str, tmp_path: Path) -> None:
    run = RUNS[name]()
    written = write_report(run, tmp_path / "out")
    assert all(path.is_file() for path in written)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("results.json", "results.csv", "results.parquet", "report.md", "report.html", "plots"),
    }

    rows = results_table(run).rows
    assert len(rows) == len(run.results) + len(run.unscored)
    first = choice_table(choose(run)).rows
    in_markdown = markdown_rows((tmp_path / "out/report.md").read_text())
    page = Page((tmp_path / "out/report.html").read_text())
    cells = [cell.strip() for cell in page.cells]
    assert in_markdown[1 : 1 + len(first)] == list(first)
    assert in_markdown[2 + len(first) : 2 + len(first) + len(rows)] == list(rows)
    flat = [cell for row in (*first, *rows) for cell in row]
    assert cells[: len(flat)] == flat
    if name != "hostile":
        lines = [" ".join(line.split()) for line in terminal(run, 250).splitlines()]
        timing = build_overview(run).timing
        assert timing is not None
        shown = [" ".join(row) for row in (*rows, *timing.stages.rows)]
        assert [line for line in lines if line in shown] == shown


def test_the_numbers_are_those_of_the_run() -> None:
    run = usual()
    row = results_table(run).rows[0]
    assert row == (
        *(
            "esc50",
            "wav2vec2-base",
            "accuracy",
            "91.3*",
            "0.4",
            "89.2–93.2",
            "89.3–93.3",
            "90.2*",
            "2.0",
            "2,000",
            "53",
        ),
        *("17.3", "steady", "86.5", "42.5", "159", "119", "48.9", "130", "6.10"),
    )
    built = build_overview(run)
    assert built.summary[0] == (
        "esc50: wav2vec2-base has the highest score, 91.3%* (chance 2.0%), at 17.3 clips/s; "
        "log-mel-statistics is the fastest, at 36.4 clips/s with a score of 83.9%*. "
        "The score is no more than noise apart from that of hubert-base-ls960."
    )
    sections = {section.title: section.table for section in built.probing}
    assert list(sections) == ["Comparisons", "Probes", "Folds", "Classes"]
    assert [row[5:] for row in sections["Comparisons"].rows] == [
        ("+1.4", "-0.4 to +3.1", "no more than noise"),
        ("+7.4", "+5.2 to +9.7", "more than noise"),
    ]
    assert sections["Probes"].rows[1][2:9] == ("knn", "accuracy", "86.3*", "–", "84.2–88.2", "85.2*", "86.1*")
    assert len(sections["Folds"].rows) == 30
    assert [column.header for column in sections["Folds"].columns][6:8] == ["Score, linear (%)", "Score, knn (%)"]
    assert sections["Folds"].rows[0][6:] == ("89.3*", "84.3*", "88.2*")
    # A class without test clips has no score that could be the lowest.
    assert [row[2:] for row in sections["Classes"].rows[:2]] == [
        ("dog", "40", "70.0", "80.0", "61.0", "rain (25.0 %)"),
        ("rain", "40", "70.0", "80.0", "93.0", "dog (8.3 %)"),
    ]
    assert built.models.rows[0][2] == "0123456789"
    assert built.models.rows[0][9:12] == ("ababababab", "1.2e-05", "0.999997")
    assert built.date == "2026-03-01 12:34 UTC"


def test_a_tie_and_a_best_model_that_is_the_fastest() -> None:
    run = run_of(("a", "b"), ("d",))
    run.results[1].score = run.results[0].score
    assert summary_lines(run) == [
        "d: b has the highest score, 91.3% (chance 2.0%), also reached by a, and is the fastest, at 25.1 clips/s."
    ]


def test_failures_are_cut_and_counted(tmp_path: Path) -> None:
    run = usual()
    write_report(run, tmp_path)
    for text in ((tmp_path / "report.md").read_text(), Page((tmp_path / "report.html").read_text()).text):
        assert text.count("and 3 more, see results.json") == 2
        assert "audio/0049.wav" in text
        assert "audio/0050.wav" not in text
        assert text.count("the file ends inside its header") == 100
    assert "106 failures" in terminal(run, 80)
    assert "No clip failed." in terminal(small(), 80)


def test_notes_say_what_is_not_comparable() -> None:
    notes = run_notes(usual())
    assert "gtzan: Clips of one artist may be in several folds." in notes
    assert "esc50 × hubert-base-ls960: others sent the model 7 requests" in notes[-1]
    missing = "1 of its classes are borne by no test clip (sea <waves>)"
    assert [missing in note for note in run_notes(small())] == [True]


def test_a_pair_without_a_score_is_named_with_its_failures_in_every_format(tmp_path: Path) -> None:
    run = unscored()
    write_report(run, tmp_path)
    lost = f"{DATASETS[0]} × {MODELS[1]}"
    reason = f"{lost} has no score: none of its 2,000 clips gave an embedding; audio/0000.wav: is empty."
    counted = f"2,000 failures: clips that gave no embedding and take part in no score ({lost}: 2,000)."
    for text in (
        (tmp_path / "report.md").read_text().replace("\\", ""),
        Page((tmp_path / "report.html").read_text()).text,
        terminal(run, 300),
    ):
        assert reason in text
        assert counted in text
        assert "No clip failed." not in text
    page = Page((tmp_path / "report.html").read_text()).text
    assert f"{lost}: 2,000 of 2,000 clips" in page
    assert page.count("is empty") == 2 + 50
    # Behind the scored ones of its dataset, with dashes for what is not known.
    assert [row[:4] for row in results_table(run).rows[:3]] == [
        (DATASETS[0], MODELS[0], "accuracy", "91.3"),
        (DATASETS[0], MODELS[1], "–", "–"),
        (DATASETS[1], MODELS[0], "accuracy", "87.6"),
    ]
    assert results_table(run).rows[1][9:11] == ("2,000", "2,000")


def test_many_pairs_without_a_score_are_counted() -> None:
    run = run_of(("a", "b", "c", "d", "e", "f"), ("d",))
    lost = {"dataset": "d", "reason": "no fold", "clips": 3, "failures": []}
    run = run.model_copy(
        update={"results": [], "unscored": [Unscored.model_validate(lost | {"model": name}) for name in "abcdef"]}
    )
    assert summary_lines(run) == [
        "The run has no results.",
        *(f"d × {name} has no score: no fold." for name in "abcd"),
        "2 more pairs without a score, see results.json.",
    ]


def test_every_score_on_incomplete_data_bears_a_mark_and_no_other_does(tmp_path: Path) -> None:
    run = usual()
    run.results[0].layers = run.results[3].layers = layer_scores()
    partial = run.datasets[0]
    partial.clips, partial.classes_used, partial.classes_official = 400, 10, 50
    line = (
        "* esc50 is incomplete: 400 of the 2,500 clips and 10 of the 50 classes of the official release. Its scores "
        "are not comparable with published ones."
    )
    built = build_overview(run)
    headers = {metric.header for metric in METRICS.values() if metric.source == "probe" and metric.unit == "%"}
    headers -= {METRICS[name].header for name in ("score_std", "chance")}
    headers |= {"Score, linear", "Score, knn"}
    seen = set()
    for table in (built.results, *(section.table for section in built.probing)):
        for row in table.rows:
            for column, cell in zip(table.columns, row, strict=True):
                marked = row[0] == "esc50" and column.title in headers and cell != "–"
                assert cell.endswith("*") == marked, (column.title, row)
                seen |= {column.title} if marked else set()
    assert seen == {
        *("Score", "Macro F1", "Balanced accuracy", "Its score", "Last layer", "Weighted sum"),
        *("Score, linear", "Score, knn"),
    }
    write_report(run, tmp_path)
    assert line in Page((tmp_path / "report.html").read_text()).text
    assert line in (tmp_path / "report.md").read_text().replace("\\", "")
    assert terminal(run, 300).count(line) == 1
    # The drawings say it too, and their files keep their names.
    for kind in ("score", "layers", "confusion"):
        assert "esc50 (incomplete)" in (tmp_path / "plots" / f"{kind}-esc50.svg").read_text()
        assert "incomplete" not in (tmp_path / "plots" / f"{kind}-gtzan.svg").read_text()


def test_every_speed_that_was_taken_over_bears_a_mark_and_no_other_does(tmp_path: Path) -> None:
    run = run_of(MODELS[:2], DATASETS)
    run.results[0].carried = origin()
    built = build_overview(run)
    assert built.timing is not None
    measured = {one.header for one in METRICS.values() if one.source not in ("probe", "export", "configuration")}
    measured -= {METRICS[name].header for name in ("clips", "failed", "stored")}
    for table in (built.results, built.timing.stages):
        for row in table.rows:
            for column, cell in zip(table.columns, row, strict=True):
                if cell != "–" and column.title in measured:
                    assert cell.endswith("†") == (row[:2] == (DATASETS[0], MODELS[0])), (column.title, row)
    for section in (*built.speed, *built.timing.more):
        for row in section.table.rows:
            assert any(cell.endswith("†") for cell in row) == (DATASETS[0] in row and f"{MODELS[0]}†" in row)
    write_report(run, tmp_path)
    for text in (Page((tmp_path / "report.html").read_text()).text, (tmp_path / "report.md").read_text()):
        assert "† not measured in this run, which took the embeddings from the store" in text
    assert f"{MODELS[0]}†" in (tmp_path / "plots" / f"latency-{DATASETS[0]}.svg").read_text()
    assert "†" not in (tmp_path / "plots" / f"latency-{DATASETS[1]}.svg").read_text()
    rows = (tmp_path / "results.csv").read_text().splitlines()
    assert [("2026-02-27T09:05:00+00:00" in row) for row in rows[1:]] == [True, True, *[False] * 6]


def test_a_partial_run_says_which_pairs_are_missing_in_every_format(tmp_path: Path) -> None:
    run = run_of(MODELS[:2], DATASETS)
    run.results.pop()
    run.partial, run.missing = True, [Pair(model=MODELS[1], dataset=DATASETS[1])]
    write_report(run, tmp_path)
    line = f"1 pair of 4 is missing ({DATASETS[1]} × {MODELS[1]})"
    assert line in Page((tmp_path / "report.html").read_text()).text
    assert line in (tmp_path / "report.md").read_text().replace("\\", "")
    assert line in terminal(run, 300)
    run.missing = []
    assert summary_lines(run)[0].startswith("Not all that was asked for is done: the run was interrupted")


def test_clips_far_beyond_full_scale_and_another_execution_are_told() -> None:
    run = small()
    assert "beyond full scale" not in terminal(run, 300)
    measured = run.results[0].measurement
    assert measured is not None
    measured.beyond_full_scale = 3
    run.models[0].precision, run.models[0].executed_by = "bf16", "fp32 on CPU by NVIDIA's backend (no OpenVINO)"
    line = (
        "esc50 × wav2vec2-base: 3 clips of 2,000 hold samples far beyond full scale: the files were never scaled, and "
        "were sent as they are. arch data verify names them."
    )
    assert run_notes(run).count(line) == 1
    assert terminal(run, 300).count(line) == 1
    told = "wav2vec2-base was exported in bf16 and ran in fp32 on CPU by NVIDIA's backend (no OpenVINO)."
    assert told in run_notes(run)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_narrow_terminal_gets_every_number_uncut(width: int) -> None:
    run = usual()
    text = terminal(run, width)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    words = text.split()
    for row in results_table(run).rows:
        assert set(row[2:]) <= set(words)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0004, "<0.001"),
        (0.0421, "0.042"),
        (0.9996, "1.00"),
        (9.996, "10.0"),
        (99.96, "100"),
        (1234.5, "1,234"),
    ],
)
def test_numbers_keep_about_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_words() -> None:
    assert percent(0.12345) == "12.3"
    assert scientific(0) == "0"
    assert clean(" a\n\tb\u202ec ") == "a b\N{REPLACEMENT CHARACTER}c"
    assert shorten("abcdef", 6) == "abcdef"
    assert shorten("abcdefghij", 6) == "abc…ij"


def test_markdown_and_html_explain_each_number_once() -> None:
    run = usual()
    built, drawn, timing = build_overview(run), draw_plots(run, RESULT_PLOTS), draw_plots(run, TIMING_PLOTS)
    fronts = draw_fronts(choose(run))
    assert built.timing is not None
    sections = [*built.timing.more, *built.probing]
    meanings = [*built.first.meanings, *built.meanings, *built.timing.meanings, *built.model_meanings]
    meanings += [one for section in sections for one in section.meanings]
    assert len(meanings) > 30
    page = Page(render_html(built, fronts, drawn, timing)).text
    for text in (render_markdown(built, fronts, drawn, timing, "plots"), page):
        for meaning in meanings:
            assert text.count(meaning.text) == 1


def test_a_model_that_misses_its_limits_or_runs_in_something_else_is_told() -> None:
    run = small()
    run.models[0].parity_missed = "their mean cosine is 0.975000, wanted is 0.99"
    run.models[0].executed_by = "fp32 on CPUExecutionProvider (bf16 needs a CPU with AMX or AVX512-BF16)"
    report = build_overview(run)
    assert any("was installed with --force: their mean cosine is 0.975000" in note for note in report.notes)
    assert any("fp32 on CPUExecutionProvider" in cell for cell in report.models.rows[0])


def test_layers_have_a_table_and_a_plot() -> None:
    run = run_of(("a", "b"), ("d",))
    run.results[0].layers = layer_scores()
    (section,) = [one for one in build_overview(run).probing if one.title == "Layers"]
    assert section.table.rows == [
        ("d", "a", "4", "70.0", "67.9–71.9", "60.0", "72.0", "2 of 6 transformer layers"),
    ]
    assert [meaning.term for meaning in section.meanings] == ["Best layer", "Its score", "Last layer", "Weighted sum"]
    (group,) = [one for one in draw_plots(run, RESULT_PLOTS) if one.title == "Layers"]
    assert [plot.file for plot in group.plots] == ["layers-d.svg"]
    for words in ("a", "Best layer", "Weighted sum", METRICS["score"].label):
        assert f">{words}<" in group.plots[0].svg
    assert ">b<" not in group.plots[0].svg


def test_the_transport_of_every_measurement_is_shown() -> None:
    run = run_of(("a", "b"), ("d",))
    assert run.results[0].measurement is not None
    run.results[0].measurement.transport = "shared-memory"
    built = build_overview(run)
    assert dict(built.method)["Transport"] == "grpc, shared-memory"
    assert built.timing is not None
    place = [column.title for column in built.timing.stages.columns].index("Transport")
    assert [row[place] for row in built.timing.stages.rows] == ["shared-memory", "grpc"]


def test_a_header_a_unit_and_a_meaning_have_one_source() -> None:
    """What a report calls a number stands in the table of metrics alone, not again beside what shows it."""
    folder = Path(arch_harness.report.__file__).parent
    sources = "".join(path.read_text() for path in sorted(folder.rglob("*.*")) if path.suffix in (".py", ".j2"))
    for metric in METRICS.values():
        assert metric.meaning not in sources
        if metric.id != "clips":  # a server has clips too
            assert f'Column("{metric.header}"' not in sources
