"""A run set beside the published scores: `reproduction.json`, and what each comparison says in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import Field

from arch_harness.published.obstacles import PROBE, caveats, obstacles, probe_of
from arch_harness.published.table import SOURCE, published_models
from arch_harness.results.schema import Share, StrictModel
from arch_harness.results.scores import ScoreMetric

if TYPE_CHECKING:
    from arch_harness.results.run import Result, Run


class BesidePublished(StrictModel):
    """One model on one dataset: our score and the published one."""

    model: str
    checkpoint: str = Field(description="hub id of the published checkpoint that it is set beside")
    revision: str = Field(description="of the weights that were exported; the tables do not name theirs")
    dataset: str
    metric: ScoreMetric
    score: Share | None = Field(description="ours, of the linear probe, the mean over folds and seeds")
    low: float | None = Field(description="of the 95 % interval of our score over test clips")
    high: float | None
    published: Share | None = Field(description="null where none is on file")
    published_in: str = Field(description="the state of the source that it was read from")
    difference: float | None = Field(description="ours less the published score")
    obstacles: list[str] = Field(description="what makes it no reproduction")
    caveats: list[str] = Field(description="what it is uncertain by, though it may be one")
    verdict: str


class PairBesidePublished(StrictModel):
    """Two models on one dataset: which is ahead, and which was in the published tables."""

    dataset: str
    model: str
    other: str
    difference: float | None = Field(description="our score of `model` less that of `other`, on the same test clips")
    low: float | None = Field(description="of its 95 % interval, from a paired bootstrap")
    high: float | None
    published: float | None = Field(description="the same of the published scores")
    verdict: str


class Reproduction(StrictModel):
    """The whole of `reproduction.json`."""

    title: str = Field(description="what was to be found out")
    created: datetime = Field(description="of the run")
    arch_version: str
    source: str = Field(default=SOURCE, description="of the published scores")
    results: list[BesidePublished]
    pairs: list[PairBesidePublished]
    left_out: list[str] = Field(description="what was asked for and is not there, a line each")

    @property
    def comparable(self) -> int:
        """How many results stand beside a published score with nothing that makes them no reproduction."""
        return sum(one.published is not None and not one.obstacles for one in self.results)

    @property
    def within(self) -> int:
        """Of these, those whose interval holds the published score."""
        return sum(one.published is not None and not one.obstacles and _holds(one) for one in self.results)


def beside_published(
    run: Run,
    models: Mapping[str, str],
    datasets: Sequence[str],
    title: str,
    pairs: Sequence[tuple[str, str]] = (),
    left_out: Sequence[str] = (),
) -> Reproduction:
    """Set what a run found beside the published scores.

    Args:
        run: with results of these models and datasets, and of others perhaps, which are left alone.
        models: a model's name -> the published checkpoint's hub id.
        datasets: ids.
        title: what was to be found out.
        pairs: hub ids of two checkpoints of which it is asked which is ahead.
        left_out: what was asked for and is not there.
    """
    results = {(result.model, result.dataset): result for result in run.results}
    found = [
        _set_beside(run, results[name, dataset], checkpoint)
        for dataset in datasets
        for name, checkpoint in models.items()
        if (name, dataset) in results
    ]
    names = {checkpoint: name for name, checkpoint in models.items()}
    known = [(names[one], names[other]) for one, other in pairs if {one, other} <= names.keys()]
    by_pair = {(one.model, one.dataset): one for one in found}
    compared = [
        _pair(run, by_pair[one, dataset], by_pair[other, dataset])
        for one, other in known
        for dataset in datasets
        if {(one, dataset), (other, dataset)} <= by_pair.keys()
    ]
    return Reproduction(
        title=title,
        created=run.created,
        arch_version=run.arch_version,
        results=found,
        pairs=compared,
        left_out=list(left_out),
    )


def _set_beside(run: Run, result: Result, checkpoint: str) -> BesidePublished:
    published = published_models()[checkpoint]
    model = next(one for one in run.models if one.name == result.model)
    dataset = next(one for one in run.datasets if one.id == result.dataset)
    there = published.scores.get(result.dataset)
    probe = probe_of(result)
    one = BesidePublished(
        model=result.model,
        checkpoint=checkpoint,
        revision=model.revision,
        dataset=result.dataset,
        metric=result.metric,
        score=probe.score if probe else None,
        low=probe.interval.low if probe else None,
        high=probe.interval.high if probe else None,
        published=there,
        published_in=published.source if there is not None else "",
        difference=probe.score - there if probe and there is not None else None,
        obstacles=obstacles(model, published, dataset, result, run.settings),
        caveats=caveats(dataset, result),
        verdict="",
    )
    one.verdict = _verdict(one)
    return one


def _verdict(one: BesidePublished) -> str:
    """In words; what was not run on the real thing is called so before anything is said of its score."""
    if one.obstacles:
        return "no reproduction"
    if one.published is None:
        return "no published score is on file"
    return "within our interval" if _holds(one) else f"{_way(one)} our interval"


def _way(one: BesidePublished) -> str:
    return "the published score is " + ("below" if (one.difference or 0) > 0 else "above")


def _holds(one: BesidePublished) -> bool:
    return (
        one.published is not None
        and one.low is not None
        and one.high is not None
        and one.low <= one.published <= one.high
    )


def _pair(run: Run, one: BesidePublished, other: BesidePublished) -> PairBesidePublished:
    found = next(
        (
            compared
            for compared in run.comparisons
            if compared.dataset == one.dataset
            and compared.probe == PROBE
            and {compared.model, compared.other} == {one.model, other.model}
        ),
        None,
    )
    both = one.published is not None and other.published is not None
    published = (one.published or 0) - (other.published or 0) if both else None
    difference = low = high = None
    if found is not None:
        # A comparison names the better one first.
        same = found.model == one.model
        difference = found.difference if same else -found.difference
        low, high = (found.low, found.high) if same else (-found.high, -found.low)
    pair = PairBesidePublished(
        dataset=one.dataset,
        model=one.model,
        other=other.model,
        difference=difference,
        low=low,
        high=high,
        published=published,
        verdict="",
    )
    pair.verdict = "no reproduction" if one.obstacles or other.obstacles else _verdict_on_pair(pair)
    return pair


def _verdict_on_pair(pair: PairBesidePublished) -> str:
    if pair.difference is None or pair.low is None or pair.high is None:
        return "the two share no test clips to be compared on"
    if pair.low <= 0 <= pair.high:
        return "ours do not tell them apart"
    ahead = pair.model if pair.difference > 0 else pair.other
    if pair.published is None:
        return f"{ahead} is ahead; not both are on file"
    if pair.published == 0:
        return f"{ahead} is ahead; the published scores are equal"
    agrees = (pair.published > 0) == (pair.difference > 0)
    return f"{ahead} is ahead, {'as published' if agrees else 'unlike published'}"
