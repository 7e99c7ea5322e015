"""A tuning for a terminal of 80 columns, and as files: `tune.json` and `tune.html`, which is self-contained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from arch_common.files import whole_file
from rich.table import Table as RichTable
from rich.text import Text

from arch_harness.report.formats.html import inline_svg
from arch_harness.report.formats.templates import template_environment
from arch_harness.report.text.numbers import UNKNOWN, percent
from arch_harness.tuning.plots import draw_tuning
from arch_harness.tuning.sentences import effort, method, name_of, ordered, rate_text, tune_text

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from arch_harness.tuning.results import TunedPoint, TuneReport

PAGE, FIGURES = "tune.html", "tune.json"
_ROWS = 6


def write_tuning(report: TuneReport, folder: Path) -> None:
    """Write both files into a folder that is there.

    Raises:
        ArchError: if one cannot be written.
    """
    for name, content in ((FIGURES, report.to_json()), (PAGE, render_tuning(report).encode(errors="replace"))):
        with whole_file(folder / name) as file:
            file.write(content)


def render_tuning(report: TuneReport) -> str:
    """One document, without script or request."""
    environment = template_environment("arch_harness.tuning")
    environment.filters["inline"] = inline_svg
    return environment.get_template("tune.html.j2").render(
        page=tune_text(report), report=report, groups=draw_tuning(report), method=method(report)
    )


class TerminalTuning:
    """A rich renderable: the front and the next fastest, what must be known, the winner and its reasons.

    Args:
        report: of the tuning.
    """

    def __init__(self, report: TuneReport) -> None:
        self._report = report

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lay it out for the width at hand."""
        report, text = self._report, tune_text(self._report)
        yield Text(text.title, style="bold")
        table = RichTable(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
        table.add_column("", overflow="fold", max_width=38)
        for header in ("clips/s", "score %", "loss pt"):
            table.add_column(header, justify="right", no_wrap=True)
        ranked = ordered(report)
        shown = [one for one in ranked if one.on_front]
        for one in [*shown, *[one for one in ranked if not one.on_front and one.rate > 0]][: max(len(shown), _ROWS)]:
            table.add_row(*self._row(one), style="bold" if one.chosen else "")
        yield table
        yield Text(f"★ on the front. {effort(report)}.", style="dim")
        for line in text.warnings:
            yield Text(f"warning: {line}", style="yellow")
        for line in text.lead:
            yield Text(line)

    def _row(self, point: TunedPoint) -> tuple[Text, ...]:
        report = self._report
        form = report.forms[point.form]
        return (
            Text(("★ " if point.on_front else "  ") + name_of(report, point)),
            Text(rate_text(point)),
            Text(UNKNOWN if form.score is None else percent(form.score)),
            Text(UNKNOWN if form.loss is None else percent(form.loss)),
        )
