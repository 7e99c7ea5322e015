"""All plots of a run: one small drawing per question and dataset, which a page may place side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arch_harness.report.plots.bars import BATCH_SIZES_PLOT, LATENCY_PLOT, STAGES_PLOT
from arch_harness.report.plots.panels import Panel, looks_of
from arch_harness.report.plots.scores import LAYERS_PLOT
from arch_harness.report.plots.style import styled
from arch_harness.report.plots.svg import Plot, PlotGroup, as_svg, file_names
from arch_harness.report.plots.timeline import TIMELINE_PLOT
from arch_harness.report.text.numbers import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arch_harness.report.plots.panels import PlotKind
    from arch_harness.results.run import Run

RESULT_PLOTS = (LATENCY_PLOT, BATCH_SIZES_PLOT, LAYERS_PLOT)
TIMING_PLOTS = (STAGES_PLOT, TIMELINE_PLOT)


def draw_plots(run: Run, kinds: Sequence[PlotKind]) -> list[PlotGroup]:
    """Draw every kind for every dataset; a kind that no result has anything for makes no group."""
    looks = looks_of(run)
    place = {name: index for index, name in enumerate(looks)}
    groups = []
    with styled():
        for kind in kinds:
            panels = []
            for dataset in run.datasets:
                found = [result for result in run.results if result.dataset == dataset.id and kind.shows(result)]
                if found:
                    found.sort(key=lambda result: place[result.model])
                    panels.append(Panel(clean(dataset.id), found, looks, run.machine.cores, dataset.incomplete))
            files = file_names(kind.name, [panel.dataset for panel in panels])
            drawn = [
                Plot(file, f"{panel.title}: {kind.label}", as_svg(kind.make(panel)))
                for file, panel in zip(files, panels, strict=True)
            ]
            if drawn:
                groups.append(PlotGroup(kind.title, kind.text, drawn))
    return groups
