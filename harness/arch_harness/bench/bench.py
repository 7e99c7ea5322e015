"""`arch bench`: every model on every dataset, each pair saved as soon as it is done."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from arch_common import interrupt
from arch_common.errors import ArchError, ScoreError, UsageError

from arch_harness.bench.compare import compare_models
from arch_harness.bench.fingerprints import embedding_fingerprint, result_fingerprint
from arch_harness.bench.footprints import gather_footprints
from arch_harness.bench.resumable import resumable
from arch_harness.bench.score import Probed, is_done, probe_pair
from arch_harness.bench.speed import SpeedRuns
from arch_harness.measuring.machine import describe_machine
from arch_harness.report import write_report
from arch_harness.results.embedding_pass import EmbeddingPass, pass_path, read_pass, write_pass
from arch_harness.results.run import (
    RESULTS,
    DatasetFacts,
    ModelFacts,
    Result,
    Run,
    ServerFacts,
    Settings,
    Unscored,
    read_run,
    write_run,
)
from arch_harness.results.scores import Failure
from arch_harness.streaming.wire import Job

if TYPE_CHECKING:
    from arch_harness.bench.progress import Display
    from arch_harness.datasets import Dataset
    from arch_harness.embeddings.entry import Stored
    from arch_harness.embeddings.store import EmbeddingStore
    from arch_harness.streaming.pool import WorkerPool
    from arch_harness.triton.server import Server

_OF_PROBES = {"probes", "seed", "seeds", "epochs"}
_OF_MORE_SPEED = {"repeat", "rate"}  # of which what is missing is measured


class Bench:
    """One run: what is measured, and the folder that its results go to.

    A folder that holds results of the same run already is completed: pairs that are done are kept, and of the others no
    embedding is computed that is in the store.

    Args:
        servers: that share the load; all serve the same models.
        pool: that sends clips to them; entered once it is needed.
        store: where embeddings are read from and written to.
        recompute: embed what is in the store too, but for what this run has embedded before it was interrupted.

    Attributes:
        run: all results so far, as saved in `results.json`.
        problems: pairs that could not be scored, a line each.

    Raises:
        UsageError: if the folder holds results of a different run.
        ArchError: if the folder cannot be written or the server does not answer.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        models: list[ModelFacts],
        datasets: list[Dataset],
        settings: Settings,
        output: Path,
        command: str,
        pool: WorkerPool,
        store: EmbeddingStore,
        recompute: bool = False,
    ) -> None:
        self._servers = servers
        self._pool = pool
        self._models = models
        self._datasets = datasets
        self._output = output
        self._store = store
        self._recompute = recompute
        self.problems: list[str] = []
        self.run = Run(
            arch_version=version("arch-bench"),
            command=command,
            created=datetime.now(UTC),
            machine=describe_machine(),
            servers=[server.facts() for server in servers],
            settings=settings,
            models=models,
            datasets=[_dataset_facts(dataset) for dataset in datasets],
            results=[],
        )
        if output.exists() and not output.is_dir():
            raise UsageError(f"--output {output} is a file, and must be a folder")
        try:
            output.mkdir(parents=True, exist_ok=True)
            if (output / RESULTS).exists():
                self._take_over(read_run(output / RESULTS))
            write_run(self.run, output / RESULTS)
        except OSError as error:
            raise ArchError(f"cannot write to {output}: {error.strerror}") from error

    @staticmethod
    def warnings(models: Sequence[ModelFacts], settings: Settings) -> list[str]:
        """What should be known of the models before they are measured, a line each.

        Raises:
            UsageError: if every layer is asked for and no model has them.
        """
        lines = []
        for one in models:
            if one.runs_otherwise:
                lines.append(f"warning: {one.name}, exported in {one.precision}, is served in {one.executed_by}")
            if one.parity_missed:
                lines.append(f"warning: {one.name} misses its limits: {one.parity_missed}")
        without = ", ".join(one.name for one in models if not one.layer_embeddings)
        if settings.layers and not any(one.layer_embeddings for one in models):
            raise UsageError(f"--layers: no layer embeddings in {without}; export with --layers all")
        if settings.layers and without:
            lines.append(f"only the last layer of {without} is probed: no layer embeddings")
        return lines

    def _take_over(self, earlier: Run) -> None:
        """Keep the earlier results; refuse if they and new ones could not stand in one report."""
        now = self.run
        for what, before, after in (
            ("machine or package versions", earlier.machine, now.machine),
            ("version of arch", earlier.arch_version, now.arch_version),
            ("server", sorted(map(_identity, earlier.servers)), sorted(map(_identity, now.servers))),
        ):
            if before != after:
                raise UsageError(f"{self._output} holds results of another {what}; choose another --output")
        self._check_settings(earlier)
        known = {model.name: model for model in now.models}
        for model in earlier.models:
            if known.setdefault(model.name, model) != model:
                raise UsageError(
                    f"{self._output} holds results of another model named {model.name!r}; choose another --output"
                )
        now.models = list(known.values())
        again = []
        for result in earlier.results:
            for dataset in self._datasets:
                measured = embedding_fingerprint(known[result.model], dataset, now.settings)
                if result.dataset != dataset.id or result.fingerprint == result_fingerprint(measured, now.settings):
                    continue
                path = pass_path(self._output, result.model, dataset.id)
                if result.model not in {model.name for model in self._models} or read_pass(path, measured) is None:
                    raise UsageError(
                        f"{self._output} holds results of other data named {dataset.id!r}, or its files have changed; "
                        "choose another --output"
                    )
                again.append(result)  # arch probe has scored its embeddings otherwise
        datasets = {dataset.id: dataset for dataset in earlier.datasets} | {d.id: d for d in now.datasets}
        now.datasets = list(datasets.values())
        now.results = [result for result in earlier.results if result not in again]
        now.unscored = earlier.unscored
        now.footprints = earlier.footprints
        now.comparisons = [] if again else earlier.comparisons
        now.created = earlier.created

    def _check_settings(self, earlier: Run) -> None:
        """Refuse settings that results in one report cannot have beside the earlier ones.

        What only the probes go by may be another, as after `arch probe`, if every earlier result is asked for: its
        embeddings are scored again.
        """
        before, after = earlier.settings, self.run.settings
        fields = set(Settings.model_fields) - _OF_MORE_SPEED
        other = [name for name in sorted(fields) if getattr(before, name) != getattr(after, name)]
        words = ", ".join(f"{name} {getattr(before, name)!r} instead of {getattr(after, name)!r}" for name in other)
        if set(other) - _OF_PROBES:
            raise UsageError(f"{self._output} holds results of other settings ({words}); choose another --output")
        asked = {(model.name, dataset.id) for model in self._models for dataset in self._datasets}
        left = [f"{one.model} on {one.dataset}" for one in earlier.results if (one.model, one.dataset) not in asked]
        if other and left:
            raise UsageError(
                f"{self._output} holds results of other settings ({words}), of {left[0]} too, which is not asked for: "
                "ask for all of them, or choose another --output"
            )

    def execute(self, display: Display) -> list[Path]:
        """Embed, probe and save each pair that is not done yet, then write the report.

        Returns:
            The report's files.

        Raises:
            ArchError: if the servers are lost or the disk is full; what is done is saved, and the same call goes on
                from there.
        """
        with resumable(f"the same command with --output {shlex.quote(str(self._output))}"):
            return self._execute(display)

    def _execute(self, display: Display) -> list[Path]:
        with ExitStack() as stack:

            @cache  # not before it is needed: all embeddings may be in the store
            def pool() -> WorkerPool:
                display.note(f"starting {self._pool.workers} worker{'' if self._pool.workers == 1 else 's'}")
                return stack.enter_context(self._pool)

            for dataset in self._datasets:
                for model in self._models:
                    interrupt.check()
                    self._pair(pool, model, dataset, display)
                # Side by side in time, so that what changes slowly on a machine changes for all models.
                speed = SpeedRuns(self.run, self._output, dataset, self._save)
                speed.measure(pool, {model.name: self._job(model, dataset) for model in self._models}, display)
                if pool.cache_info().currsize:  # otherwise the servers did nothing
                    self.run.footprints = gather_footprints(self.run, self._servers, self._models)
        self.run.comparisons = compare_models(self.run, self._output)
        return write_report(self.run, self._output)

    def _pair(self, pool: Callable[[], WorkerPool], model: ModelFacts, dataset: Dataset, display: Display) -> None:
        """Embed, probe and save one model on one dataset, if that is not done yet."""
        settings = self.run.settings
        measured = embedding_fingerprint(model, dataset, settings)
        fingerprint = result_fingerprint(measured, settings)
        if any(
            is_done(self._output, result, fingerprint)
            and not _refused(result.failures)
            and not (self._recompute and result.stored)
            for result in self.run.results
        ):
            display.note(f"{model.name} on {dataset.id}: done by an earlier run, kept")
            return
        stored, passed = self._embed(pool, model, dataset, measured, display)
        failures = passed.failures + _changed(dataset, stored, passed.failures)
        try:
            probed = probe_pair(self._output, model.name, dataset, stored, failures, settings, fingerprint, display)
        except ScoreError as error:
            self.problems.append(f"{model.name} on {dataset.id} has no score: {error}")
            self._save(_unscored(model, dataset, failures, str(error)))
            return
        self._save(_result(model, dataset, passed, failures, fingerprint, probed))

    def _embed(
        self,
        pool: Callable[[], WorkerPool],
        model: ModelFacts,
        dataset: Dataset,
        fingerprint: str,
        display: Display,
    ) -> tuple[Stored, EmbeddingPass]:
        """Compute what the store lacks, and read the rest from it."""
        name, path = f"{model.name} on {dataset.id}", pass_path(self._output, model.name, dataset.id)
        earlier = read_pass(path, fingerprint)
        with self._store.open(model, dataset, self.run.settings.layers) as entry:
            # Named after the folder's results and not its path, which may hold another run by then.
            run = f"{self.run.created.isoformat()} {fingerprint}"
            clips = entry.remaining(run) if self._recompute else entry.missing()
            if earlier and _covers(earlier, clips):
                display.note(f"{name}: embedded by an earlier run, kept")
                return entry.read(), earlier
            if len(clips) < len(dataset.clips):
                computed = f"{len(clips):,} are computed" if clips else "none is computed"
                origin = "were computed before this run was interrupted" if self._recompute else "come from the store"
                there = len(dataset.clips) - len(clips)
                display.note(f"{name}: {there:,} of {len(dataset.clips):,} embeddings {origin}, {computed}")
            passed = EmbeddingPass(fingerprint=fingerprint, started=datetime.now(UTC), failures=[], measurement=None)
            if clips:
                job, workers = self._job(model, dataset), pool()
                with display.embedding(model.name, dataset.id, len(clips)) as on_progress:
                    streamed = workers.embed(job, clips, lambda chunk: entry.append(chunk.embeddings), on_progress)
                passed.failures = [
                    Failure(clip=dataset.clips[index].path, stage=stage, reason=reason)
                    for index, stage, reason in sorted(streamed.failures)
                ]
                passed.measurement = streamed.measurement if streamed.measurement.clips else None
                entry.discard(index for index, *_ in streamed.failures)
                entry.flush()
            if earlier and not self._recompute and earlier.clips > passed.clips:
                passed = passed.measured_by(earlier)
            # At once, for the next time all embeddings are in the store and give no figures.
            write_pass(passed, path)
            entry.finish()
            return entry.read(), passed

    def _job(self, model: ModelFacts, dataset: Dataset) -> Job:
        return Job(
            model=model.name,
            folder=dataset.folder.resolve(),
            sample_rate=model.sample_rate,
            max_seconds=dataset.declaration.max_seconds,
            embedding_size=model.embedding_size,
            layers=model.layer_embeddings if self.run.settings.layers else 0,
            max_batch_size=model.max_batch_size,
        )

    def _save(self, outcome: Result | Unscored) -> None:
        """Put what came of a pair in the place of what an earlier run made of it."""
        run, pair = self.run, (outcome.model, outcome.dataset)
        run.results = [one for one in run.results if (one.model, one.dataset) != pair]
        run.unscored = [one for one in run.unscored if (one.model, one.dataset) != pair]
        if isinstance(outcome, Result):
            run.results.append(outcome)
        else:
            run.unscored.append(outcome)
        models = [model.name for model in run.models]
        datasets = [dataset.id for dataset in run.datasets]
        run.results.sort(key=lambda one: (datasets.index(one.dataset), models.index(one.model)))
        run.unscored.sort(key=lambda one: (datasets.index(one.dataset), models.index(one.model)))
        run.comparisons = []  # made anew when all results are there
        write_run(run, self._output / RESULTS)


def _identity(server: ServerFacts) -> tuple[str, ...]:
    """What makes figures of two servers comparable; one started for the run has another port each time."""
    return (server.name, server.version, "" if server.started_by_arch else server.address)


def _covers(earlier: EmbeddingPass, missing: Iterable[tuple[int, str]]) -> bool:
    """Whether an earlier run embedded the dataset, and only what cannot be decoded is missing."""
    failed = {failure.clip for failure in earlier.failures}
    return {path for _, path in missing} == failed and not _refused(earlier.failures)


def _refused(failures: Iterable[Failure]) -> bool:
    """Whether the server failed a clip: it may be mended, so it is asked again next time."""
    return any(failure.stage == "infer" for failure in failures)


def _changed(dataset: Dataset, stored: Stored, failures: Iterable[Failure]) -> list[Failure]:
    """The clips that neither failed nor are stored, because their file was not there when the run looked for it."""
    failed = {failure.clip for failure in failures}
    return [
        Failure(clip=clip.path, stage="decode", reason="its file appeared during the run: run arch bench again")
        for clip, succeeded in zip(dataset.clips, stored.succeeded, strict=True)
        if not succeeded and clip.path not in failed
    ]


def _result(
    model: ModelFacts,
    dataset: Dataset,
    passed: EmbeddingPass,
    failures: list[Failure],
    fingerprint: str,
    probed: Probed,
) -> Result:
    return Result(
        model=model.name,
        dataset=dataset.id,
        clips=len(dataset.clips),
        failed=len(failures),
        failures=failures,
        stored=max(0, len(dataset.clips) - len(failures) - passed.clips),
        measurement=passed.measurement,
        started=passed.started,
        fingerprint=fingerprint,
        **probed.fields(),
    )


def _unscored(model: ModelFacts, dataset: Dataset, failures: list[Failure], reason: str) -> Unscored:
    return Unscored(model=model.name, dataset=dataset.id, reason=reason, clips=len(dataset.clips), failures=failures)


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
        classes_used=dataset.classes_used,
        classes_official=declaration.classes_used_official,
        clips=len(dataset.clips),
        clips_official=declaration.clips_official,
        incomplete=dataset.incomplete,
        max_seconds=declaration.max_seconds,
        folds=len(dataset.folds),
        notes=dataset.notes,
        reference=dataset.reference,
        listing=dataset.listing,
    )
