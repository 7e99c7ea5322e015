"""The same clips under another preprocessing: embedded, scored by the first probe, and compared clip by clip."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from arch_common import interrupt
from arch_common.errors import ScoreError

from arch_harness.bench.ablation.plan import BY_CLIENT, Planned, plan_ablations
from arch_harness.bench.resuming.fingerprints import digest
from arch_harness.embeddings.geometry import cosines_of
from arch_harness.probes import bootstrap, probe_dataset
from arch_harness.probes.scoring import epochs_of
from arch_harness.results.checks.ablations import SETTINGS, Ablation
from arch_harness.results.predictions import load_predictions, predictions_path, save_predictions
from arch_harness.results.run import RESULTS, write_run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arch_harness.bench.progress import Display
    from arch_harness.datasets import Dataset
    from arch_harness.embeddings.entry import Stored
    from arch_harness.embeddings.store import EmbeddingStore
    from arch_harness.results.predictions import Predictions
    from arch_harness.results.run import ModelFacts, Result, Run
    from arch_harness.streaming.pool import WorkerPool
    from arch_harness.streaming.wire import Job


class AblationPasses:
    """What is to be ablated on one dataset, once its results are there.

    No speed is measured: a pass keeps the requests in flight that an earlier one found.

    Args:
        run: so far; its settings say what.
        output: folder of the run.
        store: where embeddings are read from and written to; those of each setting have an entry of their own.
        dataset: whose clips are sent.
        problems: told of what could not be scored.
    """

    def __init__(
        self, run: Run, output: Path, store: EmbeddingStore, dataset: Dataset, problems: Callable[[str], None]
    ) -> None:
        self._run = run
        self._output = output
        self._store = store
        self._dataset = dataset
        self._problem = problems

    def measure(self, pool: Callable[[], WorkerPool], jobs: Mapping[str, Job], display: Display) -> None:
        """Do what is not done yet, and save each as soon as it is.

        Args:
            pool: gives the workers; called only if something is to be embedded.
            jobs: of the models that are served, by name.
            display: shows what goes on.

        Raises:
            ArchError: if the servers are lost or the disk is full; what was done is saved.
        """
        models = {model.name: model for model in self._run.models if model.name in jobs}
        self._run.ablations = [one for one in self._run.ablations if not self._is_stale(one)]
        plan = plan_ablations(list(models.values()), self._run.settings.ablate)
        for name, settings in plan.of_model.items():
            result = self._result(name)
            usual: Stored | None = None
            for planned in settings if result is not None else ():
                if result is None or self._is_done(result, planned):
                    continue
                interrupt.check()
                usual = usual or self._read(models[name])
                what = f"{name} on {self._dataset.id}, {planned.setting}"
                try:
                    found = (
                        self._by_client(pool, models[name], jobs[name], result, planned, usual, display)
                        if planned.variant is None
                        else self._by_variant(models[planned.variant], result, planned, usual)
                    )
                except ScoreError as error:
                    self._problem(f"{what} has no score: {error}")
                    continue
                self._save(found)

    def _result(self, model: str) -> Result | None:
        results = self._run.results
        return next((one for one in results if (one.model, one.dataset) == (model, self._dataset.id)), None)

    def _fingerprint(self, result: Result, planned: Planned) -> str:
        if planned.variant is None:
            return digest(result.fingerprint, result.failed, "ablation", BY_CLIENT[planned.setting].key)
        variant = self._result(planned.variant)
        return digest(result.fingerprint, result.failed, variant and (variant.fingerprint, variant.failed))

    def _is_stale(self, one: Ablation) -> bool:
        """Whether it is of this dataset, and not of the results that are there: clips were mended since, say."""
        if one.dataset != self._dataset.id:
            return False
        result = self._result(one.model)
        return result is None or one.fingerprint != self._fingerprint(result, Planned(one.setting, one.variant))

    def _path(self, result: Result, planned: Planned) -> Path:
        probe = result.probes[0].probe
        return predictions_path(self._output, result.model, result.dataset, f"{probe}--{planned.setting}")

    def _is_done(self, result: Result, planned: Planned) -> bool:
        fingerprint = self._fingerprint(result, planned)
        saved = planned.variant or load_predictions(self._path(result, planned), fingerprint)
        return saved is not None and any(
            (one.model, one.dataset, one.setting) == (result.model, result.dataset, planned.setting)
            and one.fingerprint == fingerprint
            and not one.failed
            for one in self._run.ablations
        )

    def _read(self, model: ModelFacts) -> Stored:
        with self._store.open(model, self._dataset, layers=False) as entry:
            return entry.read()

    def _by_client(
        self,
        pool: Callable[[], WorkerPool],
        model: ModelFacts,
        job: Job,
        result: Result,
        planned: Planned,
        usual: Stored,
        display: Display,
    ) -> Ablation:
        """Embed the clips as the setting has them, and score them."""
        dataset, settings, probe = self._dataset, self._run.settings, result.probes[0].probe
        preprocessing = BY_CLIENT[planned.setting]
        where = f"{dataset.id}, {planned.setting}"
        without = {failure.clip for failure in result.failures}
        with self._store.open(model, dataset, False, preprocessing) as entry:
            clips = [(index, path) for index, path in entry.missing() if path not in without]
            if len(clips) + len(without) < len(dataset.clips):
                kept = len(dataset.clips) - len(without) - len(clips)
                display.note(f"{model.name} on {where}: {kept:,} embeddings come from the store")
            if clips:
                workers = pool()
                with display.embedding(model.name, where, len(clips)) as on_progress:
                    streamed = workers.embed(
                        replace(job, layers=0, preprocessing=preprocessing),
                        clips,
                        lambda chunk: entry.append(chunk.embeddings),
                        on_progress,
                        measured=False,
                    )
                entry.discard(index for index, *_ in streamed.failures)
                if streamed.failures:
                    index, _, reason = min(streamed.failures)
                    lost = f"{len(streamed.failures):,} clips gave no embedding"
                    self._problem(f"{model.name} on {where}: {lost}; {dataset.clips[index].path}: {reason}")
            entry.finish()
            stored = entry.read()
        succeeded = stored.succeeded & np.array([clip.path not in without for clip in dataset.clips])
        if not succeeded.any():
            raise ScoreError("no clip gave an embedding")
        fingerprint = self._fingerprint(result, planned)
        with display.probing(model.name, where, epochs_of(probe, len(dataset.folds), settings)) as on_epoch:
            scored = probe_dataset(probe, dataset, stored.embeddings, succeeded, settings, on_epoch)
        save_predictions(self._path(result, planned), scored.predictions, fingerprint)
        return self._compared(result, planned, usual, replace(stored, succeeded=succeeded), scored.predictions)

    def _by_variant(self, variant: ModelFacts, result: Result, planned: Planned, usual: Stored) -> Ablation:
        """Compare with the model of the run that has the setting in its graph."""
        other = self._result(variant.name)
        if other is None:
            raise ScoreError(f"{variant.name} has none")
        path = predictions_path(self._output, other.model, other.dataset, result.probes[0].probe)
        predictions = load_predictions(path, other.fingerprint)
        if predictions is None:
            raise ScoreError(f"{path} is gone")
        return self._compared(result, planned, usual, self._read(variant), predictions)

    def _compared(
        self, result: Result, planned: Planned, usual: Stored, stored: Stored, predictions: Predictions
    ) -> Ablation:
        probe = result.probes[0].probe
        path = predictions_path(self._output, result.model, result.dataset, probe)
        before = load_predictions(path, result.fingerprint)
        if before is None:
            raise ScoreError(f"{path} is gone: run arch bench again")
        difference = bootstrap.compare(predictions, before, self._run.settings.seed)
        if difference is None:
            raise ScoreError("no test clip has an embedding under both")
        failed = {failure.clip for failure in result.failures}
        counted = usual.succeeded & np.array([clip.path not in failed for clip in self._dataset.clips])
        both = counted & stored.succeeded
        cosine, change = _moved(usual.embeddings[both], stored.embeddings[both])
        return Ablation(
            model=result.model,
            dataset=result.dataset,
            setting=planned.setting,
            variant=planned.variant,
            probe=probe,
            metric=result.metric,
            score=bootstrap.score(predictions),
            clips=difference.clips,
            difference=difference.difference,
            low=difference.low,
            high=difference.high,
            more_than_noise=difference.more_than_noise,
            mean_cosine=cosine,
            largest_change=change,
            failed=int((counted & ~stored.succeeded).sum()),
            fingerprint=self._fingerprint(result, planned),
        )

    def _save(self, found: Ablation) -> None:
        run = self._run
        named = (found.model, found.dataset, found.setting)
        run.ablations = [one for one in run.ablations if (one.model, one.dataset, one.setting) != named]
        run.ablations.append(found)
        models, datasets = ([one.name for one in run.models], [one.id for one in run.datasets])
        order = {setting: place for place, setting in enumerate(SETTINGS)}
        run.ablations.sort(key=lambda one: (datasets.index(one.dataset), models.index(one.model), order[one.setting]))
        write_run(run, self._output / RESULTS)


def drop_stale(run: Run) -> None:
    """Take out of a run the ablations that name a model without a result."""
    scored = {(one.model, one.dataset) for one in run.results}
    run.ablations = [
        one for one in run.ablations if {(one.model, one.dataset), (one.variant or one.model, one.dataset)} <= scored
    ]


def _moved(one: NDArray[np.float32], other: NDArray[np.float32]) -> tuple[float, float]:
    """How far embeddings FP32 [clips, size] are from others: the mean cosine, and the largest relative distance."""
    first, second = one.astype(np.float64), other.astype(np.float64)
    lengths = np.linalg.norm(first, axis=1)
    distances = np.linalg.norm(first - second, axis=1) / np.where(lengths > 0, lengths, 1.0)
    return float(cosines_of(one, other).mean()), float(distances.max())
