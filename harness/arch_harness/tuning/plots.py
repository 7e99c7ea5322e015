"""Score against the rate that keeps the promise, both with their intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from arch_harness.report.plots.panels import Look, add_legend, point, tick_label
from arch_harness.report.plots.style import FAINT, INK, colour_and_marker, styled
from arch_harness.report.plots.svg import Plot, PlotGroup, as_svg
from arch_harness.report.text.numbers import clean, shorten
from arch_harness.tuning.halving import RUNGS
from arch_harness.tuning.sentences import slo_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from arch_harness.tuning.results import TunedPoint, TuneReport

_WIDTH, _HEIGHT = 6.4, 3.6  # inches
_NAME = 44


def draw_tuning(report: TuneReport) -> list[PlotGroup]:
    """The front; and every rate that was measured, by how long."""
    with styled():
        front = Plot("front.svg", "score against the rate that keeps the promise", as_svg(_front(report)))
        rates = Plot("rates.svg", "the rate of every configuration", as_svg(_rates(report)))
    return [
        PlotGroup(
            "Score and rate",
            "Further to the right is faster, further up scores higher; the lines are the intervals of both. Filled "
            "marks are of configurations that were measured to the end, faint ones were left earlier and are rough. "
            "The stairs join the front, the ring is the winner.",
            [front],
        ),
        PlotGroup(
            "All rates",
            "Every configuration by its rate, the fastest first, with its interval where it was measured to the end.",
            [rates],
        ),
    ]


def _looks(report: TuneReport) -> dict[int, Look]:
    return {
        place: Look(shorten(clean(one.model), _NAME), *colour_and_marker(place))
        for place, one in enumerate(report.forms)
        if any(shown.form == place for shown in report.points)
    }


def _is_whole(one: TunedPoint) -> bool:
    return one.rung == len(RUNGS) - 1 and one.rate > 0


def _figure(report: TuneReport, title: str) -> tuple[Figure, Axes, dict[int, Look]]:
    looks = _looks(report)
    figure = Figure(figsize=(_WIDTH, _HEIGHT + 0.19 * -(-len(looks) // 2)), layout="constrained")
    figure.suptitle(title, x=0.02, ha="left")
    add_legend(figure, [one.handle() for one in looks.values()], loc="outside lower left", ncols=2)
    return figure, figure.add_subplot(), looks


def _front(report: TuneReport) -> Figure:
    figure, axes, looks = _figure(report, f"Clips/s at {slo_of(report)}")
    front = []
    for one in [one for one in report.points if one.rate > 0]:
        form, look = report.forms[one.form], looks[one.form]
        score = 100 * (form.score or 0.0)
        if not _is_whole(one):
            axes.add_line(point(look, [one.rate], [score], alpha=0.25, zorder=1))
            continue
        axes.plot([one.low, one.high], [score] * 2, color=look.colour, linewidth=1.2, zorder=2)
        if form.low is not None and form.high is not None:
            axes.plot([one.rate] * 2, [100 * form.low, 100 * form.high], color=look.colour, linewidth=1, zorder=2)
        axes.add_line(point(look, [one.rate], [score], zorder=3))
        if one.on_front:
            front.append((one.rate, score))
        if one.chosen:
            axes.plot(one.rate, score, "o", markersize=13, markerfacecolor="none", color=INK, clip_on=False)
    front.sort()
    axes.plot(*zip(*front, strict=True), drawstyle="steps-pre", color=FAINT, linewidth=1, zorder=1)
    axes.autoscale_view()
    axes.relim()
    shown = [one.rate for one in report.points if one.rate > 0]
    ends = [end for one in report.points if _is_whole(one) for end in (one.low, one.high) if end > 0]
    _rate_axis(axes, [*shown, *ends])
    tried = [report.forms[place] for place in looks]
    scores = [100 * value for one in tried for value in (one.low, one.high, one.score) if value is not None]
    if scores:
        margin = 0.06 * (max(scores) - min(scores)) or 1.0
        axes.set_ylim(min(scores) - margin, max(scores) + margin)
        axes.set_ylabel("Score (%)")
    else:
        axes.yaxis.set_visible(False)
    return figure


def _rate_axis(axes: Axes, rates: list[float]) -> None:
    axes.set_xscale("log")
    axes.set_xlim(min(rates) / 1.1, max(rates) * 1.1)
    axes.set_xlabel("Clips/s that keep the promise, logarithmic")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.xaxis.set_major_formatter(FuncFormatter(tick_label))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _rates(report: TuneReport) -> Figure:
    figure, axes, looks = _figure(report, "Every configuration")
    ranked = sorted((one for one in report.points if not one.fault), key=lambda one: -one.rate)
    for place, one in enumerate(ranked, 1):
        look, whole = looks[one.form], _is_whole(one)
        if whole:
            axes.plot([place] * 2, [one.low, one.high], color=look.colour, linewidth=1.2)
        axes.add_line(point(look, [place], [one.rate], alpha=1 if whole else 0.3))
    axes.set_xlim(0, len(ranked) + 1)
    axes.set_ylim(0, 1.1 * max((max(one.rate, one.high if _is_whole(one) else 0) for one in ranked), default=1) or 1)
    axes.set_xlabel("Rank")
    axes.set_ylabel("Clips/s that keep the promise")
    axes.yaxis.set_major_formatter(FuncFormatter(tick_label))
    return figure
