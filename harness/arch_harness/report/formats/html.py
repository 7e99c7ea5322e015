"""The report as one self-contained HTML file: inline style and plots, no script, no request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from arch_harness.report.formats.templates import template_environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arch_harness.report.plots.svg import Plot, PlotGroup
    from arch_harness.report.text.overview import Overview

_REFERENCE = re.compile(r'(\bid="|url\(#|xlink:href="#)')
_NAMESPACE = re.compile(r' xmlns(:\w+)?="[^"]*"')
_SIZE = re.compile(r' (?:width|height)="[^"]*"')


def inline_svg(plot: Plot) -> Markup:
    """The plot as an element of the page: ids made unique in it, size left to the style, and a text alternative."""
    svg = plot.svg[plot.svg.index("<svg") :]
    head, body = svg.split(">", 1)
    head = _SIZE.sub("", _NAMESPACE.sub("", head))
    wide = ' class="wide"' if plot.wide else ""
    prefix = plot.file.removesuffix(".svg")
    body = _REFERENCE.sub(lambda match: f"{match[0]}{prefix}-", body)
    # The drawing is made here from escaped text, so it is safe to take over as it is.
    return Markup(f'{head}{wide} role="img" aria-label="{escape(plot.label)}">{body}')  # noqa: S704


def render_html(
    report: Overview, groups: Sequence[PlotGroup], timing: Sequence[PlotGroup], ablated: Sequence[PlotGroup] = ()
) -> str:
    """The whole HTML document.

    Args:
        report: The text.
        groups: The plots of the results.
        timing: The plots of where the time goes.
        ablated: The plots of what the preprocessing changes.
    """
    environment = template_environment()
    environment.filters["inline"] = inline_svg
    return environment.get_template("report.html.j2").render(
        report=report, groups=groups, timing=timing, ablated=ablated
    )
