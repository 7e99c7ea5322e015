"""An analysis, drawn: layers against layers, dimensions over layers, neighbours over datasets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from arch_harness.report.plots.panels import add_legend, looks_of, point
from arch_harness.report.plots.plot_kinds import draw_plots
from arch_harness.report.plots.scores import LAYERS_PLOT
from arch_harness.report.plots.style import FAINT, styled
from arch_harness.report.plots.svg import Plot, PlotGroup, as_svg, file_names
from arch_harness.report.text.numbers import clean, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from numpy.typing import NDArray

    from arch_harness.analysis.analyse import Analysis, DatasetAnalysis, Neighbourhood
    from arch_harness.report.plots.panels import Look
    from arch_harness.results.run import Run

_WIDTH, _NAME, _TITLE = 4.4, 20, 40  # inches, and characters
_NUMBERED = 10  # rows up to which cells hold numbers
_COLOURS = "cividis"  # read alike by colour-blind readers, and in grey


def draw_analysis(run: Run, analysis: Analysis) -> list[PlotGroup]:
    """The drawings, a group for each question that has any."""
    looks = looks_of(run)
    datasets = [clean(one.dataset) for one in analysis.datasets]
    with styled():
        alike = [
            Plot(file, f"{name}: CKA of every layer with every other", as_svg(_alike(name, one)))
            for file, name, one in zip(file_names("cka", datasets), datasets, analysis.datasets, strict=True)
        ]
        ranks = [
            Plot(file, f"{name}: effective rank over layers", as_svg(_ranks(name, one, looks)))
            for file, name, one in zip(file_names("rank", datasets), datasets, analysis.datasets, strict=True)
        ]
        models = [clean(one.model) for one in analysis.neighbourhoods]
        near = [
            Plot(file, f"{name}: datasets of the nearest neighbours", as_svg(_near(name, one)))
            for file, name, one in zip(file_names("neighbours", models), models, analysis.neighbourhoods, strict=True)
        ]
    groups = [
        *draw_plots(run, (LAYERS_PLOT,)),
        PlotGroup(
            "Which layers are alike",
            "Linear CKA, unbiased, of each layer with each other, all models on the same clips: 1 is the same up to "
            "rotation and scale, 0 unrelated. Lines part the models; layers grow to the right and downwards.",
            alike,
        ),
        PlotGroup(
            "How many dimensions are used",
            "The effective rank of each layer's mean states. Where it falls, clips differ in fewer directions.",
            ranks,
        ),
        PlotGroup(
            "Neighbours across domains",
            "Rows: whose clips. Columns: of which dataset their nearest neighbours are, in percent of the row.",
            near,
        ),
    ]
    return [group for group in groups if group.plots]


def _alike(title: str, one: DatasetAnalysis) -> Figure:
    models = list(dict.fromkeys(layer.model for layer in one.layers))
    counts = [sum(layer.model == model for layer in one.layers) for model in models]
    figure = Figure(figsize=(_WIDTH, _WIDTH), layout="constrained")
    figure.suptitle(shorten(title, _TITLE), x=0.02, ha="left")
    axes = figure.add_subplot()
    cells = _cells(axes, np.array(one.cka), 1)
    ends = np.cumsum(counts)
    for end in ends[:-1]:
        axes.axhline(end - 0.5, color="white", linewidth=1.5)
        axes.axvline(end - 0.5, color="white", linewidth=1.5)
    if len(models) == 1:
        axes.set_xlabel(f"Layer of {shorten(clean(models[0]), _TITLE)}")
        axes.set_ylabel("Layer")
        axes.xaxis.set_major_locator(MaxNLocator(9, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(9, integer=True))
    else:
        middles, names = ends - (np.array(counts) + 1) / 2, [shorten(clean(model), _NAME) for model in models]
        axes.set_xticks(middles, names, rotation=90, size=8)
        axes.set_yticks(middles, names, size=8)
    scale = figure.colorbar(cells, ax=axes, shrink=0.6, label="CKA")
    if scale.solids is not None:
        scale.solids.set_rasterized(False)  # a page without pictures in it
    return figure


def _cells(axes: Axes, values: NDArray[np.float64], most: float) -> QuadMesh:
    """A square for each of the values [rows, columns], whose middle is at its position, the first row on top."""
    edges = np.arange(len(values) + 1) - 0.5
    axes.set(aspect="equal")
    axes.grid(visible=False)
    cells = axes.pcolormesh(edges, edges, values, vmin=0, vmax=most, cmap=_COLOURS)
    axes.invert_yaxis()
    return cells


def _ranks(title: str, one: DatasetAnalysis, looks: dict[str, Look]) -> Figure:
    models = list(dict.fromkeys(layer.model for layer in one.layers))
    figure = Figure(figsize=(_WIDTH, 3.2 + 0.19 * len(models)), layout="constrained")
    figure.suptitle(shorten(title, _TITLE), x=0.02, ha="left")
    add_legend(figure, [looks[model].handle() for model in models], loc="outside lower left", ncols=1)
    axes = figure.add_subplot()
    for model in models:
        look = looks[model]
        found = [rank for rank in one.ranks if rank.layer.model == model]
        if len(found) == 1:  # no layers: a line across, so that it can be compared with any
            axes.axhline(found[0].rank, color=look.colour, linestyle=":", linewidth=1.2)
            axes.add_line(point(look, [0], [found[0].rank]))
            continue
        places, values = [rank.layer.layer or 0 for rank in found], [rank.rank for rank in found]
        axes.plot(places, values, color=look.colour, marker=look.marker, markersize=3.5, linewidth=1.2)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("Layer (0 enters the first transformer layer)")
    axes.set_ylabel(f"Effective rank, {one.clips:,} clips")
    axes.xaxis.set_major_locator(MaxNLocator(9, integer=True))
    return figure


def _near(title: str, one: Neighbourhood) -> Figure:
    names = _with_domains(one.datasets, one.domains)
    figure = Figure(figsize=(_WIDTH, _WIDTH), layout="constrained")
    figure.suptitle(shorten(title, _TITLE), x=0.02, ha="left")
    axes = figure.add_subplot()
    shares = 100 * np.array(one.shares, dtype=np.float64)
    _cells(axes, shares, 100)
    places = range(len(names))
    axes.set_xticks(places, names, rotation=90, size=8)
    axes.set_yticks(places, names, size=8)
    if len(names) <= _NUMBERED:
        for row in places:
            for column in places:
                ink = "black" if shares[row, column] > 55 else "white"
                number = f"{shares[row, column]:.0f}"
                axes.text(column, row, number, ha="center", va="center", size=8, color=ink)
    axes.set_xlabel("Dataset of the neighbours", color=FAINT, size=8)
    axes.set_ylabel("Dataset of the clip", color=FAINT, size=8)
    return figure


def _with_domains(datasets: Sequence[str], domains: Sequence[str]) -> list[str]:
    return [f"{shorten(clean(name), _NAME)}\n({domain})" for name, domain in zip(datasets, domains, strict=True)]
