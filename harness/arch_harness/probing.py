"""The probing part of a run: stored embeddings to scores, and models compared on the clips they share."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from arch_harness import interrupt
from arch_harness.datasets import DECLARATIONS, load_dataset
from arch_harness.errors import ScoreError, UsageError
from arch_harness.outcomes import load_outcomes, save_outcomes
from arch_harness.passes import pass_path, read_pass
from arch_harness.probes import intervals, probe_dataset
from arch_harness.probes.layers import probe_layers
from arch_harness.probes.scoring import Scored, epochs_of
from arch_harness.report import write_report
from arch_harness.results import (
    RESULTS,
    Comparison,
    FoldScore,
    LayerScores,
    ProbeScore,
    Result,
    Run,
    Settings,
    read_run,
    write_run,
)

if TYPE_CHECKING:
    from arch_harness.datasets import Dataset
    from arch_harness.display import Display
    from arch_harness.embedding_entry import Stored
    from arch_harness.embedding_store import EmbeddingStore
    from arch_harness.results import Failure, ModelFacts


@dataclass(frozen=True)
class Probed:
    """What the probes add to a result; the first probe gives the headline."""

    scored: list[Scored]
    layers: LayerScores | None
    seconds: float

    def fields(self) -> dict[str, Any]:
        """The fields of `Result` that the probes decide."""
        first = self.scored[0]
        score: ProbeScore = first.score
        folds: list[FoldScore] = score.folds
        return {
            "metric": first.metric,
            "score": score.score,
            "chance": first.chance,
            "macro_f1": score.macro_f1,
            "folds": folds,
            "std": score.std,
            "interval": score.interval,
            "probes": [one.score for one in self.scored],
            "layers": self.layers,
            "probe_seconds": self.seconds,
        }


def _outcomes_path(output: Path, model: str, dataset: str, probe: str) -> Path:
    return output / "outcomes" / f"{model}--{dataset}--{probe}.npz"


def digest(*parts: object) -> str:
    """A SHA-256 over anything that JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def embedding_fingerprint(model: ModelFacts, dataset: Dataset, settings: Settings) -> str:
    """Of all that the embeddings and their measurement come from."""
    return digest(model.model_dump(), dataset.fingerprint(), settings.concurrency, settings.workers, settings.layers)


def result_fingerprint(measured: str, settings: Settings) -> str:
    """Of the embeddings and all that their probes come from."""
    return digest(measured, "probes", settings.probes, settings.seed, settings.seeds, settings.epochs)


def is_done(output: Path, result: Result, fingerprint: str) -> bool:
    """Whether `result` is the one asked for, and what comparisons need of it is stored."""
    return result.fingerprint == fingerprint and all(
        load_outcomes(_outcomes_path(output, result.model, result.dataset, one.probe), fingerprint) is not None
        for one in result.probes
    )


def probe_pair(
    output: Path,
    model: str,
    dataset: Dataset,
    stored: Stored,
    failures: Sequence[Failure],
    settings: Settings,
    fingerprint: str,
    display: Display,
) -> Probed:
    """Run every probe of `settings` on the embeddings and keep what each made of the test clips.

    Raises:
        ScoreError: if there are no embeddings, or too few for a fold.
    """
    interrupt.check()
    if not stored.succeeded.any():
        first = failures[0]
        raise ScoreError(f"none of its {len(dataset.clips)} clips gave an embedding; {first.clip}: {first.reason}")
    failed = {failure.clip for failure in failures}
    # The store may hold what failed here: another run has mended it.
    succeeded = stored.succeeded & np.array([clip.path not in failed for clip in dataset.clips])
    clock = time.perf_counter()
    total = sum(epochs_of(probe, len(dataset.folds), settings) for probe in settings.probes)
    layers = stored.layers.shape[1]
    if layers:
        total += (layers + 1) * epochs_of("linear", len(dataset.folds), settings)
    with display.probing(model, dataset.id, total) as on_epoch:
        scored = [
            probe_dataset(probe, dataset, stored.embeddings, succeeded, settings, on_epoch) for probe in settings.probes
        ]
        of_layers = probe_layers(dataset, stored.layers, succeeded, settings, on_epoch) if layers else None
    interrupt.check()
    for one in scored:
        save_outcomes(_outcomes_path(output, model, dataset.id, one.score.probe), one.outcomes, fingerprint)
    return Probed(scored, of_layers, time.perf_counter() - clock)


def compare_models(run: Run, output: Path) -> list[Comparison]:
    """Every two models that have results on the same dataset, by each probe that both have; the better one first."""
    found = []
    for dataset in run.datasets:
        results = sorted((one for one in run.results if one.dataset == dataset.id), key=lambda one: -one.score)
        for one, other in combinations(results, 2):
            for probe in [score.probe for score in one.probes]:
                outcomes = [
                    load_outcomes(_outcomes_path(output, result.model, dataset.id, probe), result.fingerprint)
                    for result in (one, other)
                ]
                if outcomes[0] is None or outcomes[1] is None:
                    continue
                difference = intervals.compare(outcomes[0], outcomes[1], run.settings.seed)
                if difference is None:
                    continue
                found.append(
                    Comparison(
                        dataset=dataset.id,
                        probe=probe,
                        metric=one.metric,
                        model=one.model,
                        other=other.model,
                        clips=difference.clips,
                        difference=difference.difference,
                        low=difference.low,
                        high=difference.high,
                        more_than_noise=difference.more_than_noise,
                    )
                )
    return found


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

    Each result is saved as soon as it is done; speed and latency stay as they were measured.

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
        UsageError: if the folder holds no run, or the data or embeddings are not those of the run.
    """
    if not (folder / RESULTS).is_file():
        raise UsageError(f"{folder} holds no {RESULTS}; name a folder that arch bench wrote")
    run = read_run(folder / RESULTS)
    earlier = run.settings
    settings = Settings.model_validate({**earlier.model_dump(), "probes": list(probes), "seeds": seeds, "seed": seed})
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
    for position, fingerprint in enumerate(fingerprints):
        result = run.results[position]
        model, dataset = models[result.model], datasets[result.dataset]
        with store.open(model, dataset, earlier.layers) as entry:
            stored = entry.read()
        try:
            probed = probe_pair(folder, model.name, dataset, stored, result.failures, settings, fingerprint, display)
        except ScoreError as error:
            problems.append(f"{model.name} on {dataset.id} has no new score: {error}")
            continue
        run.results[position] = Result.model_validate({**dict(result), **probed.fields(), "fingerprint": fingerprint})
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
    facts = next(dataset for dataset in run.datasets if dataset.id == identifier)
    if identifier not in DECLARATIONS:
        raise UsageError(f"this version of arch does not know the dataset {identifier!r}")
    return load_dataset(DECLARATIONS[identifier], Path(facts.path))
