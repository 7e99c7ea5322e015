"""`arch bench`: every model on every dataset, each pair saved as soon as it is done."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from arch_harness import store
from arch_harness.errors import ArchError, ScoreError, UsageError
from arch_harness.machine import describe_machine
from arch_harness.probing import (
    Probed,
    compare_models,
    embedding_fingerprint,
    embeddings_path,
    is_done,
    probe_pair,
    result_fingerprint,
)
from arch_harness.report import write_report
from arch_harness.results import (
    RESULTS,
    DatasetFacts,
    Failure,
    ModelFacts,
    Percentiles,
    Result,
    Run,
    ServerFacts,
    ServerTimes,
    Settings,
    read_run,
    write_run,
)
from arch_harness.stream import Embedded, WorkerPool
from arch_harness.worker import Job

if TYPE_CHECKING:
    from arch_harness.datasets import Dataset
    from arch_harness.display import Display
    from arch_harness.triton import Server


class Bench:
    """One run: what is measured, and the folder that its results go to.

    A folder that holds results of the same run already is completed: pairs that are done are kept.

    Attributes:
        run: all results so far, as saved in `results.json`.
        problems: pairs that could not be scored, a line each.

    Raises:
        UsageError: if the folder holds results of a different run.
        ArchError: if the folder cannot be written or the server does not answer.
    """

    def __init__(
        self,
        server: Server,
        models: list[ModelFacts],
        datasets: list[Dataset],
        settings: Settings,
        output: Path,
        command: str,
    ) -> None:
        self._server = server
        self._models = models
        self._datasets = datasets
        self._output = output
        self.problems: list[str] = []
        self.run = Run(
            arch_version=version("arch-bench"),
            command=command,
            created=datetime.now(UTC),
            machine=describe_machine(),
            server=server.facts(),
            settings=settings,
            models=models,
            datasets=[_dataset_facts(dataset) for dataset in datasets],
            results=[],
        )
        try:
            output.mkdir(parents=True, exist_ok=True)
            if (output / RESULTS).exists():
                self._take_over(read_run(output / RESULTS))
            write_run(self.run, output / RESULTS)
        except OSError as error:
            raise ArchError(f"cannot write to {output}: {error.strerror}") from error

    def _take_over(self, earlier: Run) -> None:
        """Keep the earlier results; refuse if they and new ones could not stand in one report."""
        now = self.run
        for what, before, after in (
            ("settings", earlier.settings, now.settings),
            ("machine or package versions", earlier.machine, now.machine),
            ("version of arch", earlier.arch_version, now.arch_version),
            ("server", _identity(earlier.server), _identity(now.server)),
        ):
            if before != after:
                raise UsageError(f"{self._output} holds results of another {what}; choose another --output")
        known = {model.name: model for model in now.models}
        for model in earlier.models:
            if known.setdefault(model.name, model) != model:
                raise UsageError(
                    f"{self._output} holds results of another model named {model.name!r}; choose another --output"
                )
        now.models = list(known.values())
        for result in earlier.results:
            for dataset in self._datasets:
                measured = embedding_fingerprint(known[result.model], dataset, now.settings)
                if result.dataset == dataset.id and result.fingerprint != result_fingerprint(measured, now.settings):
                    raise UsageError(
                        f"{self._output} holds results of other data named {dataset.id!r}, or its files have changed; "
                        "choose another --output"
                    )
        datasets = {dataset.id: dataset for dataset in earlier.datasets} | {d.id: d for d in now.datasets}
        now.datasets = list(datasets.values())
        now.results = earlier.results
        now.comparisons = earlier.comparisons
        now.created = earlier.created

    def execute(self, display: Display) -> list[Path]:
        """Embed, probe and save each pair that is not done yet, then write the report.

        Returns:
            The report's files.

        Raises:
            ArchError: if the server is lost; what is done is saved, and the same call goes on from there.
        """
        pairs = [(model, dataset) for dataset in self._datasets for model in self._models]
        with WorkerPool(self.run.settings.workers, self.run.settings.concurrency) as pool:
            for model, dataset in pairs:
                measured = embedding_fingerprint(model, dataset, self.run.settings)
                fingerprint = result_fingerprint(measured, self.run.settings)
                if any(
                    is_done(self._output, result, fingerprint) and not _refused(result.failures)
                    for result in self.run.results
                ):
                    display.note(f"{model.name} on {dataset.id}: done by an earlier run, kept")
                    continue
                started = datetime.now(UTC)
                embedded, server = self._embed(pool, model, dataset, measured, display)
                try:
                    probed = probe_pair(
                        self._output, model.name, dataset, embedded, self.run.settings, fingerprint, display
                    )
                except ScoreError as error:
                    self.problems.append(f"{model.name} on {dataset.id} has no score: {error}")
                    continue
                self._save(_result(model, dataset, embedded, server, started, fingerprint, probed))
        self.run.comparisons = compare_models(self.run, self._output)
        return write_report(self.run, self._output)

    def _embed(
        self, pool: WorkerPool, model: ModelFacts, dataset: Dataset, fingerprint: str, display: Display
    ) -> tuple[Embedded, ServerTimes]:
        path = embeddings_path(self._output, model.name, dataset.id)
        stored = store.load(path, fingerprint)
        if stored is not None and not _refused(stored[0].failures):
            display.note(f"{model.name} on {dataset.id}: embeddings of an earlier run, kept")
            return stored
        job = Job(
            address=self._server.address,
            model=model.name,
            folder=dataset.folder.resolve(),
            sample_rate=model.sample_rate,
            max_seconds=dataset.declaration.max_seconds,
            embedding_size=model.embedding_size,
            layers=model.layer_embeddings if self.run.settings.layers else 0,
        )
        before = self._server.statistics(model.name)
        with display.embedding(model.name, dataset.id, len(dataset.clips)) as on_progress:
            embedded = pool.embed(dataset, job, on_progress)
        asked = len(embedded.latencies_ms) + sum(failure.stage == "infer" for failure in embedded.failures)
        server = self._server.statistics(model.name).since(before, asked)
        store.save(path, embedded, server, fingerprint)
        return embedded, server

    def _save(self, result: Result) -> None:
        pair = (result.model, result.dataset)
        self.run.results = [old for old in self.run.results if (old.model, old.dataset) != pair] + [result]
        models = [model.name for model in self.run.models]
        datasets = [dataset.id for dataset in self.run.datasets]
        self.run.results.sort(key=lambda one: (datasets.index(one.dataset), models.index(one.model)))
        self.run.comparisons = []  # made anew when all results are there
        write_run(self.run, self._output / RESULTS)


def _identity(server: ServerFacts) -> tuple[str, ...]:
    """What makes figures of two servers comparable; one started for the run has another port each time."""
    return (server.name, server.version, "" if server.started_by_arch else server.address)


def _refused(failures: Iterable[Failure]) -> bool:
    """Whether the server failed a clip: it may be mended, so it is asked again next time."""
    return any(failure.stage == "infer" for failure in failures)


def _result(
    model: ModelFacts,
    dataset: Dataset,
    embedded: Embedded,
    server: ServerTimes,
    started: datetime,
    fingerprint: str,
    probed: Probed,
) -> Result:
    p50, p95, p99 = np.percentile(embedded.latencies_ms, [50, 95, 99])
    return Result(
        model=model.name,
        dataset=dataset.id,
        clips=len(dataset.clips),
        failed=len(embedded.failures),
        failures=embedded.failures,
        clips_per_s=len(embedded.latencies_ms) / embedded.seconds,
        rtfx=embedded.audio_seconds / embedded.seconds,
        latency_ms=Percentiles(p50=p50, p95=p95, p99=p99),
        server=server,
        audio_seconds=embedded.audio_seconds,
        embed_seconds=embedded.seconds,
        started=started,
        fingerprint=fingerprint,
        **probed.fields(),
    )


def _dataset_facts(dataset: Dataset) -> DatasetFacts:
    declaration = dataset.declaration
    return DatasetFacts(
        id=declaration.id,
        title=declaration.title,
        domain=declaration.domain,
        licence=declaration.licence,
        citation=declaration.citation,
        path=str(dataset.folder),
        classes=len(dataset.classes),
        clips=len(dataset.clips),
        clips_official=declaration.clips_official,
        max_seconds=declaration.max_seconds,
        folds=len(dataset.folds),
        notes=dataset.notes,
    )
