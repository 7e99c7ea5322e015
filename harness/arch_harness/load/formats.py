"""A load test for a terminal, and as files: `load.json` and `load.html`, which is self-contained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from arch_common.errors import ArchError
from arch_common.files import whole_file
from rich.table import Table as RichTable
from rich.text import Text

from arch_harness.load.plots import draw_load
from arch_harness.load.sentences import answers, method, network, runs_table, sections, warnings
from arch_harness.report.formats.html import inline_svg
from arch_harness.report.formats.templates import template_environment
from arch_harness.report.text.numbers import clean

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from arch_harness.load.report import LoadReport


def write_load(report: LoadReport, folder: Path) -> None:
    """Write both files into a folder.

    Raises:
        ArchError: if one cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArchError(f"cannot write {folder}: {error.strerror}") from error
    for name, content in (("load.json", report.to_json()), ("load.html", render_page(report).encode(errors="replace"))):
        with whole_file(folder / name) as file:
            file.write(content)


def render_page(report: LoadReport) -> str:
    """One document, without script or request."""
    environment = template_environment("arch_harness.load")
    environment.filters["inline"] = inline_svg
    return environment.get_template("load.html.j2").render(
        report=report,
        answers=answers(report),
        warnings=warnings(report),
        sections=sections(report),
        method=method(report),
        groups=draw_load(report),
    )


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
        if self._report.round_trips:
            yield Text(network(self._report))
        for line in warnings(self._report):
            yield Text(f"warning: {line}", style="yellow")
        for line in answers(self._report):
            yield Text(line, style="bold")
