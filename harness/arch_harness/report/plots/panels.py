"""Drawings of models side by side: a model's look, a panel with room for its legend, and all kinds for all datasets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from arch_harness.report.plots.svg import FAINT, Plot, PlotGroup, as_svg, file_names, styled
from arch_harness.report.text.numbers import clean, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes

    from arch_harness.results.run import Result, Run

# Okabe and Ito's colours, which colour-blind readers tell apart, without the yellow that is lost on white. Colours and
# markers have no common period, so the first 56 models differ in at least one of them.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#882255")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
QUEUE, COMPUTE = "#C9CED6", "#6B7480"

WIDTH = 4.4  # inches; on a phone the plot is shown at about 1:1, so the text stays readable
LEFT, RIGHT, TOP = 0.18, 0.18, 0.45
AXIS = 0.5  # tick labels and the axis title
LINE = 0.21  # a line of a legend
NAME = 46  # characters of a model's name
_HALF = 26  # of these, what fits into half the width


@dataclass(frozen=True)
class Look:
    """How a model is drawn, the same in every plot."""

    name: str
    colour: str
    marker: str


@dataclass(frozen=True)
class Kind:
    """A kind of drawing.

    Attributes:
        name: the first part of its files' names.
        title: of the group.
        text: how to read it.
        label: what a drawing shows, for its text alternative.
        shows: whether a result has what is drawn; the others are left out.
        make: draws the results of one dataset under a title.
    """

    name: str
    title: str
    text: str
    label: str
    shows: Callable[[Result], bool]
    make: Callable[[str, Sequence[Result], dict[str, Look]], Figure]


def draw(run: Run, kinds: Sequence[Kind]) -> list[PlotGroup]:
    """Draw every kind for every dataset; a kind that no result has anything for makes no group."""
    looks = {model.name: Look(shorten(clean(model.name), NAME), *look(index)) for index, model in enumerate(run.models)}
    place = {name: index for index, name in enumerate(looks)}
    groups = []
    with styled():
        for kind in kinds:
            panels = []
            for dataset in run.datasets:
                found = [result for result in run.results if result.dataset == dataset.id and kind.shows(result)]
                if found:
                    panels.append((clean(dataset.id), sorted(found, key=lambda result: place[result.model])))
            files = file_names(kind.name, [name for name, _ in panels])
            drawn = [
                Plot(file, f"{name}: {kind.label}", as_svg(kind.make(name, results, looks)))
                for file, (name, results) in zip(files, panels, strict=True)
            ]
            if drawn:
                groups.append(PlotGroup(kind.title, kind.text, drawn))
    return groups


def look(index: int) -> tuple[str, str]:
    """Colour and marker of the model at `index`."""
    return _COLOURS[index % len(_COLOURS)], _MARKERS[index % len(_MARKERS)]


def panel(title: str, plot_height: float, legend_lines: int, left: float = LEFT) -> tuple[Axes, Axes]:
    """A figure with room for a title, a plot and a legend: the plot's axes, and the legend's in inches."""
    bottom = AXIS + LINE * legend_lines + 0.08
    height = TOP + plot_height + bottom
    figure = Figure(figsize=(WIDTH, height), facecolor="white")
    figure.text(LEFT / WIDTH, 1 - 0.22 / height, shorten(title, 46), weight="bold", va="center", size=10)
    axes = figure.add_axes(
        (left / WIDTH, bottom / height, (WIDTH - left - RIGHT) / WIDTH, plot_height / height),
    )
    axes.tick_params(length=0)
    legend_height = bottom - AXIS
    legend = figure.add_axes((0, 0, 1, legend_height / height))
    legend.set_axis_off()
    legend.set_xlim(0, WIDTH)
    legend.set_ylim(0, legend_height)
    return axes, legend


def point(axes: Axes, x: float, y: float, look: Look, **options: Any) -> None:
    """A model's marker."""
    line = Line2D([x], [y], linestyle="none", marker=look.marker, color=look.colour, markersize=6.5, **options)
    line.set(markeredgecolor="white", markeredgewidth=0.6)
    axes.add_line(line)
    line.set_clip_on(False)


def names(legend: Axes, results: Sequence[Result], looks: dict[str, Look], lines: int) -> None:
    """Marker and name of each model, in as many columns as the lines ask for."""
    top = lines * LINE
    for index, result in enumerate(results):
        look = looks[result.model]
        x = LEFT + 0.06 + (index // lines) * (WIDTH - LEFT) / 2
        y = top - (index % lines + 0.5) * LINE + 0.04
        point(legend, x, y, look)
        legend.text(x + 0.12, y, look.name, va="center_baseline", size=8)


def legend_lines(results: Sequence[Result], looks: dict[str, Look]) -> int:
    """How many lines `names` needs."""
    halves = all(len(looks[result.model].name) <= _HALF for result in results)
    return math.ceil(len(results) / 2) if halves else len(results)


def tick(value: float) -> str:
    """The label of a tick."""
    return f"{value:,.6g}" if value < 1e6 else f"{value:,.0f}"


def rows(axes: Axes, results: Sequence[Result], looks: dict[str, Look], figures: Sequence[str]) -> None:
    """One row a model: a line with its name and figures, with the space below it for the drawing."""
    axes.set_ylim(len(results) - 0.1, -0.1)
    axes.yaxis.set_visible(False)
    axes.spines["left"].set_visible(False)
    across = axes.get_yaxis_transform()
    for row, (result, text) in enumerate(zip(results, figures, strict=True)):
        look = looks[result.model]
        point(axes, 0.012, row + 0.15, look, transform=across)
        # On white, so that no grid line runs through the words.
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        axes.text(0.038, row + 0.15, look.name, transform=across, va="center_baseline", size=8.5, bbox=box)
        axes.text(
            1, row + 0.15, text, transform=across, va="center_baseline", ha="right", size=8, color=FAINT, bbox=box
        )
