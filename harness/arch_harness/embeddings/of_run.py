"""The stored embeddings that the results of a run were made of, with its datasets as they are now."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from arch_common.errors import UsageError

from arch_harness.datasets import Fold
from arch_harness.datasets.registry import open_dataset

if TYPE_CHECKING:
    from arch_harness.datasets import Dataset
    from arch_harness.embeddings.entry import Stored
    from arch_harness.embeddings.store import EmbeddingStore
    from arch_harness.results.run import ModelFacts, Result, Run, Settings


def open_again(run: Run, identifier: str) -> Dataset:
    """The dataset of a run as it is on the disk now.

    Raises:
        UsageError: if it is not there, or is another one.
    """
    facts = next(dataset for dataset in run.datasets if dataset.id == identifier)
    found = open_dataset(facts.reference, Path())
    if found.id != facts.id:
        raise UsageError(f"{facts.reference} is now the dataset {found.id!r}, not {facts.id!r}: run arch bench again")
    return found


def check_stored(
    store: EmbeddingStore, model: ModelFacts, dataset: Dataset, result: Result, settings: Settings
) -> None:
    """Refuse to go on without the embeddings that a result was made of.

    Raises:
        UsageError: if some are not in the store.
    """
    entry = store.open(model, dataset, settings.layers)
    missing = result.clips - result.failed
    if entry.exists:
        with entry:
            missing = len({path for _, path in entry.missing()} - {failure.clip for failure in result.failures})
    if missing:
        raise UsageError(
            f"{missing} of {result.clips} embeddings of {model.name} on {dataset.id} are not in the store "
            f"{store.root}: pruned, or kept elsewhere (--cache); arch bench computes them again"
        )


def read_embeddings(run: Run, store: EmbeddingStore, model: str, dataset: str) -> tuple[Dataset, Stored, list[Fold]]:
    """The stored embeddings that a result of a run was made of.

    Args:
        run: as `read_run` gives it.
        store: that it used.
        model: of the result.
        dataset: of the result.

    Returns:
        The dataset, its embeddings with those that failed left out (`succeeded` tells), and its folds with positions
        among those that are left.

    Raises:
        UsageError: if there is no such result, the data have changed, or embeddings are missing.
    """
    result = next((one for one in run.results if (one.model, one.dataset) == (model, dataset)), None)
    if result is None:
        known = ", ".join(f"{one.model} on {one.dataset}" for one in run.results) or "none"
        raise UsageError(f"the run has no result of {model} on {dataset}; it has: {known}")
    opened = open_again(run, dataset)
    facts = next(one for one in run.models if one.name == model)
    if opened.listing != next(one.listing for one in run.datasets if one.id == dataset):
        raise UsageError(f"the dataset in {opened.folder} has changed since the run: run arch bench again")
    check_stored(store, facts, opened, result, run.settings)
    with store.open(facts, opened, run.settings.layers) as entry:
        stored = entry.read()
    failed = {failure.clip for failure in result.failures}
    kept = stored.succeeded & np.array([clip.path not in failed for clip in opened.clips])
    place = np.cumsum(kept) - 1
    folds = [
        Fold(fold.name, *(place[part[kept[part]]] for part in (fold.train, fold.validation, fold.test)))
        for fold in opened.folds
    ]
    return opened, replace(stored, succeeded=kept), folds
