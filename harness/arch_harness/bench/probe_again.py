"""Stored embeddings of an earlier run scored again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from arch_common.errors import ScoreError, UsageError

from arch_harness.bench.compare import compare_models
from arch_harness.bench.fingerprints import embedding_fingerprint, result_fingerprint
from arch_harness.bench.output import held_output
from arch_harness.bench.resumable import resumable
from arch_harness.bench.score import is_done, probe_pair
from arch_harness.datasets import Fold
from arch_harness.datasets.registry import open_dataset
from arch_harness.report import write_report
from arch_harness.results.embedding_pass import pass_path, read_pass
from arch_harness.results.run import RESULTS, Result, Run, Settings, check_settings, read_run, write_run

if TYPE_CHECKING:
    from arch_harness.bench.progress import Display
    from arch_harness.datasets import Dataset
    from arch_harness.embeddings.entry import Stored
    from arch_harness.embeddings.store import EmbeddingStore
    from arch_harness.results.run import ModelFacts


def probe_again(
    folder: Path,
    store: EmbeddingStore,
    probes: Sequence[str],
    seeds: int,
    seed: int,
    display: Display,
    command: str,
) -> tuple[Run, list[str]]:
    """Score the stored embeddings of a run again, and write its results and report anew.

    Each result is saved as soon as it is done, and is kept where the same is asked for again; speed and latency stay as
    they were measured.

    Args:
        folder: of a run of `arch bench`.
        store: that the run used.
        probes: which ones, the headline first.
        seeds: probes trained per fold.
        seed: the first seed.
        display: told the progress.
        command: for the report.

    Returns:
        The run, and the pairs that could not be scored, a line each; these keep the scores they had.

    Raises:
        UsageError: if the folder holds no run, another process writes to it, or the data or embeddings are not those of
            the run.
    """
    if not (folder / RESULTS).is_file():
        raise UsageError(f"{folder} holds no {RESULTS}; name a folder that arch bench wrote")
    with held_output(folder):
        return _probe_again(folder, store, (probes, seeds, seed), display, command)


def _probe_again(
    folder: Path, store: EmbeddingStore, asked: tuple[Sequence[str], int, int], display: Display, command: str
) -> tuple[Run, list[str]]:
    probes, seeds, seed = asked
    run = read_run(folder / RESULTS)
    earlier = run.settings
    settings = check_settings(**{**earlier.model_dump(), "probes": list(probes), "seeds": seeds, "seed": seed})
    models = {model.name: model for model in run.models}
    datasets = {one.dataset: _load(run, one.dataset) for one in run.results}
    # All embeddings are looked for before any result is replaced.
    fingerprints = []
    for result in run.results:
        model, dataset = models[result.model], datasets[result.dataset]
        measured = embedding_fingerprint(model, dataset, earlier)
        path = pass_path(folder, model.name, dataset.id)
        if read_pass(path, measured) is None:
            raise UsageError(
                f"{path} is missing or not of the dataset in {dataset.folder} as it is now: run arch bench again"
            )
        _check(store, model, dataset, result, earlier)
        fingerprints.append(result_fingerprint(measured, settings))
    run.settings, run.command, run.comparisons = settings, command, []
    problems = []
    with resumable("the same command"):
        for position, fingerprint in enumerate(fingerprints):
            result = run.results[position]
            if is_done(folder, result, fingerprint):
                display.note(f"{result.model} on {result.dataset}: scored so already, kept")
                continue
            model, dataset = models[result.model], datasets[result.dataset]
            with store.open(model, dataset, earlier.layers) as entry:
                stored = entry.read()
            try:
                probed = probe_pair(
                    folder, model.name, dataset, stored, result.failures, settings, fingerprint, display
                )
            except ScoreError as error:
                problems.append(f"{model.name} on {dataset.id} has no new score: {error}")
                continue
            run.results[position] = Result.model_validate(
                {**dict(result), **probed.fields(), "fingerprint": fingerprint}
            )
            write_run(run, folder / RESULTS)
        run.comparisons = compare_models(run, folder)
        write_report(run, folder)
    return run, problems


def _check(store: EmbeddingStore, model: ModelFacts, dataset: Dataset, result: Result, settings: Settings) -> None:
    """Refuse to score a result anew without the embeddings that it was made of."""
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


def _load(run: Run, identifier: str) -> Dataset:
    """The dataset of a run as it is on the disk now.

    Raises:
        UsageError: if it is not there, or is another one.
    """
    facts = next(dataset for dataset in run.datasets if dataset.id == identifier)
    found = open_dataset(facts.reference, Path())
    if found.id != facts.id:
        raise UsageError(f"{facts.reference} is now the dataset {found.id!r}, not {facts.id!r}: run arch bench again")
    return found


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
    opened = _load(run, dataset)
    facts = next(one for one in run.models if one.name == model)
    if opened.listing != next(one.listing for one in run.datasets if one.id == dataset):
        raise UsageError(f"the dataset in {opened.folder} has changed since the run: run arch bench again")
    _check(store, facts, opened, result, run.settings)
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
