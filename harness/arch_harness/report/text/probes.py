"""What the report says of the probes: side by side, fold by fold, the hardest classes, and models compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arch_harness.report.text import classes
from arch_harness.report.text.numbers import clean, optional, percent, points, span
from arch_harness.report.text.tables import Column, Section, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arch_harness.results.run import Result, Run
    from arch_harness.results.scores import Comparison, ProbeScore

METRICS = {"accuracy": "accuracy", "map_macro": "mAP"}


def build(run: Run, results: Sequence[Result]) -> list[Section]:
    """The sections that have rows; `results` in the order in which they are shown."""
    sections = [
        _comparisons(run),
        _probes(results),
        _layers(results),
        _folds(run, results),
        *classes.sections(results),
    ]
    return [section for section in sections if section.table.rows]


def verdict(comparison: Comparison) -> str:
    """Whether the difference is more than noise, in words."""
    if not comparison.more_than_noise:
        return "no more than noise"
    return "more than noise"


def lead(run: Run, best: str, dataset: str) -> str:
    """A sentence on which models the best one is not known to beat; empty if it beats them all, or none is compared."""
    headline = run.settings.probes[0]
    close = [
        clean(one.other if one.model == best else one.model)
        for one in run.comparisons
        if one.dataset == dataset
        and one.probe == headline
        and best in (one.model, one.other)
        and not one.more_than_noise
    ]
    if not close:
        return ""
    names = " and ".join([", ".join(close[:-1]), close[-1]] if len(close) > 1 else close)
    return f"The score is no more than noise apart from that of {names}."


def notes(run: Run) -> list[str]:
    """Classes that no test clip bears, dataset by dataset."""
    lines = []
    for dataset in run.datasets:
        missing = {
            name
            for result in run.results
            if result.dataset == dataset.id
            for probe in result.probes[:1]
            for name in probe.classes_without_test_clips
        }
        if missing:
            names = ", ".join(sorted(clean(name) for name in missing))
            lines.append(
                f"{clean(dataset.id)}: {len(missing)} of its classes are borne by no test clip ({names}). In macro mAP "
                "each counts as 0, as in scikit-learn; elsewhere they are left out."
            )
    return lines


def _layers(results: Sequence[Result]) -> Section:
    columns = (
        Column("Dataset"),
        Column("Model"),
        Column("Best layer", "", True),
        Column("Score", "%", True),
        Column("95 % interval", "%", True),
        Column("Last layer", "%", True),
        Column("Weighted sum", "%", True),
        Column("A cut leaves out"),
    )
    rows = []
    for result in results:
        if result.layers is None:
            continue
        best, last = result.layers.best, result.layers.layers[-1]
        rows.append(
            (
                clean(result.dataset),
                clean(result.model),
                f"{best.layer}",
                percent(best.score),
                span(best.interval.low, best.interval.high),
                percent(last.score),
                percent(result.layers.weighted_sum),
                f"{last.layer - best.layer} of {last.layer} transformer layers",
            )
        )
    text = (
        "The linear probe on every layer. The best layer is the one with the highest score on the test clips, so its "
        "score flatters it a little. A cut after it would leave out the transformer layers that follow."
    )
    return Section("Layers", text, Table(columns, rows))


def _comparisons(run: Run) -> Section:
    columns = (
        Column("Dataset"),
        Column("Model"),
        Column("Compared with"),
        Column("Probe"),
        Column("Test clips", "", True),
        Column("Difference", "points", True),
        Column("95 % interval", "points", True),
        Column("Verdict"),
    )
    rows = [
        (
            clean(one.dataset),
            clean(one.model),
            clean(one.other),
            one.probe,
            f"{one.clips:,}",
            points(one.difference),
            f"{points(one.low)} to {points(one.high)}",
            verdict(one),
        )
        for one in run.comparisons
    ]
    text = (
        "Two models scored on the same test clips, over the same bootstrap samples of them. A difference is more than "
        "noise if its interval leaves out 0."
    )
    return Section("Comparisons", text, Table(columns, rows))


def _probes(results: Sequence[Result]) -> Section:
    columns = (
        Column("Dataset"),
        Column("Model"),
        Column("Probe"),
        Column("Metric"),
        Column("Score", "%", True),
        Column("± seeds", "%", True),
        Column("95 % interval", "%", True),
        Column("Macro F1", "%", True),
        Column("Balanced accuracy", "%", True),
        Column("Weighted mAP", "%", True),
        Column("Trained on"),
        Column("Time", "s", True),
    )
    rows = [
        (
            clean(result.dataset),
            clean(result.model),
            one.probe,
            METRICS[result.metric],
            percent(one.score),
            optional(one.std),
            span(one.interval.low, one.interval.high),
            optional(one.macro_f1),
            optional(one.balanced_accuracy),
            optional(one.map_weighted),
            clean(one.trained_on),
            f"{one.seconds:,.1f}",
        )
        for result in results
        for one in result.probes
    ]
    first = next((result.probes[0].interval for result in results if result.probes), None)
    drawn = f" The intervals come of {first.resamples:,} bootstrap samples." if first else ""
    return Section("Probes", f"Every probe's scores on the same embeddings.{drawn}", Table(columns, rows))


def _of_fold(probe: ProbeScore | None, index: int) -> str:
    return "–" if probe is None else percent(probe.folds[index].score)


def _folds(run: Run, results: Sequence[Result]) -> Section:
    several = [name for name in run.settings.probes if any(len(result.probes) > 1 for result in results)]
    columns = (
        Column("Dataset"),
        Column("Model"),
        Column("Fold"),
        Column("Train", "clips", True),
        Column("Validation", "clips", True),
        Column("Test", "clips", True),
        *(Column(f"Score, {name}", "%", True) for name in several),
        *(() if several else (Column("Score", "%", True),)),
        Column("Macro F1", "%", True),
    )
    rows = []
    for result in results:
        by_name = {one.probe: one for one in result.probes}
        rows += [
            (
                clean(result.dataset),
                clean(result.model),
                clean(fold.fold),
                f"{fold.train:,}",
                f"{fold.validation:,}",
                f"{fold.test:,}",
                *(_of_fold(by_name.get(name), index) for name in several),
                *(() if several else (percent(fold.score),)),
                optional(fold.macro_f1),
            )
            for index, fold in enumerate(result.folds)
        ]
    return Section("Folds", "The score of each fold, the mean over seeds.", Table(columns, rows))
