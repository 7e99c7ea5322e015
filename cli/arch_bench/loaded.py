"""A run that `bench` wrote, to be worked with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from arch_common.errors import UsageError

from arch_bench import cache as store
from arch_bench.extras import needs

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from arch_harness.datasets import Fold
    from arch_harness.decision.compare import RunComparison, RunFolder
    from arch_harness.results.run import Run
    from numpy.typing import NDArray
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

RESULTS = "results.json"


@dataclass(frozen=True)
class Embeddings:
    """The embeddings of a dataset's clips, in its order, without those of clips that failed.

    Attributes:
        array: FP32 [clips, embedding size].
        labels: int64 [clips], positions in `classes`; where clips have several labels, bool [clips, classes].
        folds: the dataset's, with positions in `array`.
        paths: of the clips, relative to the dataset's folder.
        classes: names of the labels.
        layers: FP32 [clips, layers, embedding size]; of no layers where the run did not ask for them.
    """

    array: NDArray[np.float32]
    labels: NDArray[np.int64] | NDArray[np.bool_]
    folds: list[Fold]
    paths: list[str]
    classes: list[str]
    layers: NDArray[np.float32]


@dataclass(frozen=True)
class LoadedRun:
    """A run: its results as they are stored, and what can be made of them.

    Attributes:
        folder: where its report is.
        run: all that `results.json` holds.
        cache: the embedding store that it was computed with.
        problems: pairs of model and dataset that could not be scored, a line each; known only to who ran it.
    """

    folder: Path
    run: Run = field(repr=False)
    cache: Path
    problems: tuple[str, ...] = ()

    @property
    def report(self) -> Path:
        """The page to read."""
        return self.folder / "report.html"

    @property
    def failed(self) -> int:
        """Clips that gave no embedding, over all pairs; they count in no score."""
        return self.run.failed

    def to_pandas(self) -> pd.DataFrame:
        """One row for each model, dataset and probe; the columns are in docs/results.md and keep their names."""
        with needs("bench"):
            import pandas as pd
            from arch_harness.results.rows import COLUMNS, rows
        return pd.DataFrame(rows(self.run), columns=list(COLUMNS))

    def embeddings(self, model: str, dataset: str) -> Embeddings:
        """What the model made of the dataset's clips, from the embedding store.

        Raises:
            UsageError: if the run has no such pair, the data are not there as they were, or the embeddings are not in
                the store.
        """
        with needs("bench"):
            from arch_harness.embeddings.of_run import read_embeddings
            from arch_harness.embeddings.store import EmbeddingStore
        found, stored, folds = read_embeddings(self.run, EmbeddingStore(self.cache), model, dataset)
        kept = stored.succeeded
        return Embeddings(
            stored.embeddings[kept],
            found.targets[kept],
            folds,
            [clip.path for clip, succeeded in zip(found.clips, kept, strict=True) if succeeded],
            found.classes,
            stored.layers[kept],
        )

    def compare(
        self, other: LoadedRun, *, pairs: Mapping[str, str] | None = None, embeddings: bool = False
    ) -> RunComparison:
        """This run against another one, wherever both have a model of the same name on the same data.

        The scores are compared on the clips that both have, so what makes a clip hard for both cancels out.

        Args:
            other: the baseline.
            pairs: models of this run, each with the model of the other that it is compared with.
            embeddings: whether the stored embeddings are compared too.

        Raises:
            UsageError: if the two have nothing in common.
            ArchError: if embeddings are asked for and a store cannot be read.
        """
        with needs("bench"):
            from arch_harness.decision.compare import compare_runs
        return compare_runs(self.as_folder(), other.as_folder(), pairs, embeddings=embeddings)

    def as_folder(self) -> RunFolder:
        """As the harness compares it."""
        with needs("bench"):
            from arch_harness.decision.compare import RunFolder
        return RunFolder(self.folder, self.run, self.cache)

    def scores(self, taken: int = 1) -> RenderableType:
        """What every probe scores, for a terminal; the speed, which is of when the embeddings were computed, is not.

        Args:
            taken: lines that are printed below it.
        """
        from arch_harness.report import TerminalScores

        return TerminalScores(self.run, taken)

    def summary(self, taken: int = 1) -> RenderableType:
        """One table and what to deploy, for a terminal.

        Args:
            taken: lines that are printed below it.
        """
        from arch_harness.report import TerminalSummary

        return TerminalSummary(self.run, taken)

    def stages(self) -> RenderableType:
        """The long tables, for a terminal: every figure of the results, and where the time goes."""
        from arch_harness.report import TerminalReport

        return TerminalReport(self.run)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The summary."""
        yield self.summary()


def run_folder(path: str | Path) -> Path:
    """The folder of a run that is named by it, or by its `results.json`; there need be none."""
    path = Path(path)
    return path.parent if path.name == RESULTS else path


def load(folder: str | Path, *, cache: str | Path | None = None) -> LoadedRun:
    """Read a run that `bench` wrote; needs the extra `bench`.

    Args:
        folder: of the report, or its `results.json`.
        cache: the embedding store that it was computed with, if it is not the usual one.

    Raises:
        UsageError: if there is no run.
        ArchError: if `results.json` cannot be read, or is of another version of arch.
    """
    folder = run_folder(folder)
    if not (folder / RESULTS).is_file():
        raise UsageError(f"{folder} holds no {RESULTS}; name a folder that arch bench wrote")
    with needs("bench"):
        from arch_harness.results.run import read_run
    return LoadedRun(folder, read_run(folder / RESULTS), store.root(cache))
