"""A load test as files: `load.json` and `load.html`, which is self-contained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from arch_common.errors import ArchError
from arch_common.files import whole_file

from arch_harness.load.plots import draw_load
from arch_harness.load.sentences import answers, method, sections, warnings
from arch_harness.report.formats.html import inline_svg
from arch_harness.report.formats.templates import template_environment

if TYPE_CHECKING:
    from arch_harness.load.report import LoadReport


def write_load(report: LoadReport, folder: Path) -> None:
    """Write both files into a folder.

    Raises:
        ArchError: if one cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArchError(f"cannot write {folder}: {error.strerror}") from error
    for name, content in (("load.json", report.to_json()), ("load.html", render_page(report).encode(errors="replace"))):
        with whole_file(folder / name) as file:
            file.write(content)


def render_page(report: LoadReport) -> str:
    """One document, without script or request."""
    environment = template_environment("arch_harness.load")
    environment.filters["inline"] = inline_svg
    return environment.get_template("load.html.j2").render(
        report=report,
        answers=answers(report),
        warnings=warnings(report),
        sections=sections(report),
        method=method(report),
        groups=draw_load(report),
    )
