"""What is taken for what, drawn.

Each dataset is shown as the first probe of its best model sees it; `results.json` holds every model and probe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from arch_harness.report.plots.panels import add_legend, looks_of, title_of
from arch_harness.report.plots.style import FAINT, INK, styled
from arch_harness.report.plots.svg import Plot, PlotGroup, as_svg, file_names
from arch_harness.report.text.classes import MOST_CLASSES, shares_of, shown_probes
from arch_harness.report.text.numbers import clean, shorten
from arch_harness.report.text.overview import ordered_results
from arch_harness.report.text.remarks import incomplete_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arch_harness.report.plots.panels import Look
    from arch_harness.results.run import Run
    from arch_harness.results.scores import ProbeScore

CONFUSION = "confusion"
"""The first part of the pictures' file names."""

_NUMBERED = 12  # classes up to which the cells hold numbers
_NAME, _TITLE = 22, 40  # characters of the name of a class, and of a dataset
_CELL, _SQUARE, _LETTER = 0.16, 3.0, 0.068  # inches: the smallest cell, the smallest side of all cells, a letter
_RIGHT_COLOUR, _WRONG_COLOUR = "#0072B2", "#D55E00"


def draw_confusion(run: Run) -> list[PlotGroup]:
    """A picture of each single-label dataset with few enough classes; no group if there is none."""
    drawn = []
    for result, probe in shown_probes(ordered_results(run)):
        shares = shares_of(probe)
        if shares is not None and len(shares) <= MOST_CLASSES:
            drawn.append((result, probe, shares))
    if not drawn:
        return []
    plots, looks, incomplete = [], looks_of(run), incomplete_of(run)
    with styled():
        files = file_names(CONFUSION, [clean(result.dataset) for result, _, _ in drawn])
        for file, (result, probe, shares) in zip(files, drawn, strict=True):
            title = title_of(clean(result.dataset), result.dataset in incomplete)
            figure = _picture(title, looks[result.model], probe, shares)
            label = f"{title}: share of each class's clips taken for each class"
            plots.append(Plot(file, label, as_svg(figure), wide=len(shares) * _CELL > _SQUARE * 1.5))
    text = (
        "Rows are the true classes, columns what the best model's first probe took them for. Blue is right, orange "
        "wrong; the darker, the larger the share of the row's clips. Numbers are percent."
    )
    return [PlotGroup("Confusion", text, plots)]


def _picture(title: str, look: Look, probe: ProbeScore, shares: NDArray[np.float64]) -> Figure:
    count = len(shares)
    names = [shorten(clean(one.name), _NAME) for one in probe.classes]
    side, labels = max(_CELL * count, _SQUARE), 0.4 + _LETTER * max(len(name) for name in names)
    figure = Figure(figsize=(labels + side, labels + side + 0.5), layout="constrained")
    figure.suptitle(shorten(title, _TITLE), x=0.02, ha="left")
    add_legend(figure, [look.handle()], loc="outside lower left")
    axes = figure.add_subplot(xlim=(0, count), ylim=(count, 0), aspect="equal")
    axes.grid(visible=False)
    axes.tick_params(labelsize=8 if count <= 20 else 7)
    places = np.arange(count) + 0.5
    axes.set_xticks(places, names, rotation=90)
    axes.set_yticks(places, names)
    axes.hlines(range(1, count), 0, count, color="#EEF0F2", linewidth=0.5, zorder=0)
    axes.vlines(range(1, count), 0, count, color="#EEF0F2", linewidth=0.5, zorder=0)
    for right, colour in ((True, _RIGHT_COLOUR), (False, _WRONG_COLOUR)):
        cells = [(row, column) for row, column in zip(*np.nonzero(shares), strict=True) if (row == column) == right]
        if not cells:
            continue
        # The root keeps a confusion of a few percent visible.
        strengths = [float(shares[one]) ** (1 if right else 0.5) for one in cells]
        squares = [Rectangle((column, row), 1, 1) for row, column in cells]
        collection = PatchCollection(squares, facecolor=colour, edgecolor="none", alpha=strengths)
        axes.add_collection(collection)
        if count <= _NUMBERED:
            for (row, column), strength in zip(cells, strengths, strict=True):
                number = f"{100 * shares[row, column]:.0f}"
                ink = "white" if strength > 0.6 else INK
                if number != "0":
                    axes.text(column + 0.5, row + 0.5, number, ha="center", va="center", size=7.5, color=ink)
    axes.set_xlabel("Taken for", color=FAINT, size=8)
    axes.set_ylabel("True class", color=FAINT, size=8)
    return figure
