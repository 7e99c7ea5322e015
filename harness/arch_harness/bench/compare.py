"""The models of a run compared on the clips they share."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from arch_common.errors import UsageError

from arch_harness.bench.score import predictions_path
from arch_harness.probes import bootstrap
from arch_harness.results.predictions import load_predictions
from arch_harness.results.run import Result, Run
from arch_harness.results.scores import Comparison, ProbeName, ScoreMetric


@dataclass(frozen=True)
class RunDifference:
    """One model on one dataset, by one probe, in two runs.

    Attributes:
        clips: test clips that both runs have an embedding of.
        difference: score of the first run less that of the second, a share.
        low: of its 95 % interval, from a paired bootstrap.
        high: likewise.
        more_than_noise: whether the interval leaves out 0.
        clips_per_s: of the first run and of the second; None where nothing was measured.
    """

    model: str
    dataset: str
    probe: ProbeName
    metric: ScoreMetric
    clips: int
    difference: float
    low: float
    high: float
    more_than_noise: bool
    clips_per_s: tuple[float | None, float | None]


def compare_models(run: Run, output: Path) -> list[Comparison]:
    """Every two models that have results on the same dataset, by each probe that both have; the better one first."""
    found = []
    for dataset in run.datasets:
        results = sorted((one for one in run.results if one.dataset == dataset.id), key=lambda one: -one.score)
        for one, other in combinations(results, 2):
            for probe in [score.probe for score in one.probes]:
                difference = _difference((output, one), (output, other), probe, run.settings.seed)
                if difference is None:
                    continue
                found.append(
                    Comparison(
                        dataset=dataset.id,
                        probe=probe,
                        metric=one.metric,
                        model=one.model,
                        other=other.model,
                        **_fields(difference),
                    )
                )
    return found


def compare_runs(one: Run, folder: Path, other: Run, other_folder: Path) -> list[RunDifference]:
    """Two runs, wherever both have a model of the same name on the same dataset by the same probe.

    Args:
        one: a run.
        folder: where its predictions are.
        other: the run that it is compared with.
        other_folder: where those of that are.

    Raises:
        UsageError: if the two have nothing in common, or a dataset of one name has other clips, labels or folds.
    """
    listings = {dataset.id: dataset.listing for dataset in other.datasets}
    theirs = {(result.model, result.dataset): result for result in other.results}
    found = []
    for result in one.results:
        same = theirs.get((result.model, result.dataset))
        if same is None:
            continue
        listing = next(dataset.listing for dataset in one.datasets if dataset.id == result.dataset)
        if listing != listings[result.dataset]:
            raise UsageError(
                f"{result.dataset} has other clips, labels or folds in {other_folder} than in {folder}: scores on "
                "different data cannot be compared"
            )
        for probe in [score.probe for score in result.probes]:
            difference = _difference((folder, result), (other_folder, same), probe, seed=one.settings.seed)
            if difference is not None:
                found.append(
                    RunDifference(
                        model=result.model,
                        dataset=result.dataset,
                        probe=probe,
                        metric=result.metric,
                        **_fields(difference),
                        clips_per_s=(_speed(result), _speed(same)),
                    )
                )
    if not found:
        raise UsageError(
            f"{folder} and {other_folder} have no model, dataset and probe in common whose predictions are kept"
        )
    return found


def _difference(
    one: tuple[Path, Result], other: tuple[Path, Result], probe: ProbeName, seed: int
) -> bootstrap.Difference | None:
    """None where either did not keep what the probe made of the test clips, or they share none."""
    first, second = (
        load_predictions(predictions_path(folder, result.model, result.dataset, probe), result.fingerprint)
        for folder, result in (one, other)
    )
    return None if first is None or second is None else bootstrap.compare(first, second, seed)


def _fields(difference: bootstrap.Difference) -> dict[str, Any]:
    """What a comparison takes over as it is."""
    return {**asdict(difference), "more_than_noise": difference.more_than_noise}


def _speed(result: Result) -> float | None:
    return result.measurement.clips_per_s if result.measurement else None
