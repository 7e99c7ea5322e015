"""The report as Markdown, with the plots as files beside it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from arch_harness.report.content import Report
    from arch_harness.report.figures import PlotGroup
    from arch_harness.report.tables import Meaning, Table

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


def render(report: Report, groups: Sequence[PlotGroup], plots_folder: str) -> str:
    """The whole Markdown document.

    Args:
        report: The text.
        groups: The plots.
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
    for group in groups:
        images = "\n".join(f"![{escape(plot.label)}]({plots_folder}/{plot.file})" for plot in group.plots)
        blocks += [f"### {escape(group.title)}", escape(group.text), images]
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
