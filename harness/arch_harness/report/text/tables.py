"""What tables are made of, whatever the format: columns, rows of formatted cells, and what the numbers mean.

Header, unit, cell and explanation of a metric all come from its id; see `arch_harness.results.metric_definitions`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from arch_harness.report.text.numbers import UNKNOWN, clean, format_metric
from arch_harness.results.metric_definitions import METRIC_PAIRS, METRICS, meaning
from arch_harness.results.metric_kinds import ATTRIBUTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from arch_harness.results.run import Result

SCORE_METRICS = {"accuracy": "accuracy", "map_macro": "mAP"}
"""How a table names what a score is."""

MARK = "*"
"""Stands behind a score on data of which a part is missing."""

NOT_TOLD = "not told"
"""Stands where neither the server nor the machine tells what a model takes."""

CARRIED_MARK = "†"
"""Stands behind a speed that an earlier run measured."""

_MEASURED_BY = ("client", "Triton's statistics", "operating system")
_OF_THE_RUN = {"clips", "failed", "stored", "memory_mib", "disk_mib", "load_seconds"}

_MARKED = {
    *("score", "macro_f1", "balanced_accuracy", "map_weighted"),
    *("best_layer_score", "last_layer_score", "weighted_sum_score"),
}
_NAMES = ("model", "dataset", "probe")  # need no explanation


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: its header.
        unit: of its numbers.
        numeric: whether it is set to the right.
        id: the metric, pair of metrics or attribute that it shows; empty for one that stands in one table only.
    """

    title: str
    unit: str = ""
    numeric: bool = False
    id: str = ""

    @property
    def header(self) -> str:
        """Title and unit in one line."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


@dataclass(frozen=True)
class Table:
    """Columns and rows of formatted cells."""

    columns: tuple[Column, ...]
    rows: Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class Section:
    """A table with a title, a sentence on how to read it, and what its numbers mean; `rest` is of less interest."""

    title: str
    text: str
    table: Table
    meanings: Sequence[Meaning] = ()
    rest: Table | None = None


@dataclass(frozen=True)
class Meaning:
    """What the numbers of a column mean."""

    term: str
    text: str


def measured_model(result: Result) -> str:
    """A result's model beside what was measured of it, with a mark where an earlier run did that."""
    return clean(result.model) + (CARRIED_MARK if result.carried else "")


def columns_of(*identifiers: str) -> tuple[Column, ...]:
    """The columns of metrics, pairs of metrics and attributes."""
    return tuple(map(_column, identifiers))


def _column(identifier: str) -> Column:
    if identifier in ATTRIBUTES:
        return Column(ATTRIBUTES[identifier].header, id=identifier)
    shown = METRIC_PAIRS.get(identifier) or METRICS[identifier]
    return Column(shown.header, shown.unit, True, identifier)


def cells_of(columns: Iterable[Column], values: Mapping[str, Any]) -> tuple[str, ...]:
    """The cells of a row, of columns that `columns_of` made.

    Args:
        columns: of the table.
        values: by the ids of `arch_harness.results.rows`; what is missing is not known. Where `incomplete` is true,
            scores bear a mark, and where `carried_from` is known, what was measured on the way through the servers.
    """
    return tuple(_cell(column.id, values) for column in columns)


def _cell(identifier: str, values: Mapping[str, Any]) -> str:
    if identifier in METRIC_PAIRS:
        pair = METRIC_PAIRS[identifier]
        first, second = values.get(pair.first), values.get(pair.second)
        if first is None or second is None:
            return UNKNOWN
        text = f"{format_metric(pair.first, first)}{pair.join}{format_metric(pair.second, second)}"
        return text + _marks(pair.first, values)
    value = values.get(identifier)
    if identifier in METRICS:
        return format_metric(identifier, value) + ("" if value is None else _marks(identifier, values))
    if value is None:
        return UNKNOWN
    return SCORE_METRICS[value] if identifier == "score_metric" else clean(str(value))


def _marks(identifier: str, values: Mapping[str, Any]) -> str:
    if identifier in _MARKED:
        return MARK if values.get("incomplete") else ""
    measured = METRICS[identifier].source in _MEASURED_BY and identifier not in _OF_THE_RUN
    return CARRIED_MARK if measured and values.get("carried_from") else ""


def meanings_of(columns: Iterable[Column], known: Iterable[Column] = ()) -> list[Meaning]:
    """What the columns mean, in their order.

    Args:
        columns: of the table.
        known: columns that are explained elsewhere already.
    """
    explained = {*_NAMES, *(column.id for column in known)}
    found = []
    for column in columns:
        if column.id and column.id not in explained:
            found.append(Meaning(column.title, meaning(column.id)))
            explained.add(column.id)
    return found
