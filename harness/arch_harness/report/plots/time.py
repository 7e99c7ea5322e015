"""Where the time goes, drawn: a clip's mean time by stage, and what was busy over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from arch_harness.report.plots.panels import (
    COMPUTE,
    LEFT,
    LINE,
    QUEUE,
    RIGHT,
    TOP,
    WIDTH,
    Kind,
    Look,
    panel,
    point,
    rows,
    tick,
)
from arch_harness.report.plots.svg import FAINT, INK
from arch_harness.report.text.numbers import number, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from arch_harness.results.measurement import Utilisation
    from arch_harness.results.run import Result

_STAGES = (
    ("decode_ms", "decode", "#0072B2"),
    ("resample_ms", "resample", "#56B4E9"),
    ("wait_ms", "wait", "#CFE8F7"),
    ("network_ms", "network", "#E69F00"),
    ("queue_ms", "queue", QUEUE),
    ("compute_ms", "compute", COMPUTE),
)
_CLIENT, _OTHERS, _GPU, _GRID = "#0072B2", "#C9CED6", "#009E73", "#E6E9ED"
_STRIP, _GAP, _NAME_LINE = 0.42, 0.16, 0.3  # inches: a strip of the timeline, what is below it, and a model's name
_STRIPS_LEFT = 0.62


def _stage_bars(title: str, results: Sequence[Result], looks: dict[str, Look]) -> Figure:
    axes, legend = panel(title, 0.42 * len(results) + 0.1, 2)
    figures, longest, unknown = [], 0.0, False
    for row, result in enumerate(results):
        if result.measurement is None or result.measurement.stages is None:
            continue
        start = 0.0
        stages = result.measurement.stages
        parts = [(getattr(stages, field), colour) for field, _, colour in _STAGES]
        if stages.network_ms is None:
            parts.append((stages.latency_ms, _OTHERS))
            unknown = True
        for length, colour in parts:
            if length is None:
                continue
            axes.barh(row + 0.57, length, left=start, height=0.36, color=colour, edgecolor="white", linewidth=0.4)
            start += length
        longest = max(longest, start)
        figures.append(f"{number(start)} ms")
    rows(axes, results, looks, figures)
    axes.set_xlim(0, 1.04 * longest or 1)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    axes.set_xlabel("ms")
    for line, place, text in ((1.5, "client", "In the worker"), (0.5, "server", "Under way")):
        legend.text(LEFT, line * LINE + 0.04, text, va="center_baseline", size=8, color=FAINT)
        for column, (_, name, colour) in enumerate(_STAGES[:3] if place == "client" else _STAGES[3:]):
            x = 1.2 + 0.95 * column
            legend.barh(line * LINE + 0.04, 0.14, left=x, height=0.1, color=colour)
            legend.text(x + 0.2, line * LINE + 0.04, name, va="center_baseline", size=8)
    if unknown:
        x = 1.2 + 0.95 * 3
        legend.barh(0.5 * LINE + 0.04, 0.14, left=x, height=0.1, color=_OTHERS)
        legend.text(x + 0.2, 0.5 * LINE + 0.04, "not told apart", va="center_baseline", size=8)
    return axes.get_figure(root=True)  # type: ignore[return-value]


def _timeline(title: str, results: Sequence[Result], looks: dict[str, Look]) -> Figure:
    utilisations = [one.measurement.utilisation for one in results if one.measurement is not None]
    each = [_NAME_LINE + (3 if utilisation.gpu else 2) * (_STRIP + _GAP) + 0.25 for utilisation in utilisations]
    bottom = 2.2 * LINE
    height = TOP + sum(each) + bottom
    figure = Figure(figsize=(WIDTH, height), facecolor="white")
    figure.text(LEFT / WIDTH, 1 - 0.22 / height, shorten(title, 46), weight="bold", va="center", size=10)
    # One pair of axes in inches for all strips: a pair for each would take a second for every dozen models.
    page = figure.add_axes((0, 0, 1, 1))
    page.set_axis_off()
    page.set_xlim(0, WIDTH)
    page.set_ylim(0, height)
    top = height - TOP
    for result, utilisation, room in zip(results, utilisations, each, strict=True):
        look = looks[result.model]
        point(page, LEFT + 0.06, top - 0.1, look)
        page.text(LEFT + 0.18, top - 0.1, look.name, va="center_baseline", size=8.5)
        below = top - _NAME_LINE - _STRIP
        strips = _strips(utilisation)
        for strip in strips:
            _draw_strip(page, strip, utilisation.seconds, below)
            below -= _STRIP + _GAP
        _seconds(page, utilisation.seconds, below + _STRIP + _GAP, len(strips))
        top -= room
    page.text((WIDTH + _STRIPS_LEFT - RIGHT) / 2, 1.3 * LINE, "seconds since the first clip was read", ha="center")
    page.text(LEFT, 0.5 * LINE, "Cores", va="center_baseline", size=8, color=FAINT)
    for x, colour, text in ((0.7, _CLIENT, "driver and workers"), (2.1, _OTHERS, "everything else")):
        page.barh(0.5 * LINE, 0.14, left=x, height=0.1, color=colour)
        page.text(x + 0.2, 0.5 * LINE, text, va="center_baseline", size=8)
    return figure


@dataclass(frozen=True)
class _Strip:
    """One quantity over time, drawn from 0 to the top of its scale: areas one before the other, or a line."""

    unit: str
    highest: float
    areas: tuple[tuple[str, Sequence[float]], ...] = ()
    line: tuple[str, Sequence[float | None]] | None = None


def _strips(utilisation: Utilisation) -> list[_Strip]:
    # The two are read one after the other: the client's may seem a little more than the machine's.
    machine = [max(pair) for pair in zip(utilisation.machine_cores, utilisation.client_cores, strict=True)]
    strips = [
        _Strip("clips/s", max(utilisation.clips_per_s, default=0.0), line=(INK, utilisation.clips_per_s)),
        _Strip("cores", max(machine, default=0.0), areas=((_OTHERS, machine), (_CLIENT, utilisation.client_cores))),
    ]
    if utilisation.gpu:
        strips.append(
            _Strip("GPU %", 100, line=(_GPU, [None if one is None else 100 * one for one in utilisation.gpu]))
        )
    return strips


def _draw_strip(page: Axes, strip: _Strip, seconds: Sequence[float], bottom: float) -> None:
    """A strip with its scale at the left; `bottom` in inches."""
    ticks = [one for one in MaxNLocator(2, min_n_ticks=2).tick_values(0, strip.highest or 1) if one >= 0]
    scale = _STRIP / max(ticks[-1], strip.highest)
    for value in ticks:
        height = bottom + scale * value
        page.plot([_STRIPS_LEFT, WIDTH - RIGHT], [height] * 2, color=_GRID, linewidth=0.7, zorder=0)
        page.text(_STRIPS_LEFT - 0.06, height, tick(value), ha="right", va="center_baseline", size=7.5)
    page.text(WIDTH - RIGHT, bottom + _STRIP + 0.03, strip.unit, ha="right", size=7.5, color=FAINT)
    across = (WIDTH - RIGHT - _STRIPS_LEFT) / (seconds[-1] or 1)
    edges = [_STRIPS_LEFT + across * moment for moment in (0.0, *seconds)]
    for colour, values in strip.areas:
        page.stairs([bottom + scale * value for value in values], edges, baseline=bottom, fill=True, color=colour)
    if strip.line:
        # Where it is not known, the line has a gap.
        heights = [float("nan") if value is None else bottom + scale * value for value in strip.line[1]]
        page.stairs(heights, edges, baseline=None, color=strip.line[0], linewidth=1.1)


def _seconds(page: Axes, seconds: Sequence[float], bottom: float, strips: int) -> None:
    """The seconds below a model's strips, with a line through all of them at each."""
    across = (WIDTH - RIGHT - _STRIPS_LEFT) / (seconds[-1] or 1)
    for moment in MaxNLocator(6).tick_values(0, seconds[-1] or 1):
        if not 0 <= moment <= (seconds[-1] or 1):
            continue
        x = _STRIPS_LEFT + across * moment
        page.plot([x, x], [bottom, bottom + strips * (_STRIP + _GAP) - _GAP], color=_GRID, linewidth=0.7, zorder=0)
        page.text(x, bottom - 0.05, tick(moment), ha="center", va="top", size=7.5)


KINDS = (
    Kind(
        "stages",
        "A clip's mean time",
        "From the file to the embedding, stage by stage, the mean over the clips of a dataset. Clips are worked on "
        "side by side, so that a stage may be long without being the limit.",
        "mean time of a clip by stage",
        lambda result: result.measurement is not None and result.measurement.stages is not None,
        _stage_bars,
    ),
    Kind(
        "timeline",
        "Over time",
        "Clips per second, the cores of this machine that were busy and, where it can be read, the use of the GPUs, "
        "each the mean since the sample before.",
        "clips per second, busy cores and GPU use over time",
        lambda result: result.measurement is not None and bool(result.measurement.utilisation.seconds),
        _timeline,
    ),
)
