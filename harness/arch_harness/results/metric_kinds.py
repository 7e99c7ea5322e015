"""What the table of metrics is made of: numbers, pairs of them, and columns of words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """One number.

    Attributes:
        id: its name in data frames, and where it stands in `results.json`, there too.
        header: its name in tables.
        unit: in tables; `%` is stored as a share, from 0 to 1.
        better: which way is better; empty where neither is.
        meaning: one sentence, or two.
        source: who measured it.
        form: how a table writes it, a format specification, applied to percent where the unit is `%`; empty for about
            three significant digits, and whole numbers in full.
    """

    id: str
    header: str
    unit: str
    better: Literal["higher", "lower", ""]
    meaning: str
    source: Literal["probe", "client", "Triton's statistics", "operating system", "export", "configuration"]
    form: str = ""

    @property
    def label(self) -> str:
        """Header and unit in one line, for a drawing's axis."""
        return f"{self.header} ({self.unit})" if self.unit else self.header


@dataclass(frozen=True)
class MetricPair:
    """Two metrics that a table shows in one column.

    Attributes:
        id: names the column; no column of a data frame.
        header: its name in tables.
        unit: in tables.
        first: the metric that stands first.
        second: the other one.
        join: what stands between them.
        meaning: of both together.
    """

    id: str
    header: str
    unit: str
    first: str
    second: str
    join: str
    meaning: str


@dataclass(frozen=True)
class Attribute:
    """What a row is of, or how it came about: a column that holds no number.

    Attributes:
        id: its name in data frames.
        header: its name in tables.
        meaning: one sentence, or two.
    """

    id: str
    header: str
    meaning: str
