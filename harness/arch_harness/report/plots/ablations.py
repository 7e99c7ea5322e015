"""What other preprocessing does to the scores, drawn: each setting's difference with its interval."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from arch_harness.report.plots.panels import add_legend, looks_of, point, title_of
from arch_harness.report.plots.style import FAINT, styled
from arch_harness.report.plots.svg import Plot, PlotGroup, as_svg, file_names
from arch_harness.report.text.ablations import verdict
from arch_harness.report.text.numbers import clean, shorten
from arch_harness.report.text.remarks import incomplete_of
from arch_harness.results.checks.ablations import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arch_harness.report.plots.panels import Look
    from arch_harness.results.checks.ablations import Ablation
    from arch_harness.results.run import Run

ABLATIONS = "ablations"
"""The first part of the pictures' file names."""

_WIDTH, _ROW, _EDGES, _TITLE = 4.4, 0.21, 1.35, 40  # inches, and characters of the title


def draw_ablations(run: Run) -> list[PlotGroup]:
    """A picture of each dataset with ablations; no group if there is none."""
    of_dataset = {
        dataset.id: [one for one in run.ablations if one.dataset == dataset.id]
        for dataset in run.datasets
        if any(one.dataset == dataset.id for one in run.ablations)
    }
    if not of_dataset:
        return []
    looks, incomplete = looks_of(run), incomplete_of(run)
    plots = []
    with styled():
        files = file_names(ABLATIONS, [clean(name) for name in of_dataset])
        for file, (name, found) in zip(files, of_dataset.items(), strict=True):
            title = title_of(clean(name), name in incomplete)
            label = f"{title}: change of the score under other preprocessing"
            plots.append(Plot(file, label, as_svg(_picture(title, looks, found))))
    text = (
        "How each setting changes a model's score, with the 95 % interval of the difference on the same clips. A "
        "filled mark is a real difference, a hollow one is noise."
    )
    return [PlotGroup("What the preprocessing changes", text, plots)]


def _picture(title: str, looks: dict[str, Look], found: Sequence[Ablation]) -> Figure:
    settings = [setting for setting in SETTINGS if any(one.setting == setting for one in found)]
    models = [name for name in looks if any(one.model == name for one in found)]
    height = _EDGES + _ROW * (len(found) + 0.4 * len(settings)) + 0.19 * len(models)
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    figure.suptitle(shorten(title, _TITLE), x=0.02, ha="left")
    hollow = Line2D([], [], linestyle="none", marker="o", markerfacecolor="white", markeredgecolor=FAINT, label="noise")
    add_legend(figure, [*(looks[name].handle() for name in models), hollow], loc="outside lower left", ncols=1)
    axes = figure.add_subplot()
    place, places = 0.0, []
    for setting in settings:
        rows = sorted((one for one in found if one.setting == setting), key=lambda one: models.index(one.model))
        places.append(place + (len(rows) - 1) / 2)
        for one in rows:
            look = looks[one.model]
            axes.plot([100 * one.low, 100 * one.high], [place, place], color=look.colour, linewidth=1.2)
            mark = point(look, [100 * one.difference], [place], zorder=3)
            if verdict(one) != "real":
                mark.set(markerfacecolor="white", markeredgecolor=look.colour, markeredgewidth=1.2)
            axes.add_line(mark)
            place += 1
        place += 0.4
    axes.axvline(0, color=FAINT, linestyle=(0, (5, 3)), linewidth=1, zorder=1)
    axes.set_yticks(places, settings)
    axes.set_ylim(place - 0.9, -0.7)
    ends = [100 * end for one in found for end in (one.low, one.high)]
    axes.set_xlim(min(-0.5, *ends) * 1.05, max(0.5, *ends) * 1.05)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.set_xlabel("Difference in score (points)")
    axes.grid(visible=False, axis="y")
    return figure
