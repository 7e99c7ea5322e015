"""What a report says: the tables, sentences and notes that every format shows, derived from one `Run`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from arch_harness.report.choice.asked import AskedFor
from arch_harness.report.choice.caveats import caveats
from arch_harness.report.choice.choose import Choice, choose
from arch_harness.report.choice.verdict import (
    RULE,
    alternatives,
    choice_columns,
    choice_meanings,
    choice_table,
    details,
    headline,
    loads_line,
)
from arch_harness.report.text.ablations import ablation_section
from arch_harness.report.text.diagnoses import diagnosis_lines
from arch_harness.report.text.numbers import clean, number, percent, plural, shorten, timestamp
from arch_harness.report.text.probes import close_rivals, probe_notes, probe_sections
from arch_harness.report.text.remarks import (
    MAX_REASON,
    carried_lines,
    failures_line,
    incomplete_lines,
    incomplete_of,
    partial_lines,
    unscaled_lines,
    unscored_lines,
)
from arch_harness.report.text.setup import (
    datasets_table,
    hardware_terms,
    method_terms,
    model_meanings,
    models_table,
    setting_line,
)
from arch_harness.report.text.speed.consumption import consumption_section
from arch_harness.report.text.speed.sections import speed_sections
from arch_harness.report.text.speed.timing import Timing, build_timing, limits_line, timing_notes
from arch_harness.report.text.tables import MARK, Column, Meaning, Section, Table, cells_of, columns_of, meanings_of
from arch_harness.results import rows
from arch_harness.results.repeats import mean_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arch_harness.results.run import Result, Run, Unscored

MAX_FAILURES = 50
"""Failures shown per result; `results.json` holds all."""


@dataclass(frozen=True)
class FailureList:
    """The failures of one result, the first `MAX_FAILURES` of them in `table`."""

    title: str
    table: Table
    more: str


@dataclass(frozen=True)
class FirstScreen:
    """What a reader sees first, and may be all that is read.

    Attributes:
        headline: the model to deploy and at what price, in one sentence.
        details: more of it.
        alternatives: (condition, what to take then).
        rule: by which it was chosen.
        warnings: that change a decision.
        table: one row a model over all datasets.
        chosen: the row of the model to deploy; None where there is none.
        loads: at which its latencies are.
        limits: of the throughput, grouped.
        meanings: of the table's columns.
    """

    headline: str
    details: list[str]
    alternatives: list[tuple[str, str]]
    rule: str
    warnings: list[str]
    table: Table
    chosen: int | None
    loads: str
    limits: str
    meanings: list[Meaning]


@dataclass(frozen=True)
class Overview:
    """The text of a report, in the order in which it is shown."""

    title: str
    setting: str
    date: str
    first: FirstScreen
    summary: list[str]
    diagnoses: list[tuple[str, str]]
    results: Table
    meanings: list[Meaning]
    speed: list[Section]
    timing: Timing | None
    ablations: Section | None
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

    @property
    def definitions(self) -> list[Meaning]:
        """What every number means, each once."""
        timing = self.timing
        sections = [*self.speed, *(timing.more if timing else []), *self.probing]
        found = [*self.first.meanings, *self.meanings, *(timing.meanings if timing else [])]
        found += [one for section in sections for one in section.meanings]
        return list(dict.fromkeys([*found, *self.model_meanings]))


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
    """The main table: one row per model and dataset, those of a dataset without a score behind the others."""
    found, results = [], ordered_results(run)
    for dataset in run.datasets:
        found += [rows.row(one, None, dataset=dataset) for one in results if one.dataset == dataset.id]
        found += [_unscored_row(one) for one in run.unscored if one.dataset == dataset.id]
    return Table(RESULT_COLUMNS, [cells_of(RESULT_COLUMNS, values) for values in found])


def _unscored_row(one: Unscored) -> dict[str, Any]:
    return {"dataset": one.dataset, "model": one.model, "clips": one.clips, "failed": one.failed}


def _speed(result: Result) -> float:
    """Clips per second; -1 where nothing was measured."""
    return -1.0 if result.measurement is None else mean_of(result.measurement, "clips_per_s") or 0.0


def summary_lines(run: Run) -> list[str]:
    """A sentence per dataset: the best model by score, and the fastest; and what is to be known of the scores."""
    sentences = []
    results, incomplete = ordered_results(run), incomplete_of(run)
    for dataset in run.datasets:
        found = [result for result in results if result.dataset == dataset.id]
        if found:
            mark = MARK if dataset.id in incomplete else ""
            rivals = close_rivals(run, found[0].model, dataset.id)
            sentences.append(f"{clean(dataset.id)}: {_verdict(found, mark)}{' ' + rivals if rivals else ''}")
    sentences = sentences or ["The run has no results."]
    return [*partial_lines(run), *sentences, *carried_lines(run), *incomplete_lines(run), *unscored_lines(run)]


def _verdict(found: list[Result], mark: str) -> str:
    best, fastest = found[0], max(found, key=_speed)
    figures = f"{percent(best.score)}%{mark} (chance {percent(best.chance)}%)"
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
        f"at {number(_speed(fastest))} clips/s with a score of {percent(fastest.score)}%{mark}."
    )


def _failures(run: Run) -> list[FailureList]:
    columns = (Column("Clip"), Column("Stage"), Column("Reason"))
    lists = []
    found: list[Result | Unscored] = [*ordered_results(run), *run.unscored]
    for one in found:
        if not one.failures:
            continue
        rows = [(clean(f.clip), f.stage, shorten(clean(f.reason), MAX_REASON)) for f in one.failures[:MAX_FAILURES]]
        hidden = len(one.failures) - len(rows)
        more = f"and {hidden:,} more, see results.json" if hidden else ""
        title = f"{clean(one.dataset)} × {clean(one.model)}: {one.failed:,} of {plural(one.clips, 'clip')}"
        lists.append(FailureList(title, Table(columns, rows), more))
    return lists


def run_notes(run: Run) -> list[str]:
    """What the reader must know before comparing the numbers with others."""
    lines = [f"{clean(dataset.id)}: {clean(note)}" for dataset in run.datasets for note in dataset.notes]
    lines += probe_notes(run)
    lines += unscaled_lines(run)
    lines += timing_notes(ordered_results(run))
    lines += [f"Not done: {clean(line)}." for line in run.unablated]
    for model in run.models:
        name, precision = clean(model.name), clean(model.precision)
        if model.runs_otherwise:
            lines.append(f"{name} was exported in {precision} and ran in {clean(model.executed_by)}.")
        if model.parity_missed:
            missed = clean(model.parity_missed)
            lines.append(f"{name} misses the limits of {precision} and was installed with --force: {missed}.")
    return lines


def _title(run: Run) -> str:
    datasets = [clean(dataset.id) for dataset in run.datasets]
    where = " and ".join(datasets) if len(datasets) in (1, 2) else plural(len(datasets), "dataset")
    what = clean(run.models[0].name) if len(run.models) == 1 else plural(len(run.models), "audio encoder")
    return f"{what} on {where}"


def first_screen(choice: Choice, results: Sequence[Result]) -> FirstScreen:
    """The verdict, its warnings and its table.

    Args:
        choice: of a run.
        results: of the run, in the order in which they are shown.
    """
    return FirstScreen(
        headline=headline(choice),
        details=details(choice),
        alternatives=alternatives(choice),
        rule=RULE,
        warnings=caveats(choice),
        table=choice_table(choice),
        chosen=choice.rows.index(choice.deploy) if choice.deploy else None,
        loads=loads_line(choice),
        limits=limits_line(results),
        meanings=choice_meanings(choice),
    )


def build_overview(run: Run, choice: Choice | None = None) -> Overview:
    """Derive everything that a written report says from `run`.

    Args:
        run: of which the report is.
        choice: what `choose` made of it, where that is there already.
    """
    results = ordered_results(run)
    choice = choice or choose(run)
    asked = AskedFor(choice)
    first = choice_columns(choice)
    known = (*first, *RESULT_COLUMNS)
    taken = consumption_section(run, results, known)
    return Overview(
        title=_title(run),
        setting=setting_line(run),
        date=timestamp(run.created),
        first=first_screen(choice, results),
        summary=[*summary_lines(run), failures_line(run)],
        diagnoses=diagnosis_lines(run),
        results=results_table(run),
        meanings=meanings_of(RESULT_COLUMNS, known=first),
        speed=[*speed_sections(results, known, asked), *([taken] if taken else [])],
        timing=build_timing(run, results, known),
        ablations=ablation_section(run),
        probing=probe_sections(run, results, known, asked),
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
