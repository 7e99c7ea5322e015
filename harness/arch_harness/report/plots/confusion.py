"""What is taken for what, drawn.

Each dataset is shown as the first probe of its best model sees it; `results.json` holds every model and probe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from arch_harness.report.plots.svg import FAINT, INK, Plot, PlotGroup, as_svg, file_names, styled
from arch_harness.report.text.classes import MOST_CLASSES, shares_of, shown
from arch_harness.report.text.numbers import clean, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from arch_harness.results.run import Result
    from arch_harness.results.scores import ProbeScore

KIND = "confusion"
"""The first part of the pictures' file names."""

_NUMBERED = 12  # classes up to which the cells hold numbers
_NAME, _MODEL = 22, 46  # characters of the name of a class, and of a model
_CELL, _SQUARE = 0.16, 3.0  # inches: the smallest cell, and the smallest side of all cells
_MARGIN, _LETTER = 0.18, 0.068
_RIGHT_COLOUR, _WRONG_COLOUR = "#0072B2", "#D55E00"


def draw(results: Sequence[Result]) -> list[PlotGroup]:
    """A picture of each single-label dataset with few enough classes; no group if there is none.

    Args:
        results: in the order in which they are shown, the best of a dataset first.
    """
    drawn = []
    for result, probe in shown(results):
        shares = shares_of(probe)
        if shares is not None and len(shares) <= MOST_CLASSES:
            drawn.append((result, probe, shares))
    if not drawn:
        return []
    plots = []
    with styled():
        files = file_names(KIND, [clean(result.dataset) for result, _, _ in drawn])
        for file, (result, probe, shares) in zip(files, drawn, strict=True):
            figure = _picture(result, probe, shares)
            label = f"{clean(result.dataset)}: share of each class's clips taken for each class"
            plots.append(Plot(file, label, as_svg(figure), wide=len(shares) * _CELL > _SQUARE * 1.5))
    text = (
        "Rows are the true classes, columns what the best model's first probe took them for. Blue is right, orange "
        "wrong; the darker, the larger the share of the row's clips. Numbers are percent."
    )
    return [PlotGroup("Confusion", text, plots)]


def _picture(result: Result, probe: ProbeScore, shares: NDArray[np.float64]) -> Figure:
    count = len(shares)
    names = [shorten(clean(one.name), _NAME) for one in probe.classes]
    cell = max(_CELL, _SQUARE / count)
    side, labels = cell * count, 0.25 + _LETTER * max(len(name) for name in names)
    width, height = labels + side + 2 * _MARGIN, 0.65 + side + labels + _MARGIN
    figure = Figure(figsize=(width, height), facecolor="white")
    title, model = shorten(clean(result.dataset), 40), shorten(clean(result.model), _MODEL)
    figure.text(_MARGIN / width, 1 - 0.22 / height, title, weight="bold", va="center", size=10)
    figure.text(_MARGIN / width, 1 - 0.44 / height, model, va="center", size=8, color=FAINT)
    axes = figure.add_axes(
        ((_MARGIN + labels) / width, (_MARGIN + labels) / height, side / width, side / height),
        xlim=(0, count),
        ylim=(count, 0),
    )
    axes.grid(visible=False)
    axes.tick_params(length=0, labelsize=8 if count <= 20 else 7)
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
    axes.set_xlabel("taken for", color=FAINT, size=8)
    axes.set_ylabel("true class", color=FAINT, size=8)
    return figure
