"""The plots, as SVG: one small drawing per question and dataset, which a page may place side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from arch_harness.report.figures import FAINT, INK, Plot, PlotGroup, as_svg, file_names, styled
from arch_harness.report.wording import clean, number, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes

    from arch_harness.results import Result, Run

KINDS = ("score", "latency", "batch-sizes", "layers")
"""The first part of the plots' file names."""

# Okabe and Ito's colours, which colour-blind readers tell apart, without the yellow that is lost on white. Colours and
# markers have no common period, so the first 56 models differ in at least one of them.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#882255")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_QUEUE, _COMPUTE = "#C9CED6", "#6B7480"

_WIDTH = 4.4  # inches; on a phone the plot is shown at about 1:1, so the text stays readable
_LEFT, _RIGHT, _TOP = 0.18, 0.18, 0.45
_AXIS = 0.5  # tick labels and the axis title
_LINE = 0.21  # a line of a legend
_NAME = 46  # characters of a model's name
_HALF = 26  # of these, what fits into half the width


@dataclass(frozen=True)
class _Look:
    """How a model is drawn, the same in every plot."""

    name: str
    colour: str
    marker: str


def look(index: int) -> tuple[str, str]:
    """Colour and marker of the model at `index`."""
    return _COLOURS[index % len(_COLOURS)], _MARKERS[index % len(_MARKERS)]


def draw(run: Run) -> list[PlotGroup]:
    """Draw every plot of `run`; no groups if it has no results."""
    looks = {
        model.name: _Look(shorten(clean(model.name), _NAME), *look(index)) for index, model in enumerate(run.models)
    }
    place = {name: index for index, name in enumerate(looks)}
    panels = []
    for dataset in run.datasets:
        found = [result for result in run.results if result.dataset == dataset.id]
        if found:
            panels.append((clean(dataset.id), sorted(found, key=lambda result: place[result.model])))
    if not panels:
        return []
    kinds: list[tuple[str, str, str, Callable[[str, Sequence[Result], dict[str, _Look]], Figure]]] = [
        (
            "Score and throughput",
            "A model further to the right embeds more clips per second; one further up scores higher. The line through "
            "a point is the 95 % interval of its score; the dashed line is chance.",
            "score against clips/s",
            _score,
        ),
        (
            "Latency",
            "The line of a model leads from the median to the 99th percentile of the latency at the client; the bar "
            "below it is the mean time that a request spent in the server. The figures are p50 and p99.",
            "client latency, and server queue and compute time",
            _latency,
        ),
        (
            "Batch sizes",
            "How often the server executed a model with how many clips at once, as a share of all executions. "
            "The number in a segment is the batch size; darker is larger.",
            "share of executions by batch size",
            _batch_sizes,
        ),
        (
            "Layers",
            "The linear probe on each layer of a model, with its 95 % interval; the ring marks the best layer, the "
            "dotted line is the probe on a learned weighted sum of all layers.",
            "score over layers",
            _layers,
        ),
    ]
    groups = []
    with styled():
        for kind, (title, text, label, make) in zip(KINDS, kinds, strict=True):
            shown = panels
            if make is _layers:
                with_layers = [(name, [one for one in results if one.layers]) for name, results in panels]
                shown = [(name, results) for name, results in with_layers if results]
            files = file_names(kind, [name for name, _ in shown])
            drawn = [
                Plot(file, f"{name}: {label}", as_svg(make(name, results, looks)))
                for file, (name, results) in zip(files, shown, strict=True)
            ]
            if drawn:
                groups.append(PlotGroup(title, text, drawn))
    return groups


def _panel(title: str, plot_height: float, legend_lines: int, left: float = _LEFT) -> tuple[Axes, Axes]:
    """A figure with room for a title, a plot and a legend: the plot's axes, and the legend's in inches."""
    bottom = _AXIS + _LINE * legend_lines + 0.08
    height = _TOP + plot_height + bottom
    figure = Figure(figsize=(_WIDTH, height), facecolor="white")
    figure.text(_LEFT / _WIDTH, 1 - 0.22 / height, shorten(title, 46), weight="bold", va="center", size=10)
    axes = figure.add_axes(
        (left / _WIDTH, bottom / height, (_WIDTH - left - _RIGHT) / _WIDTH, plot_height / height),
    )
    axes.tick_params(length=0)
    legend_height = bottom - _AXIS
    legend = figure.add_axes((0, 0, 1, legend_height / height))
    legend.set_axis_off()
    legend.set_xlim(0, _WIDTH)
    legend.set_ylim(0, legend_height)
    return axes, legend


def _point(axes: Axes, x: float, y: float, look: _Look, **options: Any) -> None:
    line = Line2D([x], [y], linestyle="none", marker=look.marker, color=look.colour, markersize=6.5, **options)
    line.set(markeredgecolor="white", markeredgewidth=0.6)
    axes.add_line(line)
    line.set_clip_on(False)


def _score(title: str, results: Sequence[Result], looks: dict[str, _Look]) -> Figure:
    left = 0.55
    lines = _legend_lines(results, looks)
    axes, legend = _panel(title, 2.5, lines, left)
    for result in results:
        look, score = looks[result.model], 100 * result.score
        if result.interval:
            ends = [100 * result.interval.low, 100 * result.interval.high]
            axes.plot([result.clips_per_s] * 2, ends, color=look.colour, linewidth=1.2)
        _point(axes, result.clips_per_s, score, look, zorder=3)

    ends = [100 * end for r in results if r.interval for end in (r.interval.low, r.interval.high)]
    _score_axis(axes, results, ends + [100 * result.score for result in results])
    _speed_axis(axes, [result.clips_per_s for result in results])

    _names(legend, results, looks, lines)
    return axes.get_figure(root=True)  # type: ignore[return-value]


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
    axes.set_ylabel("score (%)")
    for chance in sorted({round(100 * result.chance, 1) for result in results}):
        axes.axhline(chance, color=FAINT, linestyle=(0, (5, 3)), linewidth=1, zorder=1)
    chance = max(100 * result.chance for result in results)
    axes.annotate(
        f"chance {chance:.1f}",
        (1, chance),
        xycoords=axes.get_yaxis_transform(),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
        size=8,
        color=FAINT,
    )


def _names(legend: Axes, results: Sequence[Result], looks: dict[str, _Look], lines: int) -> None:
    """Marker and name of each model, in as many columns as the lines ask for."""
    top = lines * _LINE
    for index, result in enumerate(results):
        look = looks[result.model]
        x = _LEFT + 0.06 + (index // lines) * (_WIDTH - _LEFT) / 2
        y = top - (index % lines + 0.5) * _LINE + 0.04
        _point(legend, x, y, look)
        legend.text(x + 0.12, y, look.name, va="center_baseline", size=8)


def _legend_lines(results: Sequence[Result], looks: dict[str, _Look]) -> int:
    halves = all(len(looks[result.model].name) <= _HALF for result in results)
    return math.ceil(len(results) / 2) if halves else len(results)


def _layers(title: str, results: Sequence[Result], looks: dict[str, _Look]) -> Figure:
    left, lines = 0.55, _legend_lines(results, looks)
    axes, legend = _panel(title, 2.5, lines, left)
    values: list[float] = []
    for result in results:
        if result.layers is None:
            continue
        look, layers, best = looks[result.model], result.layers.layers, result.layers.best
        low, high = (
            [100 * end for end in ends]
            for ends in zip(*((o.interval.low, o.interval.high) for o in layers), strict=True)
        )
        places = [one.layer for one in layers]
        axes.fill_between(places, low, high, color=look.colour, alpha=0.12, linewidth=0)
        axes.plot(
            places,
            [100 * one.score for one in layers],
            color=look.colour,
            marker=look.marker,
            markersize=3.5,
            linewidth=1.2,
        )
        axes.plot(
            [best.layer], [100 * best.score], "o", markersize=10, markerfacecolor="none", markeredgecolor=look.colour
        )
        axes.axhline(100 * result.layers.weighted_sum, color=look.colour, linestyle=":", linewidth=1.2)
        values += [*low, *high, 100 * result.layers.weighted_sum]
    _score_axis(axes, results, values)
    axes.set_xlabel("layer (0 enters the first transformer layer)")
    axes.xaxis.set_major_locator(MaxNLocator(9, integer=True))
    _names(legend, results, looks, lines)
    return axes.get_figure(root=True)  # type: ignore[return-value]


def _speed_axis(axes: Axes, speeds: Sequence[float]) -> None:
    low, high = min(speeds), max(speeds)
    axes.set_xlabel("clips/s")
    if low <= 0 or high / low < 15:
        axes.set_xlim(0, 1.08 * high or 1)
        axes.xaxis.set_major_locator(MaxNLocator(6))
    else:
        axes.set_xlabel("clips/s (logarithmic)")
        axes.set_xscale("log")
        axes.set_xlim(low / 1.4, high * 1.4)
        steps = (1, 2, 5) if high / low < 500 else (1,)
        axes.xaxis.set_major_locator(LogLocator(subs=steps))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))


def _tick(value: float) -> str:
    return f"{value:,.6g}" if value < 1e6 else f"{value:,.0f}"


def _rows(axes: Axes, results: Sequence[Result], looks: dict[str, _Look], figures: Sequence[str]) -> None:
    """One row a model: a line with its name and figures, with the space below it for the drawing."""
    axes.set_ylim(len(results) - 0.1, -0.1)
    axes.yaxis.set_visible(False)
    axes.spines["left"].set_visible(False)
    across = axes.get_yaxis_transform()
    for row, (result, text) in enumerate(zip(results, figures, strict=True)):
        look = looks[result.model]
        _point(axes, 0.012, row + 0.15, look, transform=across)
        # On white, so that no grid line runs through the words.
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        axes.text(0.038, row + 0.15, look.name, transform=across, va="center_baseline", size=8.5, bbox=box)
        axes.text(
            1, row + 0.15, text, transform=across, va="center_baseline", ha="right", size=8, color=FAINT, bbox=box
        )


def _latency(title: str, results: Sequence[Result], looks: dict[str, _Look]) -> Figure:
    axes, legend = _panel(title, 0.5 * len(results) + 0.1, 2)
    for row, result in enumerate(results):
        colour, latency, server = looks[result.model].colour, result.latency_ms, result.server
        axes.plot([latency.p50, latency.p99], [row + 0.44] * 2, color=colour, linewidth=1.6)
        for value, marker in ((latency.p50, "o"), (latency.p95, "D"), (latency.p99, "|")):
            _latency_mark(axes, value, row + 0.44, marker, colour)
        axes.barh(row + 0.7, server.queue_ms, height=0.18, color=_QUEUE)
        axes.barh(row + 0.7, server.compute_ms, left=server.queue_ms, height=0.18, color=_COMPUTE)
    _rows(axes, results, looks, [f"{number(r.latency_ms.p50)} · {number(r.latency_ms.p99)} ms" for r in results])
    longest = max(max(r.latency_ms.p99, r.server.queue_ms + r.server.compute_ms) for r in results)
    axes.set_xlim(0, 1.04 * longest or 1)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
    axes.set_xlabel("ms")

    for x, marker, text in ((0, "o", "p50"), (0.55, "D", "p95"), (1.1, "|", "p99")):
        _latency_mark(legend, 1.3 + x, 1.5 * _LINE + 0.04, marker, INK)
        legend.text(1.3 + x + 0.1, 1.5 * _LINE + 0.04, text, va="center_baseline", size=8)
    for x, colour, text in ((0, _QUEUE, "queue"), (0.7, _COMPUTE, "compute (means)")):
        legend.barh(0.5 * _LINE + 0.04, 0.14, left=1.23 + x, height=0.1, color=colour)
        legend.text(1.4 + x, 0.5 * _LINE + 0.04, text, va="center_baseline", size=8)
    for line, text in ((1.5, "At the client"), (0.5, "In the server")):
        legend.text(_LEFT, line * _LINE + 0.04, text, va="center_baseline", size=8, color=FAINT)
    return axes.get_figure(root=True)  # type: ignore[return-value]


def _latency_mark(axes: Axes, x: float, y: float, marker: str, colour: str) -> None:
    size = {"o": 6, "D": 4.5, "|": 9}[marker]
    axes.plot([x], [y], linestyle="none", marker=marker, color=colour, markersize=size, markeredgewidth=1.4)


def _batch_sizes(title: str, results: Sequence[Result], looks: dict[str, _Look]) -> Figure:
    largest = max((size for result in results for size in result.server.batch_sizes), default=1)
    shades = matplotlib.colormaps["Blues"]

    def shade(size: int) -> tuple[float, float, float, float]:
        red, green, blue, alpha = shades(0.2 + 0.75 * (math.log2(max(1, size)) / max(1.0, math.log2(max(1, largest)))))
        return red, green, blue, alpha

    axes, legend = _panel(title, 0.42 * len(results) + 0.1, 1)
    for row, result in enumerate(results):
        executions = sum(result.server.batch_sizes.values())
        if not executions:
            axes.text(0.5, row + 0.57, "no executions recorded", size=8, color=FAINT, va="center", ha="left")
        start = 0.0
        for size, count in sorted(result.server.batch_sizes.items()):
            if not count:
                continue
            share = 100 * count / executions
            colour = shade(size)
            axes.barh(row + 0.57, share, left=start, height=0.36, color=colour, edgecolor="white", linewidth=0.6)
            if share >= 1.8 + 1.8 * len(str(size)):
                ink = "white" if sum(colour[:3]) < 1.7 else INK
                axes.text(
                    start + share / 2, row + 0.57, str(size), ha="center", va="center_baseline", size=7.5, color=ink
                )
            start += share
    _rows(axes, results, looks, [f"mean {number(result.server.mean_batch_size)}" for result in results])
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of executions (%)")

    sizes = sorted({2**power for power in range(int(math.log2(max(1, largest))) + 1)} | {largest})
    legend.text(_LEFT, 0.5 * _LINE + 0.04, "Batch size", va="center_baseline", size=8, color=FAINT)
    for index, size in enumerate(sizes):
        x = 1.0 + index * min(0.46, 3.3 / len(sizes))
        legend.barh(0.5 * _LINE + 0.04, 0.13, left=x, height=0.1, color=shade(size))
        legend.text(x + 0.16, 0.5 * _LINE + 0.04, str(size), va="center_baseline", size=8)
    return axes.get_figure(root=True)  # type: ignore[return-value]
