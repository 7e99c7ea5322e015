"""Preprocessing ablations for a terminal of 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table as RichTable
from rich.text import Text

from arch_harness.report.text.ablations import ablation_lines, interval_points, verdict
from arch_harness.report.text.numbers import clean, percent, points

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from arch_harness.results.run import Run

_MOST = 12


def terminal_ablations(run: Run) -> Iterator[RenderableType]:
    """The largest differences, what all come to, and what could not be; nothing where nothing was ablated."""
    if run.ablations:
        table = RichTable(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
        for title in ("other preprocessing", "setting"):
            table.add_column(Text(title), overflow="fold", max_width=30)
        for title in ("score", "change in points"):
            table.add_column(Text(title), no_wrap=True, justify="right" if title == "score" else "left")
        largest = sorted(run.ablations, key=lambda one: (verdict(one) != "real", -abs(one.difference)))
        for one in largest[:_MOST]:
            change = f"{points(one.difference)} ({interval_points(one)}) {verdict(one)}"
            style = "bold" if verdict(one) == "real" else ""
            name = f"{clean(one.model)} on {clean(one.dataset)}"
            table.add_row(Text(name), Text(one.setting), Text(percent(one.score)), Text(change, style=style))
        yield table
        more = len(largest) - _MOST
        yield Text(" ".join([*ablation_lines(run.ablations), f"{more} more are in the report." if more > 0 else ""]))
    for line in run.unablated:
        yield Text(f"not done: {clean(line)}", style="yellow")
