"""A run's layers analysed, as one object that can be shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from arch_common.errors import ArchError

from arch_bench.decisions.comparing import loaded, write_text
from arch_bench.extras import needs
from arch_bench.loaded import LoadedRun

if TYPE_CHECKING:
    from arch_harness.analysis.analyse import Analysis
    from arch_harness.results.run import Run
    from rich.console import Console, ConsoleOptions, RenderResult

PAGE, FIGURES = "analysis.html", "analysis.json"


@dataclass(frozen=True)
class Analysed:
    """What was found.

    Attributes:
        found: all figures.
        run: what was analysed.
        page: where it can be read; beside it the figures are in `analysis.json`.
    """

    found: Analysis
    run: Run = field(repr=False)
    page: Path

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """For a terminal."""
        from arch_harness.analysis.formats import TerminalAnalysis

        yield TerminalAnalysis(self.run, self.found)


def analyse(
    run: str | Path | LoadedRun,
    *,
    output: str | Path | None = None,
    cache: str | Path | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> Analysed:
    """Analyse the stored embeddings of a run with layers, and write a page and its figures; needs the extra `bench`.

    Args:
        run: a run of `bench(layers=True)`, its folder or its `results.json`.
        output: folder for `analysis.html` and `analysis.json`; by default that of the run.
        cache: the embedding store that it was computed with, if it is not the usual one.
        note: told what is being done.

    Raises:
        UsageError: if there is no run, it has no layers, the data have changed, or embeddings are not in the store.
        ArchError: if something cannot be read or written.
    """
    given = loaded(run, cache)
    with needs("bench"):
        from arch_harness.analysis.analyse import analyse_run
        from arch_harness.analysis.formats import analysis_to_html, analysis_to_json
        from arch_harness.embeddings.store import EmbeddingStore
    found = analyse_run(given.run, EmbeddingStore(given.cache, note), note)
    folder = Path(output) if output is not None else given.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArchError(f"cannot write to {folder}: {error.strerror}") from error
    write_text(folder / FIGURES, analysis_to_json(found))
    write_text(folder / PAGE, analysis_to_html(given.run, found))
    return Analysed(found, given.run, folder / PAGE)
