"""Preprocessing ablations for a terminal of 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table as RichTable
from rich.text import Text

from arch_harness.report.text.ablations import ablation_lines, interval_points, verdict
from arch_harness.report.text.numbers import clean, percent, points, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from arch_harness.results.run import Run

_MOST = 12


def terminal_ablations(run: Run) -> Iterator[RenderableType]:
    """The largest differences, what all come to, and what could not be; nothing where nothing was ablated."""
    if run.ablations:
        table = RichTable(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
        several = len({one.dataset for one in run.ablations}) > 1
        table.add_column(Text("other preprocessing"), overflow="fold", max_width=20)
        table.add_column(Text("of"), overflow="fold", max_width=22)
        for title in ("score", "change in points"):
            table.add_column(Text(title), no_wrap=True, justify="right" if title == "score" else "left")
        largest = sorted(run.ablations, key=lambda one: (verdict(one) != "real", -abs(one.difference)))
        for one in largest[:_MOST]:
            change = f"{points(one.difference)} ({interval_points(one)}) {verdict(one)}"
            style = "bold" if verdict(one) == "real" else ""
            name = shorten(clean(one.model), 22) + (f" on {clean(one.dataset)}" if several else "")
            table.add_row(Text(one.setting), Text(name), Text(percent(one.score)), Text(change, style=style))
        yield table
        more = len(largest) - _MOST
        yield Text(" ".join([*ablation_lines(run.ablations), f"{more} more are in the report." if more > 0 else ""]))
    for line in run.unablated:
        yield Text(f"not done: {clean(line)}", style="yellow")
