"""What was found, as one page in the terminal or as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from arch_bench.health.finding import Finding, Level

_MARKS: dict[Level, tuple[str, str]] = {
    "ok": ("ok", "green"),
    "absent": ("absent", "dim"),
    "warning": ("warning", "yellow"),
    "fault": ("FAULT", "bold red"),
}


def faults(found: Sequence[Finding]) -> int:
    """How many faults there are."""
    return sum(one.level == "fault" for one in found)


def summary(found: Sequence[Finding]) -> str:
    """The verdict, in one line."""
    counts = {level: sum(one.level == level for one in found) for level in ("fault", "warning")}
    words = [f"{count} {level}{'' if count == 1 else 's'}" for level, count in counts.items() if count]
    if not words:
        return "arch doctor: nothing is wrong on this machine"
    return f"arch doctor: {', '.join(words)}" + ("" if counts["fault"] else ": arch works")


def page(found: Sequence[Finding]) -> Table:
    """A line for each thing that was looked at, and below it what to do."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in found:
        mark, style = _MARKS[one.level]
        table.add_row(Text(mark, style), _shown(one.topic), _shown(one.found))
        if one.advice:
            table.add_row("", "", Text.assemble(("→ ", style), _shown(one.advice)))
    return table


def _shown(text: str) -> Text:
    """As it is: brackets in it are no markup, and what is no UTF-8 shows as a question mark."""
    return Text(text.encode(errors="replace").decode())


def as_json(found: Sequence[Finding]) -> str:
    """The same for machines: `faults`, and `findings` in the order of the page."""
    content = {"faults": faults(found), "findings": [one.to_dict() for one in found]}
    return json.dumps(content, indent=2, ensure_ascii=False).encode(errors="replace").decode()
