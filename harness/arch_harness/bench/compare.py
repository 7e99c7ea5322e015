"""The models of a run compared on the clips they share."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

from arch_harness.probes.paired import paired_difference
from arch_harness.results.run import Run
from arch_harness.results.scores import Comparison


def compare_models(run: Run, output: Path) -> list[Comparison]:
    """Every two models that have results on the same dataset, by each probe that both have; the better one first."""
    found = []
    for dataset in run.datasets:
        results = sorted((one for one in run.results if one.dataset == dataset.id), key=lambda one: -one.score)
        for one, other in combinations(results, 2):
            for probe in [score.probe for score in one.probes]:
                difference = paired_difference((output, one), (output, other), probe, run.settings.seed)
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
