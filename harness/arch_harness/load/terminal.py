"""A load test for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table as RichTable
from rich.text import Text

from arch_harness.load.sentences import answers, runs_table, warnings
from arch_harness.report.text.numbers import clean

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from arch_harness.load.report import LoadReport

# Of a run's columns those that fit into 80 letters; the page has all.
_COLUMNS = (0, 1, 2, 4, 5, 6, 7, 8)


class TerminalLoad:
    """A rich renderable: each model's runs, what must be known, and what it comes to."""

    def __init__(self, report: LoadReport) -> None:
        self._report = report

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lay it out for the width at hand."""
        for one in self._report.models:
            yield Text(clean(one.model.name), style="bold")
            data = runs_table(one)
            table = RichTable(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
            for index in _COLUMNS:
                column = data.columns[index]
                table.add_column(Text(f"{column.title}\n{column.unit}".rstrip()), justify="right", no_wrap=True)
            table.add_column(Text("LoadGen"), no_wrap=True)
            for row in data.rows:
                table.add_row(*(Text(row[index]) for index in _COLUMNS), Text(row[-1].split(":")[0]))
            yield table
            yield Text()
        for line in warnings(self._report):
            yield Text(f"warning: {line}", style="yellow")
        for line in answers(self._report):
            yield Text(line, style="bold")
