"""The report as one self-contained HTML file: inline style and plots, no script, no request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from arch_harness.report.formats.templates import template_environment
from arch_harness.report.plots.style import DARK, variable_of
from arch_harness.results.metric_definitions import meaning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arch_harness.report.plots.svg import Plot, PlotGroup
    from arch_harness.report.text.overview import Overview
    from arch_harness.report.text.tables import Column

_REFERENCE = re.compile(r'(\bid="|url\(#|xlink:href="#)')
_NAMESPACE = re.compile(r' xmlns(:\w+)?="[^"]*"')
_COLOUR = re.compile("|".join(DARK), re.IGNORECASE)
_STYLE = re.compile(r'\bstyle="[^"]*"')
_SIZE = re.compile(r' (?:width|height)="[^"]*"')


def inline_svg(plot: Plot) -> Markup:
    """The plot as an element of the page: ids made unique in it, size left to the style, and a text alternative."""
    svg = plot.svg[plot.svg.index("<svg") :]
    head, body = svg.split(">", 1)
    head = _SIZE.sub("", _NAMESPACE.sub("", head))
    wide = ' class="wide"' if plot.wide else ""
    prefix = plot.file.removesuffix(".svg")
    body = _REFERENCE.sub(lambda match: f"{match[0]}{prefix}-", body)
    body = _STYLE.sub(lambda style: _COLOUR.sub(lambda one: f"var({variable_of(one[0])},{one[0]})", style[0]), body)
    # The drawing is made here from escaped text, so it is safe to take over as it is.
    return Markup(f'{head}{wide} role="img" aria-label="{escape(plot.label)}">{body}')  # noqa: S704


def render_html(
    report: Overview,
    fronts: Sequence[PlotGroup],
    groups: Sequence[PlotGroup],
    timing: Sequence[PlotGroup],
    ablated: Sequence[PlotGroup] = (),
) -> str:
    """The whole HTML document.

    Args:
        report: The text.
        fronts: The plots of score against throughput.
        groups: The other plots of the results.
        timing: The plots of where the time goes.
        ablated: The plots of what the preprocessing changes.
    """
    environment = template_environment()
    environment.filters["inline"] = inline_svg
    terms = {one.term: one.text for one in report.definitions}

    def tip(column: Column) -> str:
        return terms.get(column.title) or (meaning(column.id) if column.id else "")

    return environment.get_template("report.html.j2").render(
        report=report,
        fronts=fronts,
        groups=groups,
        timing=timing,
        ablated=ablated,
        tip=tip,
        dark=[(variable_of(one), other) for one, other in DARK.items()],
    )
