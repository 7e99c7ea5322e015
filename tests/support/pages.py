"""What a report shows, read back from its formats."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

from arch_harness.report import TerminalReport
from rich.console import Console

if TYPE_CHECKING:
    from arch_harness.results.run import Run


class Page(HTMLParser):
    """The texts, cells and references of a page; `problems` lists tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.problems: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.cells: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        self.problems += self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "td":
            self.cells.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] == "td":
            self.cells[-1] += data


VOID = {"meta", "br", "img", "link", "hr", "input"}


def markdown_rows(text: str) -> list[tuple[str, ...]]:
    """The cells of every table row, escapes undone."""
    rows = []
    for line in text.splitlines():
        if line.startswith("| "):
            cells = re.split(r"(?<!\\) \| ", line[2:-2])
            plain = [re.sub(r"\\(.)", r"\1", cell) for cell in cells]
            rows.append(tuple(c.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") for c in plain))
    return rows


def terminal(run: Run, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(TerminalReport(run))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()
