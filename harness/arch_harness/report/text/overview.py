"""What a report says: the tables, sentences and notes that every format shows, derived from one `Run`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from arch_harness.report.text.numbers import clean, number, percent, plural, shorten, timestamp
from arch_harness.report.text.probes import close_rivals, probe_notes, probe_sections
from arch_harness.report.text.setup import datasets_table, hardware_terms, method_terms, model_meanings, models_table
from arch_harness.report.text.speed import speed_sections
from arch_harness.report.text.tables import Column, Meaning, Section, Table, cells_of, columns_of, meanings_of
from arch_harness.report.text.timing import Timing, build_timing, timing_notes
from arch_harness.results import rows
from arch_harness.results.repeats import mean_of

if TYPE_CHECKING:
    from arch_harness.results.run import Result, Run

MAX_FAILURES = 50
"""Failures shown per result; `results.json` holds all."""

_MAX_REASON = 300


@dataclass(frozen=True)
class FailureList:
    """The failures of one result, the first `MAX_FAILURES` of them in `table`."""

    title: str
    table: Table
    more: str


@dataclass(frozen=True)
class Overview:
    """The text of a report, in the order in which it is shown."""

    title: str
    date: str
    summary: list[str]
    results: Table
    meanings: list[Meaning]
    speed: list[Section]
    timing: Timing | None
    probing: list[Section]
    failures: list[FailureList]
    notes: list[str]
    models: Table
    model_meanings: list[Meaning]
    datasets: Table
    command: str
    method: list[tuple[str, str]]
    hardware: list[tuple[str, str]]
    packages: list[tuple[str, str]]


RESULT_COLUMNS = columns_of(
    *("dataset", "model", "score_metric", "score", "score_std", "interval", "fold_range", "macro_f1", "chance"),
    *("clips", "failed", "clips_per_s", "steadiness", "rtfx", "alone_p50_ms", "paced_p99_ms", "equal_p99_ms"),
    *("queue_ms", "compute_ms", "mean_batch_size"),
)
"""The main table: every format shows these cells."""


def ordered_results(run: Run) -> list[Result]:
    """The results dataset by dataset in the run's order, and in a dataset by falling score, then throughput."""
    place = {dataset.id: index for index, dataset in enumerate(run.datasets)}
    return sorted(run.results, key=lambda r: (place[r.dataset], -r.score, -_speed(r), r.model))


def results_table(run: Run) -> Table:
    """The main table: one row per model and dataset."""
    return Table(RESULT_COLUMNS, [cells_of(RESULT_COLUMNS, rows.row(result, None)) for result in ordered_results(run)])


def _speed(result: Result) -> float:
    """Clips per second; -1 where nothing was measured."""
    return -1.0 if result.measurement is None else mean_of(result.measurement, "clips_per_s") or 0.0


def failures_line(run: Run) -> str:
    """How many clips failed, in one sentence."""
    failed = sum(result.failed for result in run.results)
    if not failed:
        return "No clip failed."
    where = [f"{clean(r.dataset)} × {clean(r.model)}: {r.failed:,}" for r in ordered_results(run) if r.failed]
    shown = "; ".join(where[:4]) + (f"; and {plural(len(where) - 4, 'more result')}" if len(where) > 4 else "")
    return f"{plural(failed, 'failure')}: clips that gave no embedding and take part in no score ({shown})."


def summary_lines(run: Run) -> list[str]:
    """A sentence per dataset: the best model by score, and the fastest."""
    sentences = []
    results = ordered_results(run)
    for dataset in run.datasets:
        found = [result for result in results if result.dataset == dataset.id]
        if found:
            rivals = close_rivals(run, found[0].model, dataset.id)
            sentences.append(f"{clean(dataset.id)}: {_verdict(found)}{' ' + rivals if rivals else ''}")
    return sentences or ["The run has no results."]


def _verdict(found: list[Result]) -> str:
    best, fastest = found[0], max(found, key=_speed)
    figures = f"{percent(best.score)}% (chance {percent(best.chance)}%)"
    speed = "with embeddings from the store" if best.measurement is None else f"at {number(_speed(best))} clips/s"
    if len(found) == 1:
        return f"{clean(best.model)} scores {figures} {speed}."
    equal = [clean(result.model) for result in found[1:] if result.score == best.score]
    tie = f", also reached by {' and '.join(equal)}," if len(equal) in (1, 2) else ""
    tie = tie or (f", also reached by {len(equal)} other models," if equal else ",")
    if fastest.measurement is None:
        return f"{clean(best.model)} has the highest score, {figures}{tie} {speed}."
    if fastest is best:
        others = all(result.measurement is not None for result in found)
        return (
            f"{clean(best.model)} has the highest score, {figures}{tie} and is the fastest"
            f"{'' if others else ' of those measured'}, {speed}."
        )
    return (
        f"{clean(best.model)} has the highest score, {figures}{tie} {speed}; {clean(fastest.model)} is the fastest, "
        f"at {number(_speed(fastest))} clips/s with a score of {percent(fastest.score)}%."
    )


def _failures(run: Run) -> list[FailureList]:
    columns = (Column("Clip"), Column("Stage"), Column("Reason"))
    lists = []
    for result in ordered_results(run):
        if not result.failures:
            continue
        rows = [(clean(f.clip), f.stage, shorten(clean(f.reason), _MAX_REASON)) for f in result.failures[:MAX_FAILURES]]
        hidden = len(result.failures) - len(rows)
        more = f"and {hidden:,} more, see results.json" if hidden else ""
        title = f"{clean(result.dataset)} × {clean(result.model)}: {result.failed:,} of {plural(result.clips, 'clip')}"
        lists.append(FailureList(title, Table(columns, rows), more))
    return lists


def run_notes(run: Run) -> list[str]:
    """What the reader must know before comparing the numbers with others."""
    lines = []
    for dataset in run.datasets:
        name, official = clean(dataset.id), dataset.clips_official
        if official is not None and dataset.clips < official:
            lines.append(
                f"{name}: {dataset.clips:,} of the {official:,} clips of the official release were used, "
                "so the scores are not comparable with published numbers."
            )
        lines += [f"{name}: {clean(note)}" for note in dataset.notes]
    lines += probe_notes(run)
    lines += timing_notes(ordered_results(run))
    lines += [
        f"{clean(model.name)} misses the limits of {clean(model.precision)} and was installed with --force: "
        f"{clean(model.parity_missed)}."
        for model in run.models
        if model.parity_missed
    ]
    return lines


def build_overview(run: Run) -> Overview:
    """Derive everything that a written report says from `run`."""
    results = ordered_results(run)
    return Overview(
        title="Audio encoder benchmark",
        date=timestamp(run.created),
        summary=[*summary_lines(run), failures_line(run)],
        results=results_table(run),
        meanings=meanings_of(RESULT_COLUMNS),
        speed=speed_sections(results, known=RESULT_COLUMNS),
        timing=build_timing(run, results, known=RESULT_COLUMNS),
        probing=probe_sections(run, results, known=RESULT_COLUMNS),
        failures=_failures(run),
        notes=run_notes(run),
        models=models_table(run),
        model_meanings=model_meanings(),
        datasets=datasets_table(run),
        command=clean(run.command),
        method=method_terms(run),
        hardware=hardware_terms(run),
        packages=[(clean(name), clean(version)) for name, version in sorted(run.machine.packages.items())],
    )
