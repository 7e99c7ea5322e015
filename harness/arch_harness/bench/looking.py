"""What is looked at of a pair beside its scores, at the point where embeddings and splits are at hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from arch_common.errors import ArchError

from arch_harness.diagnosis.answers import look_at_answers
from arch_harness.diagnosis.embeddings import look_at_embeddings
from arch_harness.diagnosis.files import SeenFiles, look_at_files

if TYPE_CHECKING:
    from arch_harness.bench.progress import Display
    from arch_harness.bench.score import Probed
    from arch_harness.datasets import Dataset
    from arch_harness.embeddings.entry import Stored
    from arch_harness.results.run import DatasetFacts, ModelFacts, Run
    from arch_harness.results.scores import Failure
    from arch_harness.triton.server import Server


class Looker:
    """Looks at the files of a dataset once, and at each pair.

    Args:
        run: whose facts of datasets are completed.
        server: that is asked once more for a few embeddings; None where there is none.
    """

    def __init__(self, run: Run, server: Server | None) -> None:
        self._run = run
        self._server = server
        self._files: dict[str, SeenFiles] = {}

    def look(
        self,
        model: ModelFacts,
        dataset: Dataset,
        stored: Stored,
        failures: Sequence[Failure],
        probed: Probed,
        display: Display,
    ) -> dict[str, Any]:
        """The fields of `Result` that say what was seen; the dataset's facts in the run then say what its files are."""
        if dataset.id not in self._files:
            self._files[dataset.id] = look_at_files(dataset)
        files = self._files[dataset.id]
        self._run.datasets = [
            one if one.id != dataset.id else one.model_copy(update={"files": files.facts}) for one in self._run.datasets
        ]
        failed = {failure.clip for failure in failures}
        succeeded = stored.succeeded & np.array([clip.path not in failed for clip in dataset.clips])
        predictions = probed.scored[0].predictions
        found: dict[str, Any] = {
            "embeddings": look_at_embeddings(dataset, stored.embeddings, succeeded, files.copies, predictions)
        }
        if self._server is not None:
            try:
                found["resent"] = look_at_answers(self._server, model, dataset, stored.embeddings, succeeded)
            except ArchError as error:
                display.note(f"{model.name} on {dataset.id}: not looked at whether batches move embeddings: {error}")
        return found


def with_files(now: Sequence[DatasetFacts], earlier: Sequence[DatasetFacts]) -> list[DatasetFacts]:
    """Facts of datasets with what an earlier run saw of the files of the same ones."""
    seen = {(one.id, one.listing): one.files for one in earlier}
    return [one.model_copy(update={"files": seen.get((one.id, one.listing))}) for one in now]
