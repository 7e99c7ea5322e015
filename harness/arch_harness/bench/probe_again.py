"""Stored embeddings of an earlier run scored again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from arch_common.errors import ScoreError, UsageError

from arch_harness.bench.compare import compare_models
from arch_harness.bench.looking import Looker
from arch_harness.bench.resuming.fingerprints import embedding_fingerprint, result_fingerprint
from arch_harness.bench.resuming.output import held_output
from arch_harness.bench.resuming.resumable import resumable
from arch_harness.bench.score import is_done, probe_pair
from arch_harness.diagnosis.diagnose import diagnose
from arch_harness.embeddings.of_run import check_stored, open_again
from arch_harness.report import write_report
from arch_harness.results.embedding_pass import pass_path, read_pass
from arch_harness.results.run import RESULTS, Result, Run, Settings, check_settings, read_run, write_run

if TYPE_CHECKING:
    from arch_harness.bench.progress import Display
    from arch_harness.embeddings.store import EmbeddingStore


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
    datasets = {one.dataset: open_again(run, one.dataset) for one in run.results}
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
        check_stored(store, model, dataset, result, earlier)
        fingerprints.append(result_fingerprint(measured, settings))
    run.settings, run.command, run.config, run.comparisons, run.diagnoses = settings, command, "", [], None
    missing, run.partial = run.missing, True
    problems = []
    looker = Looker(run, None)
    if run.ablations and _probes_of(earlier) != _probes_of(settings):
        # Their embeddings are in the store, but which clips they leave out only their passes know.
        display.note("the ablations are of the earlier probes, and are left out: arch bench --ablate scores them again")
        run.ablations = []
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
            seen = looker.look(model, dataset, stored, result.failures, probed, display)
            run.results[position] = Result.model_validate(
                {**dict(result), **probed.fields(), **seen, "fingerprint": fingerprint}
            )
            write_run(run, folder / RESULTS)
        run.partial, run.comparisons = bool(missing), compare_models(run, folder)
        run.diagnoses = diagnose(run)
        write_report(run, folder)
    return run, problems


def _probes_of(settings: Settings) -> tuple[object, ...]:
    """What the score of the first probe comes from."""
    return settings.probes[0], settings.seed, settings.seeds, settings.epochs
