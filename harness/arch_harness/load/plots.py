"""Latency, its parts and batch sizes over the rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from arch_harness.report.plots.panels import Look, add_legend, tick_label
from arch_harness.report.plots.style import COMPUTE, FAINT, INK, QUEUE, colour_and_marker, styled
from arch_harness.report.plots.svg import Plot, PlotGroup, as_svg, file_names
from arch_harness.report.text.numbers import clean, number, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from arch_harness.load.report import LoadReport, LoadRun, ModelLoad

_WIDTH, _HEIGHT = 4.4, 3.2  # inches
_NAME = 44
_NETWORK = "#E69F00"


def draw_load(report: LoadReport) -> list[PlotGroup]:
    """The drawings; none but of runs at a rate."""
    if report.scenario != "server":
        return []
    shown = [(look, one) for look, one in zip(_looks(report), report.models, strict=True) if one.runs]
    with styled():
        return [
            PlotGroup(
                "Latency over rate",
                "The percentile that is promised, of every run, from the moment that a clip is due; the line leads "
                "through the middle of the runs at a rate. A hollow mark is an INVALID run. A band is the "
                "interval of the highest rate that keeps the promise.",
                [Plot("latency.svg", f"{_judged(report)} over rate", as_svg(_latency(report, shown)))],
            ),
            PlotGroup(
                "Goodput over rate",
                "Clips answered within the promise, a second. The dashed line is what was sent.",
                [Plot("goodput.svg", "goodput over rate", as_svg(_goodput(shown)))],
            ),
            _each(
                "parts",
                "Queue and compute",
                shown,
                _parts,
                "Mean time of a clip in the server, by Triton's statistics.",
            ),
            _each(
                "batches",
                "Batch sizes",
                shown,
                _batches,
                "The share of executions by how many clips each held; darker is larger.",
            ),
        ]


def _looks(report: LoadReport) -> list[Look]:
    return [
        Look(shorten(clean(one.model.name), _NAME), *colour_and_marker(index))
        for index, one in enumerate(report.models)
    ]


def _each(name: str, title: str, shown: list[tuple[Look, ModelLoad]], make: object, text: str) -> PlotGroup:
    files = file_names(name, [look.name for look, _ in shown])
    plots = [
        Plot(file, f"{look.name}: {title.lower()} over rate", as_svg(make(look, one)))  # type: ignore[operator]
        for file, (look, one) in zip(files, shown, strict=True)
    ]
    return PlotGroup(title, text, plots)


def _judged(report: LoadReport) -> str:
    return report.slo.slo.name if report.slo else "p99"


def _figure(title: str, handles: list[Line2D | Patch], columns: int) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, _HEIGHT + 0.19 * -(-len(handles) // columns)), layout="constrained")
    figure.suptitle(title, x=0.02, ha="left")
    add_legend(figure, handles, loc="outside lower left", ncols=columns)
    axes = figure.add_subplot()
    axes.set_xlabel("Clips/s sent")
    axes.xaxis.set_major_formatter(FuncFormatter(tick_label))
    return figure, axes


def _at_rates(one: ModelLoad) -> dict[float, list[LoadRun]]:
    found: dict[float, list[LoadRun]] = {}
    for run in sorted(one.runs, key=lambda run: run.rate or 0):
        if run.rate is not None:
            found.setdefault(run.rate, []).append(run)
    return found


def _latency(report: LoadReport, shown: list[tuple[Look, ModelLoad]]) -> Figure:
    handles: list[Line2D | Patch] = [look.handle() for look, _ in shown]
    slo = report.slo
    if slo is not None:
        handles.append(Line2D([], [], color=INK, linestyle="--", linewidth=1.2, label=str(slo.slo)))
    figure, axes = _figure(f"{_judged(report)} over rate", handles, 2 if len(handles) < 3 else 1)
    every: list[float] = []
    for look, one in shown:
        line = []
        for rate, runs in _at_rates(one).items():
            known = sorted(run.judged_ms for run in runs if run.judged_ms is not None)
            for run in runs:
                if run.judged_ms is not None:
                    face = look.colour if run.valid else "white"
                    axes.plot(
                        rate,
                        run.judged_ms,
                        look.marker,
                        color=look.colour,
                        markerfacecolor=face,
                        markersize=5.5,
                        clip_on=False,
                    )
            if known:
                line.append((rate, known[len(known) // 2]))
                every += known
        axes.plot(*zip(*line, strict=True), color=look.colour, linewidth=1.1) if line else None
        found = one.sustained
        if found is not None and found.rate > 0:
            axes.axvspan(found.low, max(found.high, 1.002 * found.low), color=look.colour, alpha=0.13, linewidth=0)
    if slo is not None:
        axes.axhline(slo.milliseconds, color=INK, linestyle="--", linewidth=1.2)
        every.append(slo.milliseconds)
    axes.set_yscale("log")
    axes.set_ylim(0.7 * min(every, default=1), 1.6 * max(every, default=10))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(tick_label))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("ms")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(tick_label))
    axes.xaxis.set_minor_formatter(NullFormatter())
    return figure


def _goodput(shown: list[tuple[Look, ModelLoad]]) -> Figure:
    handles: list[Line2D | Patch] = [look.handle() for look, _ in shown]
    figure, axes = _figure("Goodput over rate", handles, 2 if len(handles) < 3 else 1)
    most = 0.0
    for look, one in shown:
        found = [(rate, [run.goodput or 0.0 for run in runs]) for rate, runs in _at_rates(one).items()]
        axes.plot(
            [rate for rate, _ in found],
            [sum(values) / len(values) for _, values in found],
            marker=look.marker,
            color=look.colour,
            linewidth=1.1,
            markersize=5.5,
            clip_on=False,
        )
        most = max([most, *(rate for rate, _ in found)])
    axes.plot([0, most], [0, most], color=FAINT, linestyle="--", linewidth=0.9)
    axes.set(xlim=(0, 1.05 * most or 1), ylim=(0, 1.05 * most or 1), ylabel="Clips/s in time")
    axes.yaxis.set_major_formatter(FuncFormatter(tick_label))
    return figure


def _one_per_rate(one: ModelLoad) -> list[LoadRun]:
    """A run with Triton's statistics for each rate, at most twelve of them."""
    found = [known[0] for runs in _at_rates(one).values() if (known := [run for run in runs if run.server])]
    step = max(1, -(-len(found) // 12))
    return found[::-1][::step][::-1]


def _names(axes: Axes, runs: list[LoadRun]) -> None:
    axes.set_xticks(range(len(runs)), [number(run.rate or 0) for run in runs], rotation=45 if len(runs) > 6 else 0)


def _parts(look: Look, one: ModelLoad) -> Figure:
    handles: list[Line2D | Patch] = [Patch(color=QUEUE, label="Queue"), Patch(color=COMPUTE, label="Compute")]
    figure, axes = _figure(look.name, handles, 3)
    runs = _one_per_rate(one)
    queue = [run.server.queue_ms for run in runs if run.server]
    compute = [run.server.compute_ms for run in runs if run.server]
    axes.bar(range(len(runs)), compute, color=COMPUTE, width=0.7)
    axes.bar(range(len(runs)), queue, bottom=compute, color=QUEUE, width=0.7)
    axes.grid(visible=False, axis="x")
    axes.set_ylabel("ms, mean of a clip")
    _names(axes, runs)
    return figure


def _batches(look: Look, one: ModelLoad) -> Figure:
    runs = _one_per_rate(one)
    sizes = sorted({size for run in runs if run.server for size in run.server.batch_sizes})
    blues = matplotlib.colormaps["Blues"]
    colours = {size: blues(0.25 + 0.7 * place / max(1, len(sizes) - 1)) for place, size in enumerate(sizes)}
    handles: list[Line2D | Patch] = [Patch(color=colour, label=str(size)) for size, colour in colours.items()]
    figure, axes = _figure(look.name, handles, 8)
    starts = [0.0] * len(runs)
    for size in sizes:
        shares = []
        for run in runs:
            counts = run.server.batch_sizes if run.server else {}
            shares.append(100 * counts.get(size, 0) / max(1, sum(counts.values())))
        axes.bar(range(len(runs)), shares, bottom=starts, color=colours[size], width=0.7)
        starts = [start + share for start, share in zip(starts, shares, strict=True)]
    axes.grid(visible=False, axis="x")
    axes.set(ylim=(0, 100), ylabel="Share of executions (%)")
    _names(axes, runs)
    return figure
