"""Scores, drawn: the axis of all such drawings, and layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from arch_harness.report.plots.panels import PlotKind
from arch_harness.report.plots.style import FAINT
from arch_harness.results.metric_definitions import METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from arch_harness.report.plots.panels import Panel

_HEIGHT = 2.3  # inches
_CHANCE = (0, (5, 3))  # dashes


def score_axis(axes: Axes, values: Sequence[float], chances: Sequence[float], label: str) -> None:
    """A vertical axis in percent over the values and chance, with a dashed line at chance.

    Args:
        axes: of the drawing.
        values: that are shown, in percent.
        chances: of the results, shares.
        label: of the axis.
    """
    shown = [*values, *(100 * chance for chance in chances)]
    ticks = [
        tick
        for tick in MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(min(shown), max(shown))
        if -1e-9 < tick < 100 + 1e-9
    ]
    axes.set_yticks(ticks)
    axes.set_ylim(ticks[0], ticks[-1])
    axes.set_ylabel(label)
    for chance in sorted({round(100 * one, 1) for one in chances}):
        axes.axhline(chance, color=FAINT, linestyle=_CHANCE, linewidth=1, zorder=1)
    if chances:
        axes.annotate(
            f"{METRICS['chance'].header} {100 * max(chances):.1f}",
            (1, 100 * max(chances)),
            xycoords=axes.get_yaxis_transform(),
            xytext=(0, 3),
            textcoords="offset points",
            ha="right",
            size=8,
            color=FAINT,
        )


def _layers(panel: Panel) -> Figure:
    ring = Line2D([], [], linestyle="none", marker="o", markersize=9, markerfacecolor="none", markeredgecolor=FAINT)
    dotted = Line2D([], [], linestyle=":", linewidth=1.2, color=FAINT)
    ring.set_label(METRICS["best_layer"].header)
    dotted.set_label(METRICS["weighted_sum_score"].header)
    models = [panel.looks[result.model].handle() for result in panel.results]
    figure = panel.figure(_HEIGHT, [*models, ring, dotted])
    axes = figure.add_subplot()
    values: list[float] = []
    for result in panel.results:
        if result.layers is None:
            continue
        look, layers, best = panel.looks[result.model], result.layers.layers, result.layers.best
        low, high = [100 * one.interval.low for one in layers], [100 * one.interval.high for one in layers]
        places, scores, weighted = (
            [one.layer for one in layers],
            [100 * one.score for one in layers],
            100 * result.layers.weighted_sum,
        )
        axes.fill_between(places, low, high, color=look.colour, alpha=0.12, linewidth=0)
        axes.plot(places, scores, color=look.colour, marker=look.marker, markersize=3.5, linewidth=1.2)
        axes.plot(
            [best.layer], [100 * best.score], "o", markersize=10, markerfacecolor="none", markeredgecolor=look.colour
        )
        axes.axhline(weighted, color=look.colour, linestyle=":", linewidth=1.2)
        values += [*low, *high, weighted]
    score_axis(axes, values, [result.chance for result in panel.results], METRICS["score"].label)
    axes.set_xlabel("Layer (0 enters the first transformer layer)")
    axes.xaxis.set_major_locator(MaxNLocator(9, integer=True))
    return figure


LAYERS_PLOT = PlotKind(
    "layers",
    "Layers",
    "The linear probe on each layer of a model, with its 95 % interval; the ring marks the best layer, the "
    "dotted line is the probe on a learned weighted sum of all layers.",
    "score over layers",
    lambda result: result.layers is not None,
    _layers,
)
