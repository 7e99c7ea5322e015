"""One row a model, over all datasets: score, change against its fp32, speed, latency at one load, memory."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from arch_harness.report.choice.estimates import Estimate, ScoreChange, mean_of_estimates
from arch_harness.results.price import prices
from arch_harness.results.repeats import is_of_this_hardware, mean_of, point_of, power_sources, same_rate

if TYPE_CHECKING:
    from arch_harness.results.run import Footprint, ModelFacts, Result, Run


@dataclass(frozen=True)
class ModelSummary:
    """A model over the datasets that it has a score on.

    Attributes:
        facts: of the model.
        results: by dataset, in the run's order; never empty.
        is_complete: whether it has a score on every dataset on which any model has one; only then its means can be
            compared with others'.
        score: the mean over its datasets, a share.
        baseline: the fp32 export of its checkpoint; None where the run has none, or it is that one itself.
        change: its mean score less the baseline's.
        clips_per_s: the geometric mean over its datasets; None where one was not measured.
        times_baseline: the geometric mean of the ratios of clips/s to the baseline's.
        p50_ms: at the equal rate, the highest of its datasets; None where one lacks it.
        p99_ms: likewise.
        footprint: what it takes of the server; None where the run does not say.
        price_per_million_clips: the geometric mean over its datasets; None without a price or a speed.
        price_per_1000_hours: likewise, of audio.
        joules_per_clip: the geometric mean over its datasets; None where one is not known, or of other hardware.
        energy_of: the hardware whose energy that is.
        on_front: whether no other complete model has both a higher score and a higher speed.
    """

    facts: ModelFacts
    results: dict[str, Result]
    is_complete: bool
    score: Estimate
    baseline: str | None
    change: ScoreChange | None
    clips_per_s: float | None
    times_baseline: float | None
    p50_ms: float | None
    p99_ms: float | None
    footprint: Footprint | None
    price_per_million_clips: float | None
    price_per_1000_hours: float | None
    joules_per_clip: float | None
    energy_of: tuple[str, ...]
    on_front: bool

    @property
    def name(self) -> str:
        """The model's, as the run has it."""
        return self.facts.name

    def score_on(self, dataset: str) -> Estimate:
        """Its score on one of its datasets."""
        return _score(self.results[dataset])


class Scores:
    """The results of a run, by model and dataset, and how two models compare on the same test clips.

    Attributes:
        run: whose results they are.
        datasets: on which any model has a score, in the run's order.
        rates: of each, the one rate at which all its models' equal-rate latencies are, in clips/s; None where none was
            measured.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.of = {(one.model, one.dataset): one for one in run.results}
        scored = {one.dataset for one in run.results}
        self.datasets = [one.id for one in run.datasets if one.id in scored]
        self.rates = {dataset: _rate([one for one in run.results if one.dataset == dataset]) for dataset in scored}
        self._facts = {one.name: one for one in run.models}
        self._comparisons = {
            (one.dataset, one.model, one.other): one for one in run.comparisons if one.probe == run.settings.probes[0]
        }

    def results(self, model: str) -> dict[str, Result]:
        """Of a model, by dataset."""
        return {name: self.of[model, name] for name in self.datasets if (model, name) in self.of}

    def change(self, model: str, other: str, datasets: Iterable[str] | None = None) -> ScoreChange | None:
        """The mean score of a model less that of another, over the datasets that both have; None if there are none.

        Args:
            model: its name.
            other: likewise.
            datasets: over these only.
        """
        shared = [
            name
            for name in (self.datasets if datasets is None else datasets)
            if (model, name) in self.of and (other, name) in self.of
        ]
        if not shared:
            return None
        parts, clips = [], 0
        for name in shared:
            if (found := self._comparisons.get((name, model, other))) is not None:
                parts.append(Estimate(found.difference, found.low, found.high))
            elif (found := self._comparisons.get((name, other, model))) is not None:
                parts.append(Estimate(-found.difference, -found.high, -found.low))
            else:
                parts.append(Estimate(self.of[model, name].score - self.of[other, name].score, None, None))
            clips += found.clips if found else 0
        mean = mean_of_estimates(parts)
        return ScoreChange(other, mean, None if mean.low is None else clips)

    def baseline(self, model: str) -> str | None:
        """The fp32 export of the model's checkpoint; None where the run has none, or it is the model itself.

        The whole one before cuts, padded before exact lengths, normalised before not; one for all variants of a
        checkpoint, so that what a cut loses counts as well as what its precision does.
        """
        facts = self._facts[model]
        family = [
            one
            for one in self.run.models
            if (one.source, one.revision) == (facts.source, facts.revision)
            and one.precision == "fp32"
            and self.results(one.name)
        ]
        found = min(
            family,
            key=lambda one: (-(one.cut_after_layer or 10_000), one.lengths == "exact", one.normalization == "none"),
            default=None,
        )
        return None if found is None or found.name == model else found.name

    def speed(self, model: str, dataset: str) -> float | None:
        """Clips/s of a pair; None where nothing was measured, or it was on other hardware than the run's."""
        result = self.of.get((model, dataset))
        measured = result.measurement if result and is_of_this_hardware(self.run, result) else None
        return (mean_of(measured, "clips_per_s") or None) if measured else None

    def speeds(self, model: str, datasets: Iterable[str]) -> list[float] | None:
        """Clips/s on each dataset; None where one of them is not known, or there are none."""
        found = [self.speed(model, name) for name in datasets]
        known = [one for one in found if one is not None]
        return known if known and len(known) == len(found) else None

    def latency(self, model: str, dataset: str, figure: str) -> float | None:
        """A latency at the equal rate of the dataset (`equal_p50_ms` or `equal_p99_ms`); None where it is not known."""
        result = self.of.get((model, dataset))
        if result is None or result.measurement is None or not is_of_this_hardware(self.run, result):
            return None
        point = point_of(result.measurement, "equal rate")
        if point is None or not same_rate(point.rate, self.rates[dataset]):
            return None
        return mean_of(result.measurement, figure)


def summarise(scores: Scores) -> list[ModelSummary]:
    """A row for each model that has a score: the complete ones first, by falling mean score, then by speed."""
    rows = [_summary(scores, model.name) for model in scores.run.models if scores.results(model.name)]
    comparable = {
        row.name: (row.score.value, row.clips_per_s) for row in rows if row.is_complete and row.clips_per_s is not None
    }
    ahead = front({name: (score, speed) for name, (score, speed) in comparable.items() if speed is not None})
    rows = [_on_front(row, row.name in ahead) for row in rows]
    return sorted(rows, key=lambda row: (not row.is_complete, -row.score.value, -(row.clips_per_s or 0.0), row.name))


def front(points: dict[str, tuple[float, float]]) -> set[str]:
    """The Pareto front: the models for which no other is at least as good in both (score, clips/s), and better in one.

    Of models that are equal in both, all or none are on it.
    """
    return {
        name
        for name, (score, speed) in points.items()
        if not any(other[0] >= score and other[1] >= speed and other != (score, speed) for other in points.values())
    }


def front_on(scores: Scores, dataset: str) -> set[str]:
    """The Pareto front on one dataset."""
    speeds = {model: scores.speed(model, name) for model, name in scores.of if name == dataset}
    return front({model: (scores.of[model, dataset].score, speed) for model, speed in speeds.items() if speed})


def _summary(scores: Scores, model: str) -> ModelSummary:
    results = scores.results(model)
    baseline = scores.baseline(model)
    speeds = scores.speeds(model, results)
    return ModelSummary(
        facts=next(one for one in scores.run.models if one.name == model),
        results=results,
        is_complete=len(results) == len(scores.datasets),
        score=mean_of_estimates([_score(result) for result in results.values()]),
        baseline=baseline,
        change=scores.change(model, baseline) if baseline else None,
        clips_per_s=statistics.geometric_mean(speeds) if speeds else None,
        times_baseline=ratio_of_speeds(scores, model, baseline) if baseline else None,
        p50_ms=_highest([scores.latency(model, name, "equal_p50_ms") for name in results]),
        p99_ms=_highest([scores.latency(model, name, "equal_p99_ms") for name in results]),
        footprint=next((one for one in scores.run.footprints if one.model == model), None),
        price_per_million_clips=_price(scores, model, results, "price_per_million_clips"),
        price_per_1000_hours=_price(scores, model, results, "price_per_1000_hours"),
        joules_per_clip=_joules(scores, model, results),
        energy_of=_energy_of(results),
        on_front=False,
    )


def _price(scores: Scores, model: str, results: dict[str, Result], figure: str) -> float | None:
    hourly = scores.run.settings.price
    if hourly is None or scores.speeds(model, results) is None:
        return None
    measured = [one.measurement for one in results.values() if one.measurement is not None]
    return statistics.geometric_mean([prices(one, hourly)[figure] for one in measured])


def _joules(scores: Scores, model: str, results: dict[str, Result]) -> float | None:
    """Only where every dataset's was measured on the run's hardware, and is of the same kinds of it."""
    if scores.speeds(model, results) is None or not _energy_of(results):
        return None
    measured = [one.measurement for one in results.values() if one.measurement is not None]
    found = [one for one in (mean_of(each, "joules_per_clip") for each in measured) if one is not None]
    if len(found) < len(results):
        return None
    return statistics.geometric_mean(found)


def _energy_of(results: dict[str, Result]) -> tuple[str, ...]:
    """The kinds of hardware whose energy is known; none where the datasets differ in them."""
    found = {tuple(power_sources(one.measurement)) for one in results.values() if one.measurement is not None}
    return found.pop() if len(found) == 1 else ()


def ratio_of_speeds(scores: Scores, model: str, other: str) -> float | None:
    """The geometric mean of the ratios of clips/s, over the datasets that both have; None where one is not known."""
    shared = [name for name in scores.datasets if (model, name) in scores.of and (other, name) in scores.of]
    ours, theirs = scores.speeds(model, shared), scores.speeds(other, shared)
    return statistics.geometric_mean(ours) / statistics.geometric_mean(theirs) if ours and theirs else None


def _on_front(row: ModelSummary, ahead: bool) -> ModelSummary:
    return ModelSummary(**vars(row) | {"on_front": ahead})


def _score(result: Result) -> Estimate:
    known = result.interval
    return Estimate(result.score, known.low if known else None, known.high if known else None)


def _highest(values: Sequence[float | None]) -> float | None:
    known = [one for one in values if one is not None]
    return max(known) if known and len(known) == len(values) else None


def _rate(results: Iterable[Result]) -> float | None:
    """The rate at which most of the results were measured; of several the first one."""
    points = [point_of(one.measurement, "equal rate") for one in results if one.measurement is not None]
    rates = [point.rate for point in points if point is not None and point.rate]
    return max(rates, key=lambda rate: sum(same_rate(one, rate) for one in rates), default=None)
