"""The main table and the failures, for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.cells import cell_len
from rich.table import Table as RichTable
from rich.text import Text

from arch_harness.report.formats.terminal_ablations import terminal_ablations
from arch_harness.report.text.overview import ordered_results, results_table
from arch_harness.report.text.remarks import failures_line, remarks
from arch_harness.report.text.speed.consumption import consumption_section
from arch_harness.report.text.speed.timing import build_timing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, ConsoleOptions, RenderResult

    from arch_harness.report.text.tables import Table
    from arch_harness.results.run import Run

_NAMES = (0, 1)  # the columns that every table repeats: dataset and model
_STARTS = ("clips_per_s", "queue_ms")  # a table is best split before these: throughput, and the server's figures
_GAP = 2


class TerminalReport:
    """A rich renderable: the main table, split into several below one another where the terminal is narrow."""

    def __init__(self, run: Run) -> None:
        self._table = results_table(run)
        self._timing = build_timing(run, ordered_results(run))
        self._taken = consumption_section(run, ordered_results(run))
        self._failures = failures_line(run)
        self._failed = bool(run.failed)
        self._remarks = remarks(run)
        self._run = run

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lay the tables out for the width at hand."""
        tables = (self._timing and self._timing.stages, self._taken and self._taken.table)
        for table in (self._table, *(table for table in tables if table)):
            for chosen, names in _split(table, options.max_width):
                yield _part(table, chosen, names)
                yield Text()
        for sentence in self._timing.sentences if self._timing else []:
            yield Text(sentence)
        yield from terminal_ablations(self._run)
        for sentence in self._remarks:
            yield Text(sentence, style="yellow")
        yield Text(self._failures, style="yellow" if self._failed else "")


def _split(table: Table, width: int) -> Iterator[tuple[list[int], int]]:
    """The numeric columns of each table, and the width that a name may take; a longer one is folded."""
    widths = [
        max(cell_len(text) for text in (column.title, column.unit, *(row[index] for row in table.rows)))
        for index, column in enumerate(table.columns)
    ]
    longest = max(8, width // 4)
    taken = sum(min(widths[index], longest) for index in _NAMES) + _GAP
    chosen: list[int] = []
    used = taken
    if sum(widths) + _GAP * (len(widths) - 1) <= width:
        yield list(range(len(_NAMES), len(widths))), width
        return
    for index in range(len(_NAMES), len(widths)):
        column = table.columns[index]
        end = index + 1
        while column.id in _STARTS and end < len(widths) and table.columns[end].id not in _STARTS:
            end += 1
        if chosen and used + sum(_GAP + needed for needed in widths[index:end]) > width:
            yield chosen, longest
            chosen, used = [], taken
        chosen.append(index)
        used += _GAP + widths[index]
    yield chosen, longest


def _part(data: Table, chosen: list[int], names: int) -> RichTable:
    # The box's own column of blanks and the padding make the gap.
    table = RichTable(box=box.SIMPLE_HEAD, padding=(0, _GAP - 1, 0, 0), pad_edge=False, show_edge=False)
    for index in (*_NAMES, *chosen):
        column = data.columns[index]
        table.add_column(
            Text(f"{column.title}\n{column.unit}".rstrip()),
            justify="right" if column.numeric else "left",
            no_wrap=column.numeric,
            overflow="fold",
            max_width=None if column.numeric else names,
        )
    previous = data.rows[0][0] if data.rows else ""
    for row in data.rows:
        if row[0] != previous:
            table.add_section()
            previous = row[0]
        table.add_row(*(Text(row[index]) for index in (*_NAMES, *chosen)))
    return table
