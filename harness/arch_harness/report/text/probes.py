"""What the report says of the probes: side by side, fold by fold, the hardest classes, and models compared."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from arch_harness.report.text.classes import class_sections
from arch_harness.report.text.numbers import clean, points
from arch_harness.report.text.remarks import incomplete_of
from arch_harness.report.text.tables import Column, Section, Table, cells_of, columns_of, meanings_of
from arch_harness.results import rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from arch_harness.results.run import Result, Run
    from arch_harness.results.scores import Comparison

_PROBE_COLUMNS = columns_of(
    *("dataset", "model", "probe", "score_metric", "score", "score_std", "interval", "macro_f1", "balanced_accuracy"),
    *("map_weighted", "trained_on", "probe_seconds"),
)
_LAYER_COLUMNS = columns_of("best_layer", "best_layer_score", "interval", "last_layer_score", "weighted_sum_score")


def probe_sections(
    run: Run, results: Sequence[Result], known: Sequence[Column], asked: Callable[[str, str, str], bool]
) -> list[Section]:
    """The sections that have rows.

    Args:
        run: what was probed.
        results: of it, in the order in which they are shown.
        known: columns that are explained already.
        asked: whether two models on a dataset (dataset, model, other) are such as someone would compare.
    """
    incomplete = incomplete_of(run)
    sections = [
        _comparisons(run, asked),
        _probes(results, known, incomplete),
        _layers(results, known, incomplete),
        _folds(run, results, incomplete),
        *class_sections(results),
    ]
    return [section for section in sections if section.table.rows]


def comparison_verdict(comparison: Comparison) -> str:
    """Whether the difference is more than noise, in words."""
    return "more than noise" if comparison.more_than_noise else "no more than noise"


def close_rivals(run: Run, best: str, dataset: str) -> str:
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


def probe_notes(run: Run) -> list[str]:
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


def _layers(results: Sequence[Result], known: Sequence[Column], incomplete: frozenset[str]) -> Section:
    columns = (*columns_of("dataset", "model"), *_LAYER_COLUMNS, Column("A cut leaves out"))
    found = []
    for result in results:
        if result.layers is None:
            continue
        best, last = result.layers.best, result.layers.layers[-1]
        more = {"score_low": best.interval.low, "score_high": best.interval.high}
        more["incomplete"] = result.dataset in incomplete
        found.append(
            (
                clean(result.dataset),
                clean(result.model),
                *cells_of(_LAYER_COLUMNS, rows.layer_row(result.layers) | more),
                f"{last.layer - best.layer} of {last.layer} transformer layers",
            )
        )
    text = (
        "The linear probe on every layer, with the interval of the best one. A cut after it would leave out the "
        "transformer layers that follow."
    )
    return Section("Layers", text, Table(columns, found), meanings_of(columns, known))


def _comparisons(run: Run, asked: Callable[[str, str, str], bool]) -> Section:
    columns = (
        *columns_of("dataset", "model"),
        Column("Compared with"),
        *columns_of("probe"),
        Column("Test clips", "", True),
        Column("Difference", "points", True),
        replace(columns_of("interval")[0], unit="points"),
        Column("Verdict"),
    )
    found: dict[bool, list[tuple[str, ...]]] = {True: [], False: []}
    for one in run.comparisons:
        found[asked(one.dataset, one.model, one.other)].append(
            (
                clean(one.dataset),
                clean(one.model),
                clean(one.other),
                one.probe,
                f"{one.clips:,}",
                points(one.difference),
                f"{points(one.low)} to {points(one.high)}",
                comparison_verdict(one),
            )
        )
    text = (
        "Two models scored on the same test clips, over the same bootstrap samples of them. A difference is more than "
        "noise if its interval leaves out 0. First those of variants of one checkpoint and of neighbours on the front."
    )
    first = found[True] or found[False]
    return Section("Comparisons", text, Table(columns, first), rest=Table(columns, found[False] if found[True] else []))


def _probes(results: Sequence[Result], known: Sequence[Column], incomplete: frozenset[str]) -> Section:
    found = [
        cells_of(_PROBE_COLUMNS, rows.row(result, one) | {"incomplete": result.dataset in incomplete})
        for result in results
        for one in result.probes
    ]
    first = next((result.probes[0].interval for result in results if result.probes), None)
    drawn = f" The intervals come of {first.resamples:,} bootstrap samples." if first else ""
    return Section(
        "Probes",
        f"Every probe's scores on the same embeddings.{drawn}",
        Table(_PROBE_COLUMNS, found),
        meanings_of(_PROBE_COLUMNS, known),
    )


def _folds(run: Run, results: Sequence[Result], incomplete: frozenset[str]) -> Section:
    several = [name for name in run.settings.probes if any(len(result.probes) > 1 for result in results)]
    score, macro_f1 = columns_of("score", "macro_f1")
    columns = (
        *columns_of("dataset", "model"),
        Column("Fold"),
        Column("Train", "clips", True),
        Column("Validation", "clips", True),
        Column("Test", "clips", True),
        *([replace(score, title=f"{score.title}, {name}") for name in several] or [score]),
        macro_f1,
    )
    found = []
    for result in results:
        by_name = {one.probe: one for one in result.probes}
        for index, fold in enumerate(result.folds):
            scores = [by_name[name].folds[index].score if name in by_name else None for name in several] or [fold.score]
            marked = {"incomplete": result.dataset in incomplete}
            found.append(
                (
                    clean(result.dataset),
                    clean(result.model),
                    clean(fold.fold),
                    f"{fold.train:,}",
                    f"{fold.validation:,}",
                    f"{fold.test:,}",
                    *(cell for one in scores for cell in cells_of([score], {"score": one} | marked)),
                    *cells_of([macro_f1], {"macro_f1": fold.macro_f1} | marked),
                )
            )
    return Section("Folds", "The score of each fold, the mean over seeds.", Table(columns, found))
