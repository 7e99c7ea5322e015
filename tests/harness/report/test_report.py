"""Reports: what they say, and that every format says the same."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
from arch_harness.report import TerminalReport, write_report
from arch_harness.report.formats import html, markdown
from arch_harness.report.plots import models, time
from arch_harness.report.plots.panels import draw
from arch_harness.report.text import overview
from arch_harness.report.text.numbers import clean, number, percent, scientific, shorten
from arch_harness.report.text.timing import MEANINGS
from arch_harness.results.measurement import ServerTimes
from arch_harness.results.run import Run
from arch_harness.results.scores import Comparison
from rich.console import Console
from support.measurements import measurement

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = """<b>&"'|`$x$ *_[red]{{ 7 * 7 }}</script>"""
MODELS = ("wav2vec2-base", "hubert-base-ls960", "log-mel-statistics")
DATASETS = ("esc50", "gtzan")


def model(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "source": f"example/{name}",
        "revision": "0123456789abcdef0123456789abcdef01234567",
        "family": "wav2vec2",
        "precision": "fp32",
        "sample_rate": 16000,
        "embedding_size": 768,
        "parameter_count": 94_371_712,
        "opset": 18,
        "content_hash": "sha256:" + "ab" * 32,
        "parity_max_relative_error": 1.24e-5,
        "parity_min_cosine": 0.99999712,
        "max_batch_size": 32,
        "max_queue_delay_us": 5000,
    }


def dataset(name: str) -> dict[str, Any]:
    return {
        "id": name,
        "title": f"{name}: a collection of recordings",
        "domain": "events",
        "licence": "CC BY-NC 3.0",
        "citation": "Piczak. ESC: Dataset for Environmental Sound Classification. ACM Multimedia, 2015.",
        "path": f"/data/{name}",
        "classes": 50,
        "clips": 2000,
        "clips_official": 2000,
        "max_seconds": 5.0,
        "folds": 5,
        "notes": [],
        "reference": f"{name}=/data/{name}",
        "listing": "0" * 64,
    }


def interval(score: float) -> dict[str, Any]:
    return {"low": score - 0.021, "high": score + 0.019, "unit": "fold", "units": 5, "resamples": 1000}


def folds(score: float) -> list[dict[str, Any]]:
    return [
        {
            "fold": str(fold),
            "train": 1200,
            "validation": 400,
            "test": 400,
            "accuracy": score + 0.01 * (fold - 3),
            "macro_f1": score - 0.011 + 0.01 * (fold - 3),
        }
        for fold in range(1, 6)
    ]


def probe(name: str, score: float, std: float | None) -> dict[str, Any]:
    return {
        "probe": name,
        "score": score,
        "std": std,
        "seed_scores": [score],
        "interval": interval(score),
        "macro_f1": score - 0.011,
        "balanced_accuracy": score - 0.002,
        "folds": folds(score),
        "classes": [
            {"name": kind, "clips": clips, "precision": 0.7, "recall": 0.8, "f1": f1}
            for kind, clips, f1 in (("dog", 40, 0.61), ("rain", 40, 0.93), ("sea <waves>", 0, 0.0))
        ],
        "classes_without_test_clips": ["sea <waves>"],
        "confusion": [[90, 30, 0], [10, 110, 0], [0, 0, 0]],
        "seconds": 1.3,
    }


def comparison(data: str, model: str, other: str, low: float, high: float) -> dict[str, Any]:
    return {
        "dataset": data,
        "probe": "linear",
        "metric": "accuracy",
        "model": model,
        "other": other,
        "clips": 1947,
        "difference": (low + high) / 2,
        "low": low,
        "high": high,
        "more_than_noise": low > 0,
    }


def result(name: str, data: str, place: int = 0, failed: int = 0) -> dict[str, Any]:
    score = 0.913 - 0.037 * (place % 16)
    speed = 17.31 * 1.45 ** (place % 16)
    p50 = 212.7 / 1.3 ** (place % 16)
    return {
        "model": name,
        "dataset": data,
        "metric": "accuracy",
        "score": score,
        "std": 0.004,
        "interval": interval(score),
        "chance": 0.02,
        "macro_f1": score - 0.011,
        "folds": folds(score),
        "probes": [probe("linear", score, 0.004), probe("knn", score - 0.05, None)],
        "clips": 2000,
        "failed": failed,
        "failures": [
            {"clip": f"audio/{index:04d}.wav", "stage": "decode", "reason": "the file ends inside its header"}
            for index in range(failed)
        ],
        "stored": 0,
        "measurement": measurement(speed, p50, 2000 - failed, place),
        "probe_seconds": 4.2,
        "started": "2026-03-01T12:00:00Z",
        "fingerprint": "0f" * 16,
    }


def run_of(models: tuple[str, ...], datasets: tuple[str, ...], failed: int = 0, **changes: Any) -> Run:
    results = [
        result(name, data, place + shift, failed if place == 0 else 0)
        for shift, data in enumerate(datasets)
        for place, name in enumerate(models)
    ]
    document = {
        "arch_version": "0.1.0",
        "command": f"arch bench --model {models[0]} --dataset {datasets[0]}",
        "created": datetime(2026, 3, 1, 12, 34, tzinfo=UTC),
        "machine": {
            "cpu": "AMD EPYC 7B13",
            "cores": 16,
            "memory_gib": 62.8,
            "gpus": ["NVIDIA H100 80GB HBM3"],
            "os": "Linux 6.1",
            "python": "3.11.9",
            "packages": {"numpy": "1.26.4", "ray": "2.40.0"},
        },
        "servers": [
            {
                "address": "localhost:8001",
                "name": "triton",
                "version": "2.51.0",
                "started_by_arch": True,
                "same_machine": True,
            }
        ],
        "settings": {
            "seed": 1,
            "seeds": 3,
            "probes": ["linear", "knn"],
            "epochs": 100,
            "concurrency": 16,
            "workers": 2,
        },
        "models": [model(name) for name in models],
        "datasets": [dataset(data) for data in datasets],
        "results": results,
    }
    return Run.model_validate(document | changes)


def small() -> Run:
    return run_of(MODELS[:1], DATASETS[:1])


def server_of(run: Run, index: int) -> ServerTimes:
    """Triton's statistics of a result that was measured."""
    found = run.results[index].measurement
    assert found is not None
    assert found.server is not None
    return found.server


def usual() -> Run:
    """3 models on 2 datasets with failures, a partial dataset, and requests of others."""
    run = run_of(MODELS, DATASETS, failed=53)
    run.datasets[0].clips_official = 2500
    run.datasets[1].notes = ["Clips of one artist may be in several folds."]
    server_of(run, 1).foreign_requests = 7
    run.comparisons = [
        Comparison.model_validate(comparison(DATASETS[0], MODELS[0], MODELS[1], -0.004, 0.031)),
        Comparison.model_validate(comparison(DATASETS[0], MODELS[0], MODELS[2], 0.052, 0.097)),
    ]
    return run


def stress() -> Run:
    models = tuple(f"an-encoder-with-a-long-name-{index:02d}-of-the-large-family" for index in range(16))
    return run_of(models, tuple(f"dataset-{index:02d}" for index in range(12)), failed=3)


def hostile() -> Run:
    run = run_of((f"m{HOSTILE}", "名前_α", "_leading"), (f"d{HOSTILE}", "d-b"), failed=1)
    run.results[0].failures[0].clip = f"c{HOSTILE}\n\x1b[31m.wav"
    run.results[0].failures[0].reason = f"r{HOSTILE}"
    run.datasets[0].notes = [f"n{HOSTILE}"]
    return run


RUNS = {"small": small, "usual": usual, "stress": stress, "hostile": hostile}


class Page(HTMLParser):
    """The texts, cells and references of a page; `problems` lists tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.problems: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.cells: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        self.problems += self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "td":
            self.cells.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] == "td":
            self.cells[-1] += data


VOID = {"meta", "br", "img", "link", "hr", "input"}


def markdown_rows(text: str) -> list[tuple[str, ...]]:
    """The cells of every table row, escapes undone."""
    rows = []
    for line in text.splitlines():
        if line.startswith("| "):
            cells = re.split(r"(?<!\\) \| ", line[2:-2])
            plain = [re.sub(r"\\(.)", r"\1", cell) for cell in cells]
            rows.append(tuple(c.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") for c in plain))
    return rows


def terminal(run: Run, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(TerminalReport(run))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("name", RUNS)
def test_every_format_shows_the_same_rows(name: str, tmp_path: Path) -> None:
    run = RUNS[name]()
    written = write_report(run, tmp_path / "out")
    assert all(path.is_file() for path in written)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"results.json", "report.md", "report.html", "plots"}

    rows = overview.results_table(run).rows
    assert len(rows) == len(run.results)
    in_markdown = markdown_rows((tmp_path / "out/report.md").read_text())
    page = Page((tmp_path / "out/report.html").read_text())
    cells = [cell.strip() for cell in page.cells]
    assert in_markdown[1 : 1 + len(rows)] == list(rows)
    flat = [cell for row in rows for cell in row]
    assert cells[: len(flat)] == flat
    if name != "hostile":
        lines = [" ".join(line.split()) for line in terminal(run, 250).splitlines()]
        timing = overview.build(run).timing
        assert timing is not None
        shown = [" ".join(row) for row in (*rows, *timing.stages.rows)]
        assert [line for line in lines if line in shown] == shown


def test_the_numbers_are_those_of_the_run() -> None:
    run = usual()
    row = overview.results_table(run).rows[0]
    assert row == (
        *("esc50", "wav2vec2-base", "accuracy", "91.3", "0.4", "89.2–93.2", "89.3–93.3", "90.2", "2.0", "2,000", "53"),
        *("17.3", "86.5", "213", "279", "398", "48.9", "130", "6.10"),
    )
    built = overview.build(run)
    assert built.summary[0] == (
        "esc50: wav2vec2-base has the highest score, 91.3% (chance 2.0%), at 17.3 clips/s; "
        "log-mel-statistics is the fastest, at 36.4 clips/s with a score of 83.9%. "
        "The score is no more than noise apart from that of hubert-base-ls960."
    )
    sections = {section.title: section.table for section in built.probing}
    assert list(sections) == ["Comparisons", "Probes", "Folds", "Classes"]
    assert [row[5:] for row in sections["Comparisons"].rows] == [
        ("+1.4", "-0.4 to +3.1", "no more than noise"),
        ("+7.4", "+5.2 to +9.7", "more than noise"),
    ]
    assert sections["Probes"].rows[1][2:9] == ("knn", "accuracy", "86.3", "–", "84.2–88.2", "85.2", "86.1")
    assert len(sections["Folds"].rows) == 30
    assert [column.header for column in sections["Folds"].columns][6:8] == ["Score, linear (%)", "Score, knn (%)"]
    assert sections["Folds"].rows[0][6:] == ("89.3", "84.3", "88.2")
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
    assert overview.summary(run) == [
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
    notes = overview.notes(usual())
    assert notes[0].startswith("esc50: 2,000 of the 2,500 clips of the official release were used")
    assert "gtzan: Clips of one artist may be in several folds." in notes
    assert "esc50 × hubert-base-ls960: others sent the model 7 requests" in notes[-1]
    missing = "1 of its classes are borne by no test clip (sea <waves>)"
    assert [missing in note for note in overview.notes(small())] == [True]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_narrow_terminal_gets_every_number_uncut(width: int) -> None:
    run = usual()
    text = terminal(run, width)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    words = text.split()
    for row in overview.results_table(run).rows:
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
    built, drawn, timing = overview.build(run), draw(run, models.KINDS), draw(run, time.KINDS)
    for text in (markdown.render(built, drawn, timing, "plots"), Page(html.render(built, drawn, timing)).text):
        for meaning in (*overview.MEANINGS, *MEANINGS):
            assert text.count(meaning.text) == 1


def test_a_model_that_misses_its_limits_or_runs_in_something_else_is_told() -> None:
    run = small()
    run.models[0].parity_missed = "their mean cosine is 0.975000, wanted is 0.99"
    run.models[0].executed_by = "fp32 on CPUExecutionProvider (bf16 needs a CPU with AMX or AVX512-BF16)"
    report = overview.build(run)
    assert any("was installed with --force: their mean cosine is 0.975000" in note for note in report.notes)
    assert any("fp32 on CPUExecutionProvider" in cell for cell in report.models.rows[0])
