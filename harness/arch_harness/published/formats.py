"""The formats of a reproduction: terminal, Markdown, HTML, JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arch_common.errors import ArchError
from arch_common.files import whole_file
from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from arch_harness.published.text import build_text
from arch_harness.report.formats.markdown import escape_markdown
from arch_harness.report.formats.templates import template_environment

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console, ConsoleOptions, RenderResult

    from arch_harness.published.reproduction import Reproduction
    from arch_harness.report.text.tables import Table

REPRODUCTION = "reproduction"
_NARROW = {"Metric"}  # left out in a terminal


def write_reproduction(found: Reproduction, folder: Path) -> list[Path]:
    """Write `reproduction.json`, `.md` and `.html` into a run's folder, each whole or not at all.

    Returns:
        The files written.

    Raises:
        ArchError: if one cannot be written.
    """
    text, environment = build_text(found), template_environment()
    environment.filters["md"] = escape_markdown
    contents = {folder / f"{REPRODUCTION}.json": found.to_json() + b"\n"}
    for kind in ("md", "html"):
        page = environment.get_template(f"{REPRODUCTION}.{kind}.j2").render(found=text)
        contents[folder / f"{REPRODUCTION}.{kind}"] = page.encode(errors="replace")
    for path, content in contents.items():
        try:
            with whole_file(path) as file:
                file.write(content)
        except OSError as error:
            raise ArchError(f"cannot write {path}: {error.strerror or error}") from error
    return list(contents)


class TerminalReproduction:
    """A rich renderable: the tables, and what the numbers behind a verdict stand for."""

    def __init__(self, found: Reproduction) -> None:
        self._text = build_text(found)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lay the tables out for the width at hand."""
        yield Text(self._text.title, style="bold")
        if self._text.results.rows:
            yield _table(self._text.results)
        for place, reason in enumerate(self._text.reasons, 1):
            yield Text(f"[{place}] {reason}")
        if self._text.pairs is not None:
            yield Text()
            yield _table(self._text.pairs)
        for line in self._text.left_out:
            yield Text(f"left out: {line}", style="yellow")
        yield Text(self._text.summary)


def _table(data: Table) -> RichTable:
    shown = [place for place, column in enumerate(data.columns) if column.title not in _NARROW]
    table = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for place in shown:
        column = data.columns[place]
        table.add_column(
            Text(f"{column.title}\n{column.unit}".rstrip()),
            justify="right" if column.numeric else "left",
            overflow="fold",
            no_wrap=column.numeric,
        )
    for row in data.rows:
        table.add_row(*(Text(row[place]) for place in shown))
    return table
