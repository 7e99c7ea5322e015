"""One row a model, drawn: latency, batch sizes, and a clip's mean time by stage."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from arch_harness.report.plots.panels import PlotKind, label_rows, tick_label
from arch_harness.report.plots.style import COMPUTE, FAINT, INK, QUEUE
from arch_harness.report.text.numbers import format_metric, number
from arch_harness.report.text.speed.sections import LOAD_NAMES, loads_of
from arch_harness.results.metric_definitions import METRICS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from arch_harness.report.plots.panels import Panel
    from arch_harness.results.measurement import LoadPoint

_ROW, _TALL_ROW = 0.42, 0.95  # inches
_STAGES = {
    "decode_ms": "#0072B2",
    "resample_ms": "#56B4E9",
    "wait_ms": "#CFE8F7",
    "network_ms": "#E69F00",
    "queue_ms": QUEUE,
    "compute_ms": COMPUTE,
}
_UNKNOWN: dict[str, Any] = {"facecolor": "white", "edgecolor": COMPUTE, "hatch": "/////", "linewidth": 0.4}
_MARKS = {"p50": ("o", 6.0), "p95": ("D", 4.5), "p99": ("|", 9.0)}


def _patch(identifier: str) -> Patch:
    return Patch(color=_STAGES[identifier], label=METRICS[identifier].header)


def _mark(percentile: str, colour: str, x: float | None = None, y: float = 0.0) -> Line2D:
    marker, size = _MARKS[percentile]
    label = METRICS[f"{percentile}_ms"].header
    place = ([], []) if x is None else ([x], [y])
    return Line2D(
        *place, linestyle="none", marker=marker, color=colour, markersize=size, markeredgewidth=1.4, label=label
    )


def _time_axis(axes: Axes, longest: float) -> None:
    axes.set_xlim(0, 1.04 * longest or 1)
    axes.set_xlabel("ms")
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(tick_label))


def _latency(panel: Panel) -> Figure:
    figure = panel.figure(_TALL_ROW * len(panel.results), [_mark(one, INK) for one in _MARKS], columns=len(_MARKS))
    axes = figure.add_subplot()
    figures: list[str] = []
    places: list[float] = []
    names: list[str] = []
    every: list[float] = []
    for row, (look, one) in enumerate(panel.measured()):
        points = [point for point in loads_of(one) if point.latency_ms]
        for place, point in enumerate(points):
            assert point.latency_ms is not None  # noqa: S101
            y = row + 0.36 + 0.16 * place
            known = {name: value for name in _MARKS if (value := getattr(point.latency_ms, name)) is not None}
            axes.plot([min(known.values()), max(known.values())], [y] * 2, color=look.colour, linewidth=1.4)
            for name, value in known.items():
                axes.add_line(_mark(name, look.colour, value, y))
            places.append(y)
            names.append(LOAD_NAMES[point.load])
            every += known.values()
        alone = next((point for point in points if point.load == "alone"), None)
        figures.append(_alone_words(alone))
    label_rows(axes, [look for look, _ in panel.measured()], figures, left=-0.16)
    axes.yaxis.set_visible(True)
    axes.set_yticks(places, names, size=7)
    axes.tick_params(axis="y", length=0)
    axes.set_xscale("log")
    axes.set_xlim(0.8 * min(every, default=1), 1.25 * max(every, default=10))
    axes.set_xlabel("ms, each step of the grid ten times as long")
    axes.xaxis.set_major_formatter(FuncFormatter(tick_label))
    axes.xaxis.set_minor_formatter(NullFormatter())
    return figure


def _alone_words(alone: LoadPoint | None) -> str:
    if alone is None or alone.latency_ms is None:
        return ""
    return f"{format_metric('alone_p50_ms', alone.latency_ms.p50)} ms alone"


def _stages(panel: Panel) -> Figure:
    # A legend is filled column by column: the worker's stages make its first line, those under way the second.
    names = list(_STAGES)
    handles = [_patch(name) for pair in zip(names[:3], names[3:], strict=True) for name in pair]
    if any(one.stages and one.stages.network_ms is None for _, one in panel.measured()):
        handles.append(Patch(label="not told apart", **_UNKNOWN))
    figure = panel.figure(_ROW * len(panel.results), handles, columns=4 if len(handles) > len(_STAGES) else 3)
    axes = figure.add_subplot()
    figures, longest = [], 0.0
    for row, (_, one) in enumerate(panel.measured()):
        if one.stages is None:
            continue
        edge = {"edgecolor": "white", "linewidth": 0.4}
        parts: list[tuple[float | None, dict[str, Any]]]
        parts = [(getattr(one.stages, name), {"color": colour, **edge}) for name, colour in _STAGES.items()]
        if one.stages.network_ms is None:
            parts.append((one.stages.latency_ms, _UNKNOWN))
        start = 0.0
        for length, style in parts:
            if length is not None:
                axes.barh(row + 0.57, length, left=start, height=0.36, **style)
                start += length
        longest = max(longest, start)
        figures.append(f"{number(start)} ms")
    label_rows(axes, [look for look, _ in panel.measured()], figures)
    _time_axis(axes, longest)
    return figure


def _shade(size: int, largest: int) -> tuple[float, float, float, float]:
    share = math.log2(max(1, size)) / max(1.0, math.log2(max(1, largest)))
    red, green, blue, alpha = matplotlib.colormaps["Blues"](0.2 + 0.75 * share)
    return red, green, blue, alpha


def _batch_sizes(panel: Panel) -> Figure:
    servers = [(look, one.server) for look, one in panel.measured() if one.server]
    largest = max((size for _, server in servers for size in server.batch_sizes), default=1)
    sizes = sorted({2**power for power in range(int(math.log2(max(1, largest))) + 1)} | {largest})
    handles = [Patch(color=_shade(size, largest), label=str(size)) for size in sizes]
    figure = panel.figure(_ROW * len(servers), handles, columns=min(8, len(handles)))
    axes = figure.add_subplot()
    places = [row + 0.57 for row in range(len(servers))]
    executions = [sum(server.batch_sizes.values()) for _, server in servers]
    for place, count in zip(places, executions, strict=True):
        if not count:
            axes.text(0.5, place, "no executions recorded", size=8, color=FAINT, va="center")
    starts = [0.0] * len(servers)
    for size in sorted({size for _, server in servers for size in server.batch_sizes}):
        counts = [server.batch_sizes.get(size, 0) for _, server in servers]
        shares = [100 * count / (total or 1) for count, total in zip(counts, executions, strict=True)]
        colour = _shade(size, largest)
        bars = axes.barh(places, shares, left=starts, height=0.36, color=colour, edgecolor="white", linewidth=0.6)
        fitting = [str(size) if share >= 1.8 + 1.8 * len(str(size)) else "" for share in shares]
        ink = "white" if sum(colour[:3]) < 1.7 else INK
        axes.bar_label(bars, fitting, label_type="center", size=7.5, color=ink, in_layout=False)
        starts = [start + share for start, share in zip(starts, shares, strict=True)]
    means = [f"mean {format_metric('mean_batch_size', server.mean_batch_size)}" for _, server in servers]
    label_rows(axes, [look for look, _ in servers], means)
    axes.set_xlim(0, 100)
    axes.set_xlabel("Share of executions (%) by batch size")
    return figure


LATENCY_PLOT = PlotKind(
    "latency",
    "Latency",
    "Each line leads from the median to the 99th percentile of the latency at the client, at one load: with one "
    "request in flight, at 70 % of the model's own highest rate, at the rate that is equal for all, and with the "
    "servers saturated. Percentiles for which there were too few requests are left out.",
    "client latency by load",
    lambda result: result.measurement is not None and result.measurement.latency_ms is not None,
    _latency,
)
BATCH_SIZES_PLOT = PlotKind(
    "batch-sizes",
    "Batch sizes",
    "How often the server executed a model with how many clips at once, as a share of all executions. "
    "The number in a segment is the batch size; darker is larger.",
    "share of executions by batch size",
    lambda result: result.measurement is not None and result.measurement.server is not None,
    _batch_sizes,
)
STAGES_PLOT = PlotKind(
    "stages",
    "A clip's mean time",
    "From the file to the embedding, stage by stage, the mean over the clips of a dataset: decode, resample and wait "
    "in the worker, the rest under way. Clips are worked on side by side, so that a stage may be long without being "
    "the limit.",
    "mean time of a clip by stage",
    lambda result: result.measurement is not None and result.measurement.stages is not None,
    _stages,
)
