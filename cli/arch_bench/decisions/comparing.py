"""Runs compared with a baseline, as one object that can be shown and written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from arch_common.errors import UsageError
from arch_common.files import whole_file

from arch_bench.extras import needs
from arch_bench.loaded import RESULTS, LoadedRun, load

if TYPE_CHECKING:
    from arch_harness.decision.compare import RunComparison
    from rich.console import Console, ConsoleOptions, RenderResult


@dataclass(frozen=True)
class Comparisons:
    """Runs, each against the baseline.

    Attributes:
        found: a comparison for each.
        verbose: whether a terminal is shown every figure.
    """

    found: list[RunComparison]
    verbose: bool = False

    def __iter__(self) -> Iterator[RunComparison]:
        return iter(self.found)

    @property
    def is_whole(self) -> bool:
        """Whether everything that two runs both have could be compared."""
        return all(one.is_whole for one in self.found)

    def write(
        self, *, markdown: str | Path | None = None, html: str | Path | None = None, json: str | Path | None = None
    ) -> None:
        """Write the files that are named, whole or not at all.

        Raises:
            ArchError: if one cannot be written.
        """
        from arch_harness.decision.document import comparison_text
        from arch_harness.decision.formats import comparisons_to_json, to_html, to_markdown

        pages = [comparison_text(one) for one in self.found]
        if markdown is not None:
            write_text(markdown, to_markdown(pages))
        if html is not None:
            write_text(html, to_html(pages))
        if json is not None:
            write_text(json, comparisons_to_json(self.found))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """For a terminal."""
        from arch_harness.decision.terminal import TerminalComparison
        from rich.text import Text

        for place, one in enumerate(self.found):
            if place:
                yield Text()
            yield TerminalComparison(one, self.verbose)


def compare(
    baseline: str | Path | LoadedRun,
    *runs: str | Path | LoadedRun,
    pairs: Mapping[str, str] | None = None,
    embeddings: bool = False,
    cache: str | Path | None = None,
    baseline_cache: str | Path | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> Comparisons:
    """Each run against a baseline; needs the extra `bench`.

    Args:
        baseline: a run, its folder or its `results.json`; or an embedding store, or the folder of one of its entries.
        runs: likewise; of stores, embeddings alone are compared.
        pairs: models of the runs, each with the model of the baseline that it is compared with.
        embeddings: whether the runs' stored embeddings are compared too.
        cache: the embedding store of the runs, if it is not the usual one.
        baseline_cache: that of the baseline; by default that of the runs.
        note: told what should be known of an embedding store.

    Raises:
        UsageError: if there is no such run or store, or two of them have nothing in common.
        ArchError: if one cannot be read.
    """
    if not runs:
        raise UsageError("name two runs or more: the first is the baseline that the others are compared with")
    with needs("bench"):
        from arch_harness.decision.compare import compare_runs, compare_stores
        from arch_harness.decision.cosine import entries_of
    given = [baseline, *runs]
    stores = [[] if _is_run(one) else entries_of(Path(str(one))) for one in given]
    if all(stores):
        found = [
            compare_stores(entries, stores[0], (str(one), str(baseline)), note)
            for one, entries in zip(runs, stores[1:], strict=True)
        ]
        return Comparisons(found)
    if any(stores):
        store = next(one for one, entries in zip(given, stores, strict=True) if entries)
        raise UsageError(f"{store} is an embedding store, which is compared with another one and not with a run")
    first = loaded(baseline, baseline_cache or cache).as_folder()
    others = [loaded(one, cache).as_folder() for one in runs]
    return Comparisons([compare_runs(one, first, pairs, embeddings=embeddings, note=note) for one in others])


def _is_run(given: str | Path | LoadedRun) -> bool:
    return isinstance(given, LoadedRun) or Path(given).name == RESULTS or (Path(given) / RESULTS).is_file()


def loaded(given: str | Path | LoadedRun, cache: str | Path | None) -> LoadedRun:
    """A run, read from its folder unless it has been."""
    return given if isinstance(given, LoadedRun) else load(given, cache=cache)


def write_text(path: str | Path, text: str) -> None:
    """Write a file, whole or not at all; a name that is no UTF-8 has a `?` in it.

    Raises:
        ArchError: if it cannot be written.
    """
    with whole_file(Path(path)) as file:
        file.write(text.encode(errors="replace"))
