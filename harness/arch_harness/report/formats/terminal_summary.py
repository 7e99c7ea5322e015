"""A run on a terminal's first screen: one table, then a few lines that say what to deploy and what to beware of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rich.table import Table as RichTable
from rich.text import Text

from arch_harness.report.choice.caveats import caveats
from arch_harness.report.choice.choose import choose
from arch_harness.report.choice.summary import front_on
from arch_harness.report.choice.verdict import STAR, headline, price_line
from arch_harness.report.formats.terminal_ablations import terminal_ablations
from arch_harness.report.text.numbers import UNKNOWN, clean, number
from arch_harness.report.text.overview import ordered_results
from arch_harness.report.text.remarks import failures_line, remarks
from arch_harness.report.text.speed.timing import limits_line
from arch_harness.report.text.tables import CARRIED_MARK, Column, Table, cells_of, columns_of
from arch_harness.results import rows
from arch_harness.results.repeats import LATENCIES, mean_of, point_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

    from arch_harness.report.choice.choose import Choice
    from arch_harness.results.measurement import Measurement
    from arch_harness.results.run import Result, Run

MOST_LINES = 10
"""Lines below the table, the report's path included."""

_LONGEST = 3  # lines of one warning
_GAP = 2
_SHOWN = columns_of("score", "interval", "clips_per_s")
_OF_PROBES = columns_of("dataset", "model", "probe", "score_metric", "score", "score_std", "interval", "chance")
_LOADS = ("equal_p99_ms", "paced_p99_ms", "p99_ms")  # of a p99 the first that is known: models compare at an equal rate


@dataclass(frozen=True)
class Line:
    """A sentence below the table.

    Attributes:
        text: of any length.
        style: of rich; empty for none.
        can_go: whether it is left out, and counted, where there is no room.
    """

    text: str
    style: str = ""
    can_go: bool = False


class TerminalSummary:
    """A rich renderable, as wide as the terminal at most; with `soft_wrap` a line for each row and sentence.

    Args:
        run: what it is of.
        taken: lines that are printed below it, of the `MOST_LINES`.
    """

    def __init__(self, run: Run, taken: int = 1) -> None:
        choice = choose(run)
        self._table = summary_table(choice)
        self._lines = summary_lines(choice)
        self._room = MOST_LINES - taken
        self._run = run

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lay it out for the width at hand."""
        if self._table.rows:
            yield from narrow_table(self._table, options)
            yield Text()
        yield from terminal_ablations(self._run)
        yield from fitted(self._lines, self._room, console, options)


class TerminalScores:
    """A rich renderable like `TerminalSummary`, with the scores of every probe and no speed.

    The arguments are those of `TerminalSummary`.
    """

    def __init__(self, run: Run, taken: int = 1) -> None:
        facts = {one.id: one for one in run.datasets}
        found = [
            cells_of(_OF_PROBES, rows.row(result, probe, dataset=facts[result.dataset]))
            for result in run.results
            for probe in result.probes
        ]
        self._table = Table(tuple(map(_brief, _OF_PROBES)), found)
        failed = Line(failures_line(run), "yellow" if run.failed else "")
        self._lines = [*(Line(text, "yellow", can_go=True) for text in remarks(run)), failed]
        self._room = MOST_LINES - taken

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lay it out for the width at hand."""
        yield from narrow_table(self._table, options)
        yield Text()
        yield from fitted(self._lines, self._room, console, options)


def summary_table(choice: Choice) -> Table:
    """A row for each model and dataset, a star before those on the dataset's front; pairs without a score last."""
    run = choice.scores.run
    facts = {one.id: one for one in run.datasets}
    columns = (
        *columns_of("dataset"),
        Column(""),
        *columns_of("model"),
        *map(_brief, _SHOWN),
        replace(columns_of("p99_ms")[0], id=""),
        Column("at"),
    )
    found: list[tuple[str, ...]] = []
    for dataset in run.datasets:
        ahead = front_on(choice.scores, dataset.id)
        for result in [one for one in ordered_results(run) if one.dataset == dataset.id]:
            star = STAR if result.model in ahead else ""
            values = rows.row(result, None, dataset=facts[result.dataset])
            names = clean(result.dataset), star, clean(result.model)
            found.append((*names, *cells_of(_SHOWN, values), *_latency(result)))
        unscored = [one for one in run.unscored if one.dataset == dataset.id]
        found += [(clean(one.dataset), "", clean(one.model), *[UNKNOWN] * 5) for one in unscored]
    return Table(columns, found)


def _brief(column: Column) -> Column:
    return replace(column, title=column.title.removeprefix("95 % "))


def _latency(result: Result) -> tuple[str, str]:
    """p99 and its load."""
    if (one := result.measurement) is not None:
        for figure in _LOADS:
            if (p99 := mean_of(one, figure)) is not None:
                return number(p99) + (CARRIED_MARK if result.carried else ""), _load(one, figure)
    return UNKNOWN, UNKNOWN


def _load(measurement: Measurement, figure: str) -> str:
    point = point_of(measurement, LATENCIES[figure][0])
    if point is None:
        return UNKNOWN
    return f"{number(point.rate)}/s" if point.rate else f"{point.in_flight or 0} in flight"


def summary_lines(choice: Choice) -> list[Line]:
    """What to deploy and at what price, what warns of it, and what limited the throughput."""
    run = choice.scores.run
    limit = limits_line(run.results)
    paid = price_line(choice, choice.deploy) if choice.deploy else ""
    return [
        Line(headline(choice), "bold"),
        *([Line(paid)] if paid else []),
        *(Line(text, "yellow", can_go=True) for text in caveats(choice)),
        *([Line(limit)] if limit else []),
    ]


def narrow_table(data: Table, options: ConsoleOptions) -> RenderResult:
    """A table without lines, names folded where it would be too wide; a line for each row where nothing is wrapped."""
    table = RichTable(box=None, padding=(0, _GAP, 0, 0), pad_edge=False)
    for column in data.columns:
        table.add_column(
            Text(f"{column.title}\n{column.unit}".rstrip()),
            justify="right" if column.numeric else "left",
            no_wrap=column.numeric or not column.id,
            overflow="fold",
        )
    for row in data.rows:
        table.add_row(*map(Text, row))
    if not options.no_wrap:
        yield table
        return
    widths = [
        max(len(text) for text in (one.header, *(row[place] for row in data.rows)))
        for place, one in enumerate(data.columns)
    ]
    for row in (tuple(one.header for one in data.columns), *data.rows):
        cells = [
            text.rjust(width) if column.numeric else text.ljust(width)
            for text, width, column in zip(row, widths, data.columns, strict=True)
        ]
        yield Text((" " * _GAP).join(cells).rstrip())


def fitted(lines: Sequence[Line], most: int, console: Console, options: ConsoleOptions) -> Iterator[Text]:
    """The sentences on so many lines of a terminal at most: those that can be cut are, and what has no room is counted.

    Args:
        lines: in the order in which they are shown.
        most: lines of the terminal, at its width.
        console: that they are for.
        options: of it.
    """
    laid = [_laid(line, console, options) for line in lines]
    left = most - sum(len(texts) for line, texts in zip(lines, laid, strict=True) if not line.can_go)
    behind = sum(line.can_go for line in lines)
    for line, texts in zip(lines, laid, strict=True):
        if not line.can_go:
            yield from texts
            continue
        # One is kept for those behind it, be it only to count them.
        room = min(_LONGEST, left - (behind > 1))
        if room > 0:
            behind, left = behind - 1, left - min(room, len(texts))
            yield from _cut(texts, room, options.max_width)
        elif left > 0:
            left = 0
            yield Text(f"and {behind} more {'warning' if behind == 1 else 'warnings'}: see the report", line.style)


def _laid(line: Line, console: Console, options: ConsoleOptions) -> list[Text]:
    """A sentence on the lines that it takes."""
    text = Text(line.text, line.style)
    if options.no_wrap:
        return [text]
    found = list(text.wrap(console, options.max_width))
    for one in found:
        one.rstrip()
    return found


def _cut(texts: list[Text], most: int, width: int) -> list[Text]:
    if len(texts) <= most:
        return texts
    kept = texts[:most]
    kept[-1].truncate(width - 2)
    kept[-1].append(" …")
    return kept
