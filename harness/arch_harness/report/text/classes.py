"""What a report says of the classes: tables of classes and of confused pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arch_harness.report.text.numbers import clean, optional_percent, percent
from arch_harness.report.text.tables import Column, Section, Table, columns_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from arch_harness.results.run import Result
    from arch_harness.results.scores import ClassScore, ProbeScore

MOST_CLASSES = 60
"""Of a confusion matrix that can be read as a picture; beyond, the most confused pairs are listed."""

_PAIRS = 20  # of a dataset in the table


def shown_probes(results: Sequence[Result]) -> list[tuple[Result, ProbeScore]]:
    """The best result of each dataset and its first probe."""
    first: dict[str, Result] = {}
    for result in results:
        if result.probes:
            first.setdefault(result.dataset, result)
    return [(result, result.probes[0]) for result in first.values()]


def shares_of(probe: ProbeScore) -> NDArray[np.float64] | None:
    """What share of each class's test clips was taken for each class, FP64 [true, named]; None for several labels."""
    if probe.confusion is None:
        return None
    counts = np.array(probe.confusion, dtype=np.float64)
    shares: NDArray[np.float64] = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    return shares


def class_sections(results: Sequence[Result]) -> list[Section]:
    """The tables; one without rows where there is nothing to say.

    Args:
        results: in the order in which they are shown, the best of a dataset first.
    """
    return [_pairs(results), _classes(results)]


def _pairs(results: Sequence[Result]) -> Section:
    columns = (
        *columns_of("dataset", "model"),
        Column("True class"),
        Column("Taken for"),
        Column("Share of its clips", "%", True),
    )
    rows = []
    for result, probe in shown_probes(results):
        shares = shares_of(probe)
        if shares is None or len(shares) <= MOST_CLASSES:
            continue
        wrong = shares * (1 - np.eye(len(shares)))
        order = np.argsort(-wrong, axis=None, kind="stable")[:_PAIRS]
        rows += [
            (
                clean(result.dataset),
                clean(result.model),
                clean(probe.classes[true].name),
                clean(probe.classes[named].name),
                percent(wrong[true, named]),
            )
            for true, named in zip(*np.unravel_index(order, wrong.shape), strict=True)
            if wrong[true, named]
        ]
    text = f"The classes most often taken for one another in datasets of more than {MOST_CLASSES} classes."
    return Section("Confused pairs", text, Table(columns, rows))


def _quality(one: ClassScore) -> float:
    return (one.f1 if one.f1 is not None else one.average_precision) or 0.0


def _mostly_taken_for(probe: ProbeScore, shares: NDArray[np.float64] | None, index: int) -> str:
    if shares is None:
        return "–"
    wrong = np.where(np.arange(len(shares)) == index, 0, shares[index])
    named = int(wrong.argmax())
    return f"{clean(probe.classes[named].name)} ({percent(wrong[named])} %)" if wrong[named] else "–"


def _classes(results: Sequence[Result]) -> Section:
    columns = (
        *columns_of("dataset", "model"),
        Column("Class"),
        Column("Test clips", "", True),
        Column("Precision", "%", True),
        Column("Recall", "%", True),
        Column("F1 or average precision", "%", True),
        Column("Mostly taken for"),
    )
    rows = []
    for result, probe in shown_probes(results):
        shares = shares_of(probe)
        tested = [index for index, one in enumerate(probe.classes) if one.clips]
        rows += [
            (
                clean(result.dataset),
                clean(result.model),
                clean(probe.classes[index].name),
                f"{probe.classes[index].clips:,}",
                optional_percent(probe.classes[index].precision),
                optional_percent(probe.classes[index].recall),
                percent(_quality(probe.classes[index])),
                _mostly_taken_for(probe, shares, index),
            )
            for index in sorted(tested, key=lambda index: _quality(probe.classes[index]))
        ]
    text = (
        "How the best model's first probe does on each class, the hardest first. results.json holds the classes and "
        "confusion matrix of every model and probe."
    )
    return Section("Classes", text, Table(columns, rows))
