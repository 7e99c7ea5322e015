"""What tables are made of, whatever the format: columns, rows of formatted cells, and what the numbers mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Column:
    """A column of a table: its header, unit and alignment."""

    title: str
    unit: str = ""
    numeric: bool = False

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
    """A table with a title and a sentence on how to read it."""

    title: str
    text: str
    table: Table


@dataclass(frozen=True)
class Meaning:
    """What the numbers of one or more columns mean."""

    term: str
    text: str
