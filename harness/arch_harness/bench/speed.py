"""The speed measured again, and at one rate for all models of a dataset; the embeddings that come back are dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from arch_common import interrupt

from arch_harness.results.embedding_pass import EmbeddingPass, pass_path, write_pass
from arch_harness.results.measurement import LoadName, LoadPoint, Measurement, Repeat, SpeedRun
from arch_harness.results.repeats import mean_of, point_of, runs_of, same_rate
from arch_harness.streaming.loads.phases import PACED_SHARE

if TYPE_CHECKING:
    from arch_harness.bench.progress import Display
    from arch_harness.datasets import Dataset
    from arch_harness.results.run import Result, Run
    from arch_harness.streaming.pool import WorkerPool
    from arch_harness.streaming.wire import Job


class SpeedRuns:
    """What is still to be measured of a dataset's results.

    Args:
        run: so far; its settings say how often, and at which rate.
        output: folder of the run.
        dataset: whose clips are sent.
        save: called with each result that was added to.
    """

    def __init__(self, run: Run, output: Path, dataset: Dataset, save: Callable[[Result], None]) -> None:
        self._run = run
        self._output = output
        self._dataset = dataset
        self._save = save

    def measure(self, pool: Callable[[], WorkerPool], jobs: Mapping[str, Job], display: Display) -> None:
        """Measure what was asked for and is missing, model after model in each round.

        Args:
            pool: gives the workers; called only if there is something to do.
            jobs: of the models that are served, by name.
            display: shows what goes on.

        Raises:
            ArchError: if the servers are lost; what was measured is saved.
        """
        for count in range(1, self._run.settings.repeat):
            for name, found in self._measured(jobs):
                if len(found.repeats) < count:
                    interrupt.check()
                    what = f"run {count + 1} of {self._run.settings.repeat}"
                    workers = pool()
                    with display.measuring(name, self._dataset.id, what) as on_progress:
                        again = _repeat(workers, jobs[name], self._clips(name), found, on_progress)
                    self._keep(name, found.model_copy(update={"repeats": [*found.repeats, again]}))
        rate = self._equal_rate(jobs)
        self._leave_out_other_rates(rate)
        if rate is None:
            return
        for count in range(self._run.settings.repeat):
            for name, found in self._measured(jobs):
                runs: list[SpeedRun] = [found, *found.repeats]
                if runs[count] not in runs_of(found) or any(
                    one.load == "equal rate" and same_rate(one.rate, rate) for one in runs[count].loads
                ):
                    continue
                interrupt.check()
                workers = pool()
                with display.measuring(name, self._dataset.id, f"at {rate:.3g} clips/s") as on_progress:
                    point = workers.measure_at(jobs[name], self._clips(name), rate, on_progress)
                self._keep(name, _with_load(found, count, point))

    def _measured(self, jobs: Mapping[str, Job]) -> Iterator[tuple[str, Measurement]]:
        for result in [one for one in self._run.results if one.dataset == self._dataset.id and one.model in jobs]:
            # Beside a speed that was taken over, another measurement would be none of the same.
            if result.measurement is not None and result.measurement.clips_per_s and result.carried is None:
                yield result.model, result.measurement

    def _leave_out_other_rates(self, rate: float | None) -> None:
        """Where models are compared at one rate, latencies at another one have no place among speeds taken over.

        Args:
            rate: at which the models are measured here; None where none is.
        """
        found = [
            (one, one.measurement, point.rate)
            for one in self._run.results
            if one.dataset == self._dataset.id and one.carried is not None and one.measurement is not None
            if (point := point_of(one.measurement, "equal rate")) is not None
        ]
        rates = [own for _, _, own in found] if rate is None else [rate]
        for result, measurement, own in found:
            if not all(same_rate(own, other) for other in rates):
                self._save(result.model_copy(update={"measurement": _without_load(measurement, "equal rate")}))

    def _clips(self, model: str) -> list[tuple[int, str]]:
        """The clips that did not fail."""
        failed = {failure.clip for failure in self._result(model).failures}
        return [(index, clip.path) for index, clip in enumerate(self._dataset.clips) if clip.path not in failed]

    def _result(self, model: str) -> Result:
        return next(one for one in self._run.results if (one.model, one.dataset) == (model, self._dataset.id))

    def _equal_rate(self, jobs: Mapping[str, Job]) -> float | None:
        """The rate at which all models are measured.

        None where there is nothing to compare, or too few clips to know what the slowest model reaches.
        """
        if self._run.settings.rate is not None:
            return self._run.settings.rate
        measured = [found for _, found in self._measured(jobs)]
        if len(measured) < 2 or any(runs_of(found)[0].steadiness == "too short" for found in measured):
            return None
        return PACED_SHARE * min(mean_of(found, "clips_per_s") or 0.0 for found in measured)

    def _keep(self, model: str, measurement: Measurement) -> None:
        result = self._result(model).model_copy(update={"measurement": measurement})
        path = pass_path(self._output, model, self._dataset.id)
        # Beside the results too: probes that are asked for later are given the figures from there.
        passed = EmbeddingPass.from_json(path.read_bytes()) if path.exists() else None
        if passed is not None and passed.measurement is not None:
            write_pass(passed.model_copy(update={"measurement": measurement}), path)
        self._save(result)


def _repeat(
    pool: WorkerPool,
    job: Job,
    clips: list[tuple[int, str]],
    first: Measurement,
    on_progress: Callable[[int, float, str], None],
) -> Repeat:
    """One more measurement at the loads of the first one."""
    started = datetime.now(UTC)
    paced = point_of(first, "paced")
    again = pool.measure(job, clips, first.concurrency, paced.rate if paced and paced.rate else "own", on_progress)
    return Repeat(
        started=started,
        clips_per_s=again.clips_per_s,
        steadiness=again.steadiness,
        loads=again.loads,
        consumption=again.consumption,
    )


def _without_load(found: Measurement, load: LoadName) -> Measurement:
    """Without the points at a load, in all runs."""
    repeats = [
        one.model_copy(update={"loads": [point for point in one.loads if point.load != load]}) for one in found.repeats
    ]
    loads = [point for point in found.loads if point.load != load]
    return found.model_copy(update={"loads": loads, "repeats": repeats})


def _with_load(found: Measurement, count: int, point: LoadPoint | None) -> Measurement:
    """With a point added to the loads of one of the runs, the first of which is the pass itself."""
    if point is None:
        return found

    def loads(before: list[LoadPoint]) -> list[LoadPoint]:
        return [*(one for one in before if one.load != point.load), point]

    if count == 0:
        return found.model_copy(update={"loads": loads(found.loads)})
    repeats = list(found.repeats)
    repeats[count - 1] = repeats[count - 1].model_copy(update={"loads": loads(repeats[count - 1].loads)})
    return found.model_copy(update={"repeats": repeats})
