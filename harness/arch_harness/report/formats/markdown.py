"""The report as Markdown, with the plots as files beside it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from arch_harness.report.formats.templates import template_environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arch_harness.report.plots.svg import PlotGroup
    from arch_harness.report.text.overview import Overview

_SPECIAL = re.compile(r"[\\`*\[\]|~$#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_BLANK_LINES = re.compile(r"\n{3,}")


def escape_markdown(text: str) -> str:
    """`text` so that a Markdown reader shows it as it is, in a table cell too."""
    text = _SPECIAL.sub(lambda match: "\\" + match[0], text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _fenced(text: str) -> str:
    """A block of code, fenced with more backticks than `text` has in a row."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}console\n{text}\n{fence}"


def render_markdown(
    report: Overview,
    fronts: Sequence[PlotGroup],
    groups: Sequence[PlotGroup],
    timing: Sequence[PlotGroup],
    plots_folder: str,
    ablated: Sequence[PlotGroup] = (),
) -> str:
    """The whole Markdown document.

    Args:
        report: The text.
        fronts: The plots of score against throughput.
        groups: The other plots of the results.
        timing: The plots of where the time goes.
        plots_folder: Folder of the plot files, relative to the document.
        ablated: The plots of what the preprocessing changes.
    """
    environment = template_environment()
    environment.filters |= {"md": escape_markdown, "fenced": _fenced}
    environment.globals["folder"] = plots_folder
    template = environment.get_template("report.md.j2")
    text = template.render(report=report, fronts=fronts, groups=groups, timing=timing, ablated=ablated)
    # No text of the report holds a line break, so blank lines are the template's own.
    return _BLANK_LINES.sub("\n\n", text)
