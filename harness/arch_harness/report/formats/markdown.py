"""The report as Markdown, with the plots as files beside it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from arch_harness.report.plots.svg import PlotGroup
    from arch_harness.report.text.overview import Report
    from arch_harness.report.text.tables import Meaning, Table
    from arch_harness.report.text.timing import Timing

_SPECIAL = re.compile(r"[\\`*\[\]|~$#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


def escape(text: str) -> str:
    """`text` so that a Markdown reader shows it as it is, in a table cell too."""
    text = _SPECIAL.sub(lambda match: "\\" + match[0], text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _table(table: Table) -> str:
    lines = [
        "| " + " | ".join(escape(column.header) for column in table.columns) + " |",
        "|" + "|".join("---:" if column.numeric else "---" for column in table.columns) + "|",
    ]
    lines += ["| " + " | ".join(escape(cell) for cell in row) + " |" for row in table.rows]
    return "\n".join(lines)


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _terms(pairs: Iterable[tuple[str, str]]) -> str:
    return _bullets(f"**{escape(term)}**: {escape(text)}" for term, text in pairs)


def _meanings(meanings: Iterable[Meaning]) -> str:
    return _terms((meaning.term, meaning.text) for meaning in meanings)


def _code(text: str) -> str:
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}console\n{text}\n{fence}"


def _plots(groups: Sequence[PlotGroup], folder: str) -> list[str]:
    blocks = []
    for group in groups:
        images = "\n".join(f"![{escape(plot.label)}]({folder}/{plot.file})" for plot in group.plots)
        blocks += [f"### {escape(group.title)}", escape(group.text), images]
    return blocks


def _timing(timing: Timing, groups: Sequence[PlotGroup], folder: str) -> list[str]:
    blocks = [
        "## Where the time goes",
        _bullets(escape(line) for line in timing.sentences),
        _table(timing.stages),
        _meanings(timing.meanings),
        *_plots(groups, folder),
    ]
    for section in timing.more:
        blocks += [f"### {escape(section.title)}", escape(section.text), _table(section.table)]
    return blocks


def render(report: Report, groups: Sequence[PlotGroup], timing: Sequence[PlotGroup], plots_folder: str) -> str:
    """The whole Markdown document.

    Args:
        report: The text.
        groups: The plots of the results.
        timing: The plots of where the time goes.
        plots_folder: Folder of the plot files, relative to the document.
    """
    blocks = [
        f"# {escape(report.title)}",
        escape(report.date),
        "## Summary",
        _bullets(escape(line) for line in report.summary),
        "## Results",
        _table(report.results),
        _meanings(report.meanings),
    ]
    if groups:
        blocks.append("## Plots")
    blocks += _plots(groups, plots_folder)
    if report.timing:
        blocks += _timing(report.timing, timing, plots_folder)
    for section in report.probing:
        blocks += [f"## {escape(section.title)}", escape(section.text), _table(section.table)]
    blocks.append("## Failures")
    for failures in report.failures:
        blocks += [f"### {escape(failures.title)}", _table(failures.table), escape(failures.more)]
    if not report.failures:
        blocks.append("No clip failed.")
    blocks += [
        "## Notes",
        _bullets(escape(note) for note in report.notes) or "None.",
        "## Models",
        _table(report.models),
        _meanings(report.model_meanings),
        "## Datasets",
        _table(report.datasets),
        "## How it was measured",
        _code(report.command),
        _terms(report.method),
        "## Hardware and versions",
        _terms(report.hardware),
        _terms([("Packages", ", ".join(f"{name} {version}" for name, version in report.packages) or "none recorded")]),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"
