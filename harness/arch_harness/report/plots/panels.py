"""What all drawings of models have in common: a model's look, the figure with its legend, and rows, one a model."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from arch_harness.report.plots.style import FAINT, colour_and_marker
from arch_harness.report.text.numbers import clean, shorten
from arch_harness.report.text.tables import CARRIED_MARK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from arch_harness.results.measurement import Measurement
    from arch_harness.results.run import Result, Run

_WIDTH = 4.4  # inches; on a phone the plot is shown at about 1:1, so the text stays readable
_EDGES = 0.95  # inches: title, tick labels and the axis' name
_LINE = 0.19  # inches: a line of a legend
_NAME = 44  # characters of a name
_HALF = 26  # of these, what fits into half the width


@dataclass(frozen=True)
class Look:
    """How a model is drawn, the same in every plot."""

    name: str
    colour: str
    marker: str

    def handle(self) -> Line2D:
        """The model in a legend."""
        return point(self, label=self.name)


@dataclass(frozen=True)
class Panel:
    """What one drawing shows.

    Attributes:
        dataset: its name.
        results: of the dataset, in the order of the run's models.
        looks: by the model's name.
        cores: of the client's machine.
        incomplete: whether a part of the dataset is missing.
    """

    dataset: str
    results: Sequence[Result]
    looks: dict[str, Look]
    cores: int
    incomplete: bool

    @property
    def title(self) -> str:
        """The dataset, and whether it is incomplete."""
        return title_of(self.dataset, self.incomplete)

    def measured(self) -> Iterator[tuple[Look, Measurement]]:
        """The models that were measured."""
        for result in self.results:
            if result.measurement is not None:
                look = self.looks[result.model]
                yield replace(look, name=look.name + CARRIED_MARK) if result.carried else look, result.measurement

    def figure(self, height: float, handles: Sequence[Artist], columns: int = 0) -> Figure:
        """An empty figure under the panel's title, with a legend below it.

        Args:
            height: of the plot itself, in inches.
            handles: of the legend.
            columns: of the legend; 0 for two where the labels are short enough, and else one.
        """
        short = all(len(str(handle.get_label())) <= _HALF for handle in handles)
        columns = columns or (2 if short else 1)
        lines = math.ceil(len(handles) / columns)
        figure = Figure(figsize=(_WIDTH, height + _EDGES + _LINE * lines), layout="constrained")
        figure.suptitle(shorten(self.title, _NAME), x=0.02, ha="left")
        add_legend(figure, handles, loc="outside lower left", ncols=columns)
        return figure


@dataclass(frozen=True)
class PlotKind:
    """A kind of drawing.

    Attributes:
        name: the first part of its files' names.
        title: of the group.
        text: how to read it.
        label: what a drawing shows, for its text alternative.
        shows: whether a result has what is drawn; the others are left out.
        make: draws the results of one dataset.
    """

    name: str
    title: str
    text: str
    label: str
    shows: Callable[[Result], bool]
    make: Callable[[Panel], Figure]


def title_of(dataset: str, incomplete: bool) -> str:
    """What stands over a drawing: what scores, and whether the scores are of a part of it."""
    return f"{dataset} (incomplete)" if incomplete else dataset


def looks_of(run: Run) -> dict[str, Look]:
    """Every model's look, by its name."""
    return {
        model.name: Look(shorten(clean(model.name), _NAME), *colour_and_marker(index))
        for index, model in enumerate(run.models)
    }


def point(look: Look, x: Sequence[float] = (), y: Sequence[float] = (), **options: Any) -> Line2D:
    """A model's marker."""
    line = Line2D(x, y, linestyle="none", marker=look.marker, color=look.colour, markersize=6.5, **options)
    line.set(markeredgecolor="white", markeredgewidth=0.6, clip_on=False, in_layout=False)
    return line


def add_legend(owner: Figure | Axes, handles: Sequence[Artist], **options: Any) -> None:
    """A legend of `handles`, whatever their labels begin with: matplotlib leaves out names with an underscore there."""
    labels = [str(handle.get_label()) for handle in handles]
    legend = owner.legend(handles, [f" {label}" for label in labels], **options)
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_text(label)


def tick_label(value: float, _: object = None) -> str:
    """The label of a tick."""
    return f"{value:,.6g}" if value < 1e6 else f"{value:,.0f}"


def label_rows(axes: Axes, looks: Sequence[Look], figures: Sequence[str], left: float = 0) -> None:
    """Name the rows: row i of the axes begins at y = i with the model's name and figures, and its drawing is below.

    Args:
        axes: of the drawing.
        looks: of the models, from top to bottom.
        figures: that stand beside their names.
        left: where the names begin, as a share of the axes' width.
    """
    axes.set_ylim(len(looks) - 0.1, -0.1)
    axes.yaxis.set_visible(False)
    axes.spines["left"].set_visible(False)
    across = axes.get_yaxis_transform()
    # On white, so that no grid line runs through the words.
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
    for row, (look, text) in enumerate(zip(looks, figures, strict=True)):
        axes.add_line(point(look, [left + 0.012], [row + 0.15], transform=across))
        for x, words, style in (
            (left + 0.038, look.name, {"size": 8.5}),
            (1, text, {"size": 8, "color": FAINT, "ha": "right"}),
        ):
            axes.text(x, row + 0.15, words, transform=across, va="center_baseline", bbox=box, in_layout=False, **style)
