"""Score against throughput, over all datasets and on each: the front, and the models by their names."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from arch_harness.report.choice.summary import front_on
from arch_harness.report.plots.panels import looks_of, point, tick_label, title_of
from arch_harness.report.plots.scores import score_axis
from arch_harness.report.plots.style import FAINT, styled
from arch_harness.report.plots.svg import Plot, PlotGroup, as_svg, file_names
from arch_harness.report.text.numbers import clean, shorten
from arch_harness.results.metric_definitions import METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from arch_harness.report.choice.choose import Choice
    from arch_harness.report.choice.estimates import Estimate
    from arch_harness.report.plots.panels import Look

OVER_ALL, ON_DATASET = "front", "score"
"""The first part of the files' names."""

_WIDTH = 4.4  # inches; as the other plots
_PLOT = 2.55  # inches: of the axes, the names stand to the right of them
_LEAST = 2.3  # inches: the height of the axes
_LINE = 0.145  # inches: a line of a name
_LETTERS, _BOLD_LETTERS = 22, 19  # of a line
_TITLE = 44  # characters
_STEPS = {30.0: (1, 2, 3, 5), 300.0: (1, 3), float("inf"): (1,)}
"""The ticks of a decade, by the ratio of the ends of the axis."""


@dataclass(frozen=True)
class _Spot:
    """A model in a drawing; shares, and clips/s."""

    look: Look
    score: Estimate
    speed: float
    on_front: bool
    chosen: bool

    @property
    def lines(self) -> list[str]:
        """Its name, in lines that fit beside the axes."""
        words = f"{self.look.name} ★" if self.on_front else self.look.name
        return textwrap.wrap(words, _BOLD_LETTERS if self.chosen else _LETTERS) or [words]


def draw_fronts(choice: Choice) -> list[PlotGroup]:
    """A drawing over all datasets, where there are several, and one of each; no group where no speed is known."""
    plots = []
    looks = looks_of(choice.scores.run)
    chosen = choice.deploy.name if choice.deploy else None
    incomplete = {one.id for one in choice.scores.run.datasets if one.incomplete}
    with styled():
        if len(choice.scores.datasets) > 1:
            spots = [
                _Spot(looks[row.name], row.score, row.clips_per_s, row.on_front, row.name == chosen)
                for row in choice.rows
                if row.is_complete and row.clips_per_s
            ]
            if spots:
                title = f"Mean of {len(choice.scores.datasets)} datasets"
                figure = _draw(title_of(title, bool(incomplete)), spots, [], "Mean score (%)")
                plots.append(
                    Plot(f"{OVER_ALL}-over-all.svg", "mean score against clips/s, over all datasets", as_svg(figure))
                )
        shown = [name for name in choice.scores.datasets if any(_spots(choice, looks, name))]
        for name, file in zip(shown, file_names(ON_DATASET, [clean(one) for one in shown]), strict=True):
            chances = sorted({result.chance for (_, dataset), result in choice.scores.of.items() if dataset == name})
            title = title_of(clean(name), name in incomplete)
            figure = _draw(title, _spots(choice, looks, name), chances, METRICS["score"].label)
            plots.append(Plot(file, f"{title}: score against clips/s", as_svg(figure)))
    text = (
        "Further to the right is faster, further up scores higher. The line through a point is the 95 % interval of "
        "its score; the stairs join the front (★): nothing else is better in both. The ring is the model to deploy."
    )
    return [PlotGroup("Score and throughput", text, plots)] if plots else []


def _spots(choice: Choice, looks: dict[str, Look], dataset: str) -> list[_Spot]:
    ahead = front_on(choice.scores, dataset)
    found = []
    for row in choice.rows:
        speed = choice.scores.speed(row.name, dataset)
        if speed and dataset in row.results:
            found.append(_Spot(looks[row.name], row.score_on(dataset), speed, row.name in ahead, row is choice.deploy))
    return found


def _draw(title: str, spots: Sequence[_Spot], chances: Sequence[float], label: str) -> Figure:
    heights = [_LINE * len(spot.lines) + 0.035 for spot in spots]
    height = max(_LEAST, sum(heights))
    figure = Figure(figsize=(_WIDTH, height + 0.82))
    figure.text(0.02, 1 - 0.12 / (height + 0.82), shorten(title, _TITLE), size=10, weight="bold", va="top")
    left, bottom = 0.47 / _WIDTH, 0.46 / (height + 0.82)
    axes = figure.add_axes((left, bottom, _PLOT / _WIDTH, height / (height + 0.82)))
    values = []
    for spot in spots:
        if spot.score.low is not None and spot.score.high is not None:
            ends = [100 * spot.score.low, 100 * spot.score.high]
            axes.plot([spot.speed] * 2, ends, color=spot.look.colour, linewidth=1.2, zorder=2)
            values += ends
        values.append(100 * spot.score.value)
        if spot.chosen:
            ring = point(spot.look, [spot.speed], [100 * spot.score.value], zorder=4)
            ring.set(marker="o", markersize=13, markerfacecolor="none", markeredgecolor=spot.look.colour)
            ring.set(markeredgewidth=1.5)
            axes.add_line(ring)
        axes.add_line(point(spot.look, [spot.speed], [100 * spot.score.value], zorder=3))
    ahead = sorted((spot.speed, 100 * spot.score.value) for spot in spots if spot.on_front)
    axes.plot(*zip(*ahead, strict=True), drawstyle="steps-pre", color=FAINT, linewidth=1, zorder=1)
    near = [chance for chance in chances if 100 * chance > min(values) - (max(values) - min(values) or 1)]
    score_axis(axes, values, near, label)
    if chances and not near:  # so far below that the models would be one line
        figure.text(left + _PLOT / _WIDTH, bottom + 0.02, _below(chances), size=8, color=FAINT, ha="right")
    _speed_axis(axes, [spot.speed for spot in spots])
    _name(axes, spots, [one / height for one in heights])
    return figure


def _below(chances: Sequence[float]) -> str:
    return f"{METRICS['chance'].header} {100 * max(chances):.1f}, below"


def _speed_axis(axes: Axes, speeds: Sequence[float]) -> None:
    low, high = min(speeds) / 1.25, max(speeds) * 1.25
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_xlabel(f"{METRICS['clips_per_s'].label}, logarithmic")
    steps = next(steps for most, steps in _STEPS.items() if high / low < most)
    axes.xaxis.set_major_locator(LogLocator(subs=steps))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(tick_label))


def _name(axes: Axes, spots: Sequence[_Spot], heights: Sequence[float]) -> None:
    """Names in a column to the right, each as near as may be to the height of its point, with a line to it.

    Args:
        axes: with their limits set.
        spots: the models.
        heights: that their names take, as shares of the axes' height; together at most 1.
    """
    low, high = axes.get_ylim()
    wanted = [(100 * spot.score.value - low) / (high - low) for spot in spots]
    order = sorted(range(len(spots)), key=lambda index: (-wanted[index], spots[index].speed))
    for index, middle in zip(order, spread([wanted[i] for i in order], [heights[i] for i in order]), strict=True):
        spot = spots[index]
        axes.annotate(
            "\n".join(spot.lines),
            xy=(spot.speed, 100 * spot.score.value),
            xytext=(1.05, middle),
            textcoords="axes fraction",
            va="center",
            size=7.5,
            weight="bold" if spot.chosen else "normal",
            linespacing=1.05,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": spot.look.colour,
                "alpha": 0.45,
                "linewidth": 0.7,
                "shrinkA": 1,
                "shrinkB": 5,
                "relpos": (0, 0.5),
            },
        )


def spread(wanted: Sequence[float], heights: Sequence[float]) -> list[float]:
    """The middles of labels one below the other in a column from 1 down to 0, none over another.

    Args:
        wanted: where their middles would best be, falling.
        heights: of the labels; together at most 1.
    """
    middles: list[float] = []
    top = 1.0
    for middle, height in zip(wanted, heights, strict=True):
        middles.append(min(middle, top - height / 2))
        top = middles[-1] - height / 2
    bottom = 0.0
    for index in reversed(range(len(middles))):
        middles[index] = max(middles[index], bottom + heights[index] / 2)
        bottom = middles[index] + heights[index] / 2
    return middles
