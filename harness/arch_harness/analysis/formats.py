"""An analysis as HTML and JSON, and for a terminal."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.text import Text

from arch_harness.analysis.document import analysis_text
from arch_harness.analysis.drawings import draw_analysis
from arch_harness.report.formats.html import inline_svg
from arch_harness.report.formats.templates import template_environment

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from arch_harness.analysis.analyse import Analysis
    from arch_harness.results.run import Run

_MOST = 20
_CKA_LINES = 6


def analysis_to_html(run: Run, analysis: Analysis) -> str:
    """One self-contained document, without script or request."""
    environment = template_environment("arch_harness.analysis")
    environment.filters["inline"] = inline_svg
    template = environment.get_template("analysis.html.j2")
    return template.render(page=analysis_text(run, analysis), groups=draw_analysis(run, analysis))


def analysis_to_json(analysis: Analysis) -> str:
    """All figures."""
    found = asdict(analysis)
    for one, near in zip(found["neighbourhoods"], analysis.neighbourhoods, strict=True):
        one |= {"same_dataset": near.same_dataset, "same_domain": near.same_domain}
    return json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


class TerminalAnalysis:
    """A rich renderable: what it comes to, a line each."""

    def __init__(self, run: Run, analysis: Analysis) -> None:
        self._text = analysis_text(run, analysis)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lines that the terminal breaks."""
        yield Text(self._text.title, style="bold")
        for line in self._text.warnings:
            yield Text(f"note: {line}", style="yellow")
        for line in self._text.lead[:_MOST]:
            yield Text(line)
        if len(self._text.lead) > _MOST:
            yield Text(f"{len(self._text.lead) - _MOST} more lines are on the page.")
        between = next((one for one in self._text.sections if one.title == "Between models"), None)
        rows = sorted(between.table.rows, key=lambda row: -float(row[4])) if between else []
        for dataset, model, other, last, highest, where in rows[:_CKA_LINES]:
            yield Text(f"{dataset}: CKA of {model} and {other} {last} at the last layers, {highest} at most ({where}).")
        if len(rows) > _CKA_LINES:
            yield Text(f"{len(rows) - _CKA_LINES} more pairs of models are on the page.")
