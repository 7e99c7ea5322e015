"""Speed: the latency beside the load it was measured at, figures over several runs, and models compared."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from arch_harness.report.text.numbers import UNKNOWN, clean, format_metric, number
from arch_harness.report.text.tables import Column, Section, Table, cells_of, columns_of, meanings_of, measured_model
from arch_harness.results.metric_definitions import METRICS
from arch_harness.results.repeats import (
    CONFIDENCE,
    EQUAL_FIGURES,
    RESOLUTION,
    SPEED_FIGURES,
    difference_of,
    point_of,
    same_conditions,
    same_power,
    spread_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from arch_harness.results.measurement import LoadName, LoadPoint, Measurement
    from arch_harness.results.run import Result

LOAD_NAMES: dict[LoadName, str] = {
    "alone": "alone",
    "paced": "70 %",
    "equal rate": "equal rate",
    "saturated": "saturated",
}
"""How tables and plots name a load, in the order in which they are shown."""

_OF_POINT = ("p50_ms", "p95_ms", "p99_ms")


def speed_sections(
    results: Sequence[Result], known: Sequence[Column], asked: Callable[[str, str, str], bool]
) -> list[Section]:
    """The sections on results in the order in which they are shown; those that have nothing to show are left out.

    Args:
        results: of the run.
        known: columns that are explained already.
        asked: whether two models on a dataset (dataset, model, other) are such as someone would compare.
    """
    measured = [(result, result.measurement) for result in results if result.measurement is not None]
    sections = (_loads(measured, known), _runs(measured), _compared(measured, asked))
    return [section for section in sections if section.table.rows]


def loads_of(measurement: Measurement) -> list[LoadPoint]:
    """The latencies to show, of the first run that counts, in the order of their loads."""
    return [point for load in LOAD_NAMES if (point := point_of(measurement, load)) is not None]


def _loads(measured: Iterable[tuple[Result, Measurement]], known: Sequence[Column]) -> Section:
    of_point = columns_of(*_OF_POINT)
    columns = (
        *columns_of("dataset", "model"),
        Column("Load"),
        Column("Places", "", True),
        Column("Rate", "clips/s", True),
        Column("Requests", "", True),
        Column("Answered", "clips/s", True),
        *(Column(column.title, column.unit, True) for column in of_point),
        *columns_of("late_ms", "stalls"),
    )
    found = [
        (clean(result.dataset), measured_model(result), *_point_cells(point))
        for result, one in measured
        for point in loads_of(one)
    ]
    text = (
        "A latency means something only beside the load. Alone: one request in flight. 70 %: clips sent at random "
        "moments at 70 % of the model's own highest rate, whatever is answered. Equal rate: the same, at one rate for "
        "all models on the dataset, where they can be compared. Saturated: as many in flight as give the highest "
        "throughput, where most of a request's time is waiting."
    )
    return Section("Latency by load", text, Table(columns, found), meanings_of(columns, known))


def _point_cells(point: LoadPoint) -> tuple[str, ...]:
    latency = point.latency_ms
    return (
        LOAD_NAMES[point.load],
        UNKNOWN if point.in_flight is None else f"{point.in_flight:,}",
        UNKNOWN if point.rate is None else number(point.rate),
        f"{point.requests:,}",
        number(point.answered_per_s),
        *(format_metric(name, getattr(latency, name[:3]) if latency else None) for name in _OF_POINT),
        *cells_of(columns_of("late_ms", "stalls"), {"late_ms": point.late_ms, "stalls": point.stalls}),
    )


def _runs(measured: Iterable[tuple[Result, Measurement]]) -> Section:
    figures = [name for name in SPEED_FIGURES if not name.endswith("p95_ms")]
    columns = (*columns_of("dataset", "model"), *columns_of("speed_runs", *figures))
    found = []
    for result, one in measured:
        spread = spread_of(one, "clips_per_s")
        if spread is not None and spread.runs > 1:
            cells = [_spread_cell(one, figure) for figure in figures]
            found.append((clean(result.dataset), measured_model(result), str(spread.runs), *cells))
    text = (
        f"Mean over the runs, and the half width of its {100 * CONFIDENCE:.0f} % interval (Student's t), which is wide "
        "for few runs. p50 and p99 without more are of the saturated server."
    )
    return Section("Speed over several runs", text, Table(columns, found))


def _spread_cell(one: Measurement, figure: str) -> str:
    spread = spread_of(one, figure)
    if spread is None:
        return UNKNOWN
    mean = format_metric(figure, spread.mean)
    return mean if spread.half is None else f"{mean} ± {number(spread.half)}"


def _compared(measured: Iterable[tuple[Result, Measurement]], asked: Callable[[str, str, str], bool]) -> Section:
    columns = (
        *columns_of("dataset"),
        Column("Model"),
        Column("against"),
        Column("Figure"),
        Column("Ratio", "", True),
        Column(f"{100 * CONFIDENCE:.0f} % interval", "", True),
        Column("Difference"),
    )
    found: dict[bool, list[tuple[str, ...]]] = {True: [], False: []}
    for _, group in itertools.groupby(measured, key=lambda pair: pair[0].dataset):
        for (result, one), (other, second) in itertools.combinations(list(group), 2):
            for figure in EQUAL_FIGURES if same_conditions(result, other) else ():
                if figure == "joules_per_clip" and not same_power(one, second):
                    continue
                difference = difference_of(one, second, figure)
                if difference is not None:
                    models = measured_model(result), measured_model(other)
                    names = (clean(result.dataset), *models, METRICS[figure].label)
                    interval = f"{difference.low:.2f}–{difference.high:.2f}"
                    row = (*names, f"{difference.ratio:.2f}", interval, difference.verdict)
                    found[asked(result.dataset, result.model, other.model)].append(row)
    text = (
        "Ratios of the figures of two models, with the interval that the runs allow (Welch's t over their logarithms). "
        f"Real: the interval leaves out 1, and the ratio is {100 * RESOLUTION:.0f} % away from it or more; anything "
        "else is no more than noise. Latencies are compared only at loads that are the same for both, energies "
        "only of the same kinds of hardware."
    )
    first = found[True] or found[False]
    rest = Table(columns, found[False] if found[True] else [])
    return Section("Speed compared", text, Table(columns, first), rest=rest)
