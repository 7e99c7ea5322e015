"""What was busy over time, drawn: a band for each model, in percent, of the time too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from arch_harness.report.plots.panels import PlotKind, label_rows
from arch_harness.report.plots.style import INK, OTHERS
from arch_harness.report.text.numbers import format_metric, number, plural
from arch_harness.results.metric_definitions import METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from arch_harness.report.plots.panels import Panel
    from arch_harness.results.measurement import Utilisation

_CLIENT, _GPU, _MEASURED = "#56B4E9", "#D55E00", "#009E73"
_ROW = 0.8  # inches
_TOP, _BOTTOM = 0.38, 0.96  # of a row's band, in rows: 100 % and 0 %


def _timeline(panel: Panel) -> Figure:
    measured = [(look, one.utilisation) for look, one in panel.measured()]
    spans = [
        [(phase.start, phase.end) for phase in one.phases if phase.name == "measured"] for _, one in panel.measured()
    ]
    handles: list[Artist] = [
        Line2D([], [], color=INK, label=f"{METRICS['clips_per_s'].header}, 100 % = highest"),
        Patch(color=_CLIENT, label=f"{METRICS['client_cores'].header}, 100 % = {plural(panel.cores, 'core')}"),
        Patch(color=OTHERS, label=f"{METRICS['machine_cores'].header}, likewise"),
    ]
    if any(spans):
        handles.append(Line2D([], [], color=_MEASURED, linewidth=3, label="the measured phase"))
    if any(one.gpu for _, one in measured):
        handles.append(Line2D([], [], color=_GPU, label=METRICS["gpu_busy"].header))
    figure = panel.figure(_ROW * len(measured), handles)
    # One pair of axes for all models, a band for each: a pair for each takes a second for every dozen models.
    axes = figure.add_subplot()
    figures, bounds = [], []
    for row, (_, one) in enumerate(measured):
        highest = max(one.clips_per_s)
        _draw_band(axes, row, one, highest, panel.cores)
        for start, end in spans[row]:
            whole = one.seconds[-1] or 1
            axes.plot(
                [100 * start / whole, min(100, 100 * end / whole)], [row + _BOTTOM] * 2, color=_MEASURED, linewidth=3
            )
        figures.append(f"{format_metric('clips_per_s', highest)} clips/s · {number(one.seconds[-1])} s")
        bounds += [row + _TOP, row + _BOTTOM]
    label_rows(axes, [look for look, _ in measured], figures, left=-0.105)
    axes.yaxis.set_visible(True)
    axes.set_yticks(bounds, ["100 %", "0"] * len(measured), size=7.5)
    axes.set(xlim=(0, 100), xlabel="Time (%) since the first clip was read")
    return figure


def _draw_band(axes: Axes, row: int, one: Utilisation, highest: float, cores: int) -> None:
    whole = one.seconds[-1] or 1
    edges = [100 * moment / whole for moment in (0.0, *one.seconds)]

    def heights(values: Sequence[float | None], full: float) -> list[float]:
        # Where it is not known, the line has a gap.
        shares = [float("nan") if value is None else min(1.0, value / (full or 1)) for value in values]
        return [row + _BOTTOM - (_BOTTOM - _TOP) * share for share in shares]

    # The two are read one after the other: the client's may seem a little more than the machine's.
    machine = [max(pair) for pair in zip(one.machine_cores, one.client_cores, strict=True)]
    for values, colour in ((machine, OTHERS), (one.client_cores, _CLIENT)):
        axes.stairs(heights(values, cores), edges, baseline=row + _BOTTOM, fill=True, color=colour)
    if one.gpu:
        axes.stairs(heights(one.gpu, 1), edges, baseline=None, color=_GPU, linewidth=1.1)
    axes.stairs(heights(one.clips_per_s, highest), edges, baseline=None, color=INK, linewidth=1.1)


TIMELINE_PLOT = PlotKind(
    "timeline",
    "Over time",
    "Clips per second as a share of a model's highest, which stands beside its name with the time that it took, the "
    "cores of this machine that were busy and, where it can be read, the use of the GPUs, each the mean since the "
    "sample before. Before and after the measured phase the load is another.",
    "clips per second, busy cores and GPU use over time",
    lambda result: result.measurement is not None and bool(result.measurement.utilisation.seconds),
    _timeline,
)
