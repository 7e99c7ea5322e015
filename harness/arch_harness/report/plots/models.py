"""The plots, as SVG: one small drawing per question and dataset, which a page may place side by side."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import matplotlib
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from arch_harness.report.plots.panels import (
    COMPUTE,
    LEFT,
    LINE,
    QUEUE,
    Kind,
    Look,
    legend_lines,
    names,
    panel,
    point,
    rows,
    tick,
)
from arch_harness.report.plots.svg import FAINT, INK
from arch_harness.report.text.numbers import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from arch_harness.results.run import Result


def _score(title: str, results: Sequence[Result], looks: dict[str, Look]) -> Figure:
    left = 0.55
    lines = legend_lines(results, looks)
    axes, legend = panel(title, 2.5, lines, left)
    speeds = [one.measurement.clips_per_s for one in results if one.measurement]
    for result, speed in zip(results, speeds, strict=True):
        look, score = looks[result.model], 100 * result.score
        if result.interval:
            ends = [100 * result.interval.low, 100 * result.interval.high]
            axes.plot([speed] * 2, ends, color=look.colour, linewidth=1.2)
        point(axes, speed, score, look, zorder=3)

    ends = [100 * end for r in results if r.interval for end in (r.interval.low, r.interval.high)]
    _score_axis(axes, results, ends + [100 * result.score for result in results])
    _speed_axis(axes, speeds)

    names(legend, results, looks, lines)
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


def _layers(title: str, results: Sequence[Result], looks: dict[str, Look]) -> Figure:
    left, lines = 0.55, legend_lines(results, looks)
    axes, legend = panel(title, 2.5, lines, left)
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
    names(legend, results, looks, lines)
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
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))


def _latency(title: str, results: Sequence[Result], looks: dict[str, Look]) -> Figure:
    axes, legend = panel(title, 0.5 * len(results) + 0.1, 2)
    figures, longest = [], 0.0
    for row, result in enumerate(results):
        if result.measurement is None or result.measurement.latency_ms is None:
            continue
        colour, latency, server = looks[result.model].colour, result.measurement.latency_ms, result.measurement.server
        axes.plot([latency.p50, latency.p99], [row + 0.44] * 2, color=colour, linewidth=1.6)
        for value, marker in ((latency.p50, "o"), (latency.p95, "D"), (latency.p99, "|")):
            _latency_mark(axes, value, row + 0.44, marker, colour)
        longest = max(longest, latency.p99)
        if server is not None:
            axes.barh(row + 0.7, server.queue_ms, height=0.18, color=QUEUE)
            axes.barh(row + 0.7, server.compute_ms, left=server.queue_ms, height=0.18, color=COMPUTE)
            longest = max(longest, server.queue_ms + server.compute_ms)
        figures.append(f"{number(latency.p50)} · {number(latency.p99)} ms")
    rows(axes, results, looks, figures)
    axes.set_xlim(0, 1.04 * longest or 1)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    axes.set_xlabel("ms")

    for x, marker, text in ((0, "o", "p50"), (0.55, "D", "p95"), (1.1, "|", "p99")):
        _latency_mark(legend, 1.3 + x, 1.5 * LINE + 0.04, marker, INK)
        legend.text(1.3 + x + 0.1, 1.5 * LINE + 0.04, text, va="center_baseline", size=8)
    for x, colour, text in ((0, QUEUE, "queue"), (0.7, COMPUTE, "compute (means)")):
        legend.barh(0.5 * LINE + 0.04, 0.14, left=1.23 + x, height=0.1, color=colour)
        legend.text(1.4 + x, 0.5 * LINE + 0.04, text, va="center_baseline", size=8)
    for line, text in ((1.5, "At the client"), (0.5, "In the server")):
        legend.text(LEFT, line * LINE + 0.04, text, va="center_baseline", size=8, color=FAINT)
    return axes.get_figure(root=True)  # type: ignore[return-value]


def _latency_mark(axes: Axes, x: float, y: float, marker: str, colour: str) -> None:
    size = {"o": 6, "D": 4.5, "|": 9}[marker]
    axes.plot([x], [y], linestyle="none", marker=marker, color=colour, markersize=size, markeredgewidth=1.4)


def _batch_sizes(title: str, results: Sequence[Result], looks: dict[str, Look]) -> Figure:
    servers = [one.measurement.server for one in results if one.measurement and one.measurement.server]
    largest = max((size for server in servers for size in server.batch_sizes), default=1)
    shades = matplotlib.colormaps["Blues"]

    def shade(size: int) -> tuple[float, float, float, float]:
        red, green, blue, alpha = shades(0.2 + 0.75 * (math.log2(max(1, size)) / max(1.0, math.log2(max(1, largest)))))
        return red, green, blue, alpha

    axes, legend = panel(title, 0.42 * len(results) + 0.1, 1)
    for row, server in enumerate(servers):
        executions = sum(server.batch_sizes.values())
        if not executions:
            axes.text(0.5, row + 0.57, "no executions recorded", size=8, color=FAINT, va="center", ha="left")
        start = 0.0
        for size, count in sorted(server.batch_sizes.items()):
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
    rows(axes, results, looks, [f"mean {number(server.mean_batch_size)}" for server in servers])
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of executions (%)")

    sizes = sorted({2**power for power in range(int(math.log2(max(1, largest))) + 1)} | {largest})
    legend.text(LEFT, 0.5 * LINE + 0.04, "Batch size", va="center_baseline", size=8, color=FAINT)
    for index, size in enumerate(sizes):
        x = 1.0 + index * min(0.46, 3.3 / len(sizes))
        legend.barh(0.5 * LINE + 0.04, 0.13, left=x, height=0.1, color=shade(size))
        legend.text(x + 0.16, 0.5 * LINE + 0.04, str(size), va="center_baseline", size=8)
    return axes.get_figure(root=True)  # type: ignore[return-value]


KINDS = (
    Kind(
        "score",
        "Score and throughput",
        "A model further to the right embeds more clips per second; one further up scores higher. The line through "
        "a point is the 95 % interval of its score; the dashed line is chance.",
        "score against clips/s",
        lambda result: result.measurement is not None,
        _score,
    ),
    Kind(
        "latency",
        "Latency",
        "The line of a model leads from the median to the 99th percentile of the latency at the client; the bar "
        "below it is the mean time that a request spent in the server. The figures are p50 and p99.",
        "client latency, and server queue and compute time",
        lambda result: result.measurement is not None and result.measurement.latency_ms is not None,
        _latency,
    ),
    Kind(
        "batch-sizes",
        "Batch sizes",
        "How often the server executed a model with how many clips at once, as a share of all executions. "
        "The number in a segment is the batch size; darker is larger.",
        "share of executions by batch size",
        lambda result: result.measurement is not None and result.measurement.server is not None,
        _batch_sizes,
    ),
    Kind(
        "layers",
        "Layers",
        "The linear probe on each layer of a model, with its 95 % interval; the ring marks the best layer, the "
        "dotted line is the probe on a learned weighted sum of all layers.",
        "score over layers",
        lambda result: result.layers is not None,
        _layers,
    ),
)
