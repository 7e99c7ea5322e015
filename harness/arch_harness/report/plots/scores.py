"""Scores, drawn: against the throughput, and layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from arch_harness.report.plots.panels import PlotKind, point, tick_label
from arch_harness.report.plots.style import FAINT
from arch_harness.results.metric_definitions import METRICS
from arch_harness.results.repeats import mean_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from arch_harness.report.plots.panels import Panel
    from arch_harness.results.run import Result

_HEIGHT = 2.3  # inches
_CHANCE = (0, (5, 3))  # dashes


def _score(panel: Panel) -> Figure:
    figure = panel.figure(_HEIGHT, [look.handle() for look, _ in panel.measured()])
    axes = figure.add_subplot()
    values, speeds = [], [mean_of(one, "clips_per_s") or 0.0 for _, one in panel.measured()]
    for result, speed in zip(panel.results, speeds, strict=True):
        look, score = panel.looks[result.model], 100 * result.score
        if result.interval:
            ends = [100 * result.interval.low, 100 * result.interval.high]
            axes.plot([speed] * 2, ends, color=look.colour, linewidth=1.2)
            values += ends
        axes.add_line(point(look, [speed], [score], zorder=3))
        values.append(score)
    _score_axis(axes, panel.results, values)
    _speed_axis(axes, speeds)
    return figure


def _score_axis(axes: Axes, results: Sequence[Result], values: Sequence[float]) -> None:
    """A vertical axis in percent over the values and chance, with a dashed line at chance."""
    shown = [*values, *(100 * result.chance for result in results)]
    ticks = [
        tick
        for tick in MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(min(shown), max(shown))
        if -1e-9 < tick < 100 + 1e-9
    ]
    axes.set_yticks(ticks)
    axes.set_ylim(ticks[0], ticks[-1])
    axes.set_ylabel(METRICS["score"].label)
    for chance in sorted({round(100 * result.chance, 1) for result in results}):
        axes.axhline(chance, color=FAINT, linestyle=_CHANCE, linewidth=1, zorder=1)
    chance = max(100 * result.chance for result in results)
    axes.annotate(
        f"{METRICS['chance'].header} {chance:.1f}",
        (1, chance),
        xycoords=axes.get_yaxis_transform(),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
        size=8,
        color=FAINT,
    )


def _speed_axis(axes: Axes, speeds: Sequence[float]) -> None:
    low, high, label = min(speeds), max(speeds), METRICS["clips_per_s"].label
    axes.set_xlabel(label)
    if low <= 0 or high / low < 15:
        axes.set_xlim(0, 1.08 * high or 1)
        axes.xaxis.set_major_locator(MaxNLocator(6))
    else:
        axes.set_xlabel(f"{label}, logarithmic")
        axes.set_xscale("log")
        axes.set_xlim(low / 1.4, high * 1.4)
        steps = (1, 2, 5) if high / low < 500 else (1,)
        axes.xaxis.set_major_locator(LogLocator(subs=steps))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(tick_label))


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
    _score_axis(axes, panel.results, values)
    axes.set_xlabel("Layer (0 enters the first transformer layer)")
    axes.xaxis.set_major_locator(MaxNLocator(9, integer=True))
    return figure


SCORE_PLOT = PlotKind(
    "score",
    "Score and throughput",
    "A model further to the right embeds more clips per second; one further up scores higher. The line through "
    "a point is the 95 % interval of its score; the dashed line is chance.",
    "score against clips/s",
    lambda result: result.measurement is not None,
    _score,
)
LAYERS_PLOT = PlotKind(
    "layers",
    "Layers",
    "The linear probe on each layer of a model, with its 95 % interval; the ring marks the best layer, the "
    "dotted line is the probe on a learned weighted sum of all layers.",
    "score over layers",
    lambda result: result.layers is not None,
    _layers,
)
