"""Reports of a run: `results.json`, its rows as CSV and Parquet, Markdown, HTML, plots, a table for the terminal."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from arch_common.errors import ArchError
from arch_common.files import whole_file

from arch_harness.report.choice.choose import choose
from arch_harness.report.formats.data_files import render_csv, render_parquet
from arch_harness.report.formats.html import render_html
from arch_harness.report.formats.markdown import render_markdown
from arch_harness.report.formats.terminal import TerminalReport
from arch_harness.report.formats.terminal_summary import TerminalScores, TerminalSummary
from arch_harness.report.plots.ablations import ABLATIONS, draw_ablations
from arch_harness.report.plots.confusion import CONFUSION, draw_confusion
from arch_harness.report.plots.pareto import ON_DATASET, OVER_ALL, draw_fronts
from arch_harness.report.plots.plot_kinds import RESULT_PLOTS, TIMING_PLOTS, draw_plots
from arch_harness.report.text.overview import build_overview
from arch_harness.results.run import write_run

if TYPE_CHECKING:
    from pathlib import Path

    from arch_harness.results.run import Run

__all__ = ["TerminalReport", "TerminalScores", "TerminalSummary", "write_report"]

_PLOTS = "plots"


def write_report(run: Run, folder: Path) -> list[Path]:
    """Write `results.json`, its rows as `.csv` and `.parquet`, `report.md`, `report.html` and `plots/*.svg`.

    All go into `folder`, which is made if missing.

    Each file is written whole or not at all. `results.json` is written first, so that no fault in a plot can lose a
    measurement; plots that an earlier report left in the folder and this one does not have are removed.

    Returns:
        The files written.

    Raises:
        ArchError: if the folder or a file in it cannot be written.
    """
    results = folder / "results.json"
    try:
        (folder / _PLOTS).mkdir(parents=True, exist_ok=True)
        write_run(run, results)
    except OSError as error:
        raise ArchError(f"cannot write {results}: {error.strerror}") from error

    rows = {folder / "results.csv": render_csv(run).encode(errors="replace")}
    rows[folder / "results.parquet"] = render_parquet(run)
    for path, content in rows.items():
        _write_whole(path, content)

    choice = choose(run)
    overview, timing = build_overview(run, choice), draw_plots(run, TIMING_PLOTS)
    fronts, groups = draw_fronts(choice), [*draw_plots(run, RESULT_PLOTS), *draw_confusion(run)]
    ablated = draw_ablations(run)
    drawn = [plot for group in (*fronts, *groups, *timing, *ablated) for plot in group.plots]
    texts = {folder / _PLOTS / plot.file: plot.svg for plot in drawn}
    written = [results, *rows, *texts, folder / "report.md", folder / "report.html"]
    texts[folder / "report.md"] = render_markdown(overview, fronts, groups, timing, _PLOTS, ablated)
    texts[folder / "report.html"] = render_html(overview, fronts, groups, timing, ablated)
    for path, text in texts.items():
        _write_whole(path, text.encode(errors="replace"))
    kinds = [kind.name for kind in (*RESULT_PLOTS, *TIMING_PLOTS)]
    for kind in (*kinds, CONFUSION, ABLATIONS, OVER_ALL, ON_DATASET):
        for path in (folder / _PLOTS).glob(f"{kind}-*.svg"):
            if path not in texts:
                with contextlib.suppress(OSError):  # the report is there: nothing in it names this one
                    path.unlink()
    return written


def _write_whole(path: Path, content: bytes) -> None:
    try:
        with whole_file(path) as file:
            file.write(content)
    except OSError as error:
        raise ArchError(f"cannot write {path}: {error.strerror}") from error
