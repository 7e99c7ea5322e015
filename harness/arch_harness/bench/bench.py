"""`arch bench`: every model on every dataset, each pair saved as soon as it is done."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from arch_common import interrupt
from arch_common.errors import ArchError, ScoreError, UsageError

from arch_harness.bench.ablation.passes import AblationPasses, drop_stale
from arch_harness.bench.ablation.plan import plan_ablations
from arch_harness.bench.compare import compare_models
from arch_harness.bench.events import tell_outcome, tell_pass
from arch_harness.bench.footprints import gather_footprints
from arch_harness.bench.looking import Looker, with_files
from arch_harness.bench.outcomes import changed_clips, covers, dataset_facts, is_refused, scored, unscored
from arch_harness.bench.resuming.fingerprints import embedding_fingerprint, result_fingerprint, server_identity
from arch_harness.bench.resuming.kept_speeds import KeptSpeeds
from arch_harness.bench.resuming.resumable import resumable
from arch_harness.bench.score import is_done, probe_pair
from arch_harness.bench.speed import SpeedRuns
from arch_harness.diagnosis.diagnose import diagnose
from arch_harness.measuring.machine import describe_machine
from arch_harness.report import write_report
from arch_harness.results.embedding_pass import EmbeddingPass, pass_path, read_pass, write_pass
from arch_harness.results.run import (
    RESULTS,
    ModelFacts,
    Pair,
    Result,
    Run,
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
    from arch_harness.embeddings.entry import Entry, Stored
    from arch_harness.embeddings.store import EmbeddingStore
    from arch_harness.measuring.chunk import Chunk
    from arch_harness.streaming.pool import WorkerPool
    from arch_harness.triton.server import Server

_OF_PROBES = {"probes", "seed", "seeds", "epochs"}
_OF_MORE = {"repeat", "rate", "ablate", "price"}  # of which what is missing is measured


class Bench:
    """One run: what is measured, and the folder that its results go to.

    A folder that holds results of the same run already is completed: pairs that are done are kept, and of the others no
    embedding is computed that is in the store. A run that fails before it computed anything leaves no results.

    Args:
        servers: that share the load; all serve the same models.
        pool: that sends clips to them; entered once it is needed.
        store: where embeddings are read from and written to.
        output: a folder that this run alone writes to, see `held_output`.
        recompute: embed what is in the store too, but for what this run has embedded before it was interrupted.
        config: what was asked for as a file, which the results keep.

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
        config: str = "",
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
            config=config,
            created=datetime.now(UTC),
            machine=describe_machine(),
            servers=[server.facts() for server in servers],
            settings=settings,
            models=models,
            datasets=[dataset_facts(dataset) for dataset in datasets],
            results=[],
            unablated=plan_ablations(models, settings.ablate).left_out,
        )
        self._speeds = KeptSpeeds(store, self.run)
        self._kept = (output / RESULTS).exists()
        if self._kept:
            self._take_over(read_run(output / RESULTS))
        self.run.missing = self._missing()
        self.run.partial = self.run.partial or bool(self.run.missing)
        self._looker = Looker(self.run, servers[0])
        # Before anything is computed: a recomputation that is interrupted knows itself again by the date in it.
        write_run(self.run, output / RESULTS)

    @staticmethod
    def warnings(models: Sequence[ModelFacts], settings: Settings) -> list[str]:
        """What should be known of the models before they are measured, a line each.

        Raises:
            UsageError: if every layer is asked for and no model has them, or an ablation that none can have.
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
        return lines + plan_ablations(models, settings.ablate).left_out

    def _take_over(self, earlier: Run) -> None:
        """Keep the earlier results; refuse if they and new ones could not stand in one report."""
        now = self.run
        for what, before, after in (
            ("machine or package versions", earlier.machine, now.machine),
            ("version of arch", earlier.arch_version, now.arch_version),
            ("server", sorted(map(server_identity, earlier.servers)), sorted(map(server_identity, now.servers))),
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
        datasets = {dataset.id: dataset for dataset in earlier.datasets} | {
            one.id: one for one in with_files(now.datasets, earlier.datasets)
        }
        now.datasets = list(datasets.values())
        now.results = [result for result in earlier.results if result not in again]
        now.unscored, now.ablations = earlier.unscored, earlier.ablations
        now.footprints = earlier.footprints
        drop_stale(now)
        now.comparisons = [] if again else earlier.comparisons
        now.diagnoses = None if again else earlier.diagnoses
        now.created = earlier.created
        now.partial = earlier.partial or bool(again)

    def _check_settings(self, earlier: Run) -> None:
        """Refuse settings that results in one report cannot have beside the earlier ones.

        What only the probes go by may be another, as after `arch probe`, if every earlier result is asked for: its
        embeddings are scored again.
        """
        before, after = earlier.settings, self.run.settings
        fields = set(Settings.model_fields) - _OF_MORE
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
            ArchError: if the servers are lost or the disk is full; what is done is saved and in a report, and the same
                call goes on from there.
            KeyboardInterrupt: at a signal, likewise.
        """
        how = f"the same command with --output {shlex.quote(str(self._output))}"
        try:
            with resumable(how, lambda: self._kept):
                return self._execute(display)
        except BaseException:
            if not self._kept:
                (self._output / RESULTS).unlink(missing_ok=True)
            raise

    def _execute(self, display: Display) -> list[Path]:
        try:
            self._measure(display)
        except (KeyboardInterrupt, ArchError):
            self._leave_report(display)
            raise
        self.run.partial, self.run.missing = False, []
        return self._report()

    def _report(self) -> list[Path]:
        self.run.comparisons = compare_models(self.run, self._output)
        self.run.diagnoses = diagnose(self.run)
        return write_report(self.run, self._output)

    def _leave_report(self, display: Display) -> None:
        """Report what is finished, if anything is; what ended the run is to be told whatever becomes of that."""
        if not self.run.results:
            return
        self.run.partial = True
        with suppress(OSError):  # the terminal may be gone
            display.note("writing the report of what is finished")
        try:
            self._report()
        except ArchError as error:
            display.note(f"there is no such report: {error}")

    def _measure(self, display: Display) -> None:
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
                speed = SpeedRuns(self.run, self._output, dataset, self._save_measured)
                jobs = {model.name: self._job(model, dataset) for model in self._models}
                speed.measure(pool, jobs, display)
                if pool.cache_info().currsize:  # otherwise the servers did nothing
                    self.run.footprints = gather_footprints(self.run, self._servers, self._models)
                ablations = AblationPasses(self.run, self._output, self._store, dataset, self.problems.append)
                ablations.measure(pool, jobs, display)

    def _pair(self, pool: Callable[[], WorkerPool], model: ModelFacts, dataset: Dataset, display: Display) -> None:
        """Embed, probe and save one model on one dataset, if that is not done yet."""
        settings = self.run.settings
        measured = embedding_fingerprint(model, dataset, settings)
        fingerprint = result_fingerprint(measured, settings)
        if any(
            is_done(self._output, result, fingerprint)
            and not is_refused(result.failures)
            and not (self._recompute and result.stored)
            for result in self.run.results
        ):
            display.note(f"{model.name} on {dataset.id}: done by an earlier run, kept")
            return
        stored, passed = self._embed(pool, model, dataset, measured, display)
        failures = passed.failures + changed_clips(dataset, stored, passed.failures)
        try:
            probed = probe_pair(self._output, model.name, dataset, stored, failures, settings, fingerprint, display)
        except ScoreError as error:
            self.problems.append(f"{model.name} on {dataset.id} has no score: {error}")
            outcome: Result | Unscored = unscored(model, dataset, failures, str(error))
        else:
            carried = None if self._recompute else self._speeds.find(model, dataset, passed.clips)
            seen = self._looker.look(model, dataset, stored, failures, probed, display)
            outcome = scored(model, dataset, passed, carried, failures, fingerprint, probed.fields() | seen)
        self._save(outcome)
        tell_outcome(outcome)

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
            if earlier and covers(earlier, clips):
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
                    streamed = workers.embed(job, clips, partial(self._take, entry), on_progress)
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
            if clips and passed.measurement is not None:
                self._speeds.keep(model, dataset, passed.measurement, passed.started)
            self._kept = True
            tell_pass(model.name, dataset.id, passed)
            entry.finish()
            return entry.read(), passed

    def _take(self, entry: Entry, chunk: Chunk) -> None:
        entry.append(chunk.embeddings)
        self._kept |= bool(chunk.embeddings)

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

    def _missing(self) -> list[Pair]:
        """The pairs that were asked for and of which nothing has come yet, in the order in which they will."""
        there = {(one.model, one.dataset) for one in self.run.outcomes}
        pairs = [(model.name, dataset.id) for dataset in self._datasets for model in self._models]
        return [Pair(model=model, dataset=dataset) for model, dataset in pairs if (model, dataset) not in there]

    def _save_measured(self, result: Result) -> None:
        """Keep a result of which more was measured, and beside the embeddings too."""
        self._save(result)
        model = next(one for one in self._models if one.name == result.model)
        dataset = next(one for one in self._datasets if one.id == result.dataset)
        if result.measurement is not None and result.carried is None:
            self._speeds.keep(model, dataset, result.measurement, result.started)

    def _save(self, outcome: Result | Unscored) -> None:
        """Put what came of a pair in the place of what an earlier run made of it."""
        run, pair = self.run, (outcome.model, outcome.dataset)
        run.results = [one for one in run.results if (one.model, one.dataset) != pair]
        run.unscored = [one for one in run.unscored if (one.model, one.dataset) != pair]
        if isinstance(outcome, Result):
            run.results.append(outcome)
        else:
            run.unscored.append(outcome)
            drop_stale(run)
        models = [model.name for model in run.models]
        datasets = [dataset.id for dataset in run.datasets]
        run.results.sort(key=lambda one: (datasets.index(one.dataset), models.index(one.model)))
        run.unscored.sort(key=lambda one: (datasets.index(one.dataset), models.index(one.model)))
        run.comparisons, run.diagnoses = [], None  # made anew when all results are there
        run.partial, run.missing = True, self._missing()
        write_run(run, self._output / RESULTS)
