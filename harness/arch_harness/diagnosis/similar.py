"""Inconsistent on similar datasets: a model whose place among the others is another one on one dataset of a domain."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from arch_harness.report.text.numbers import clean, number, percent
from arch_harness.results.checks.diagnoses import Diagnosis

if TYPE_CHECKING:
    from arch_harness.results.checks.diagnoses import FileFacts
    from arch_harness.results.run import DatasetFacts, Run

_SIMILAR = ("speech", "music", "events")
_LEAST_MODELS = 4
"""Of fewer, no rank correlation tells which one is out of line."""

_LEAST_REVERSED = 2
_AGREE = 0.5
"""Rank correlation that the other models must have between the two datasets."""

_DIFFERENT = 0.25


@dataclass(frozen=True)
class _OutOfLine:
    """A model on two datasets of a domain.

    Attributes:
        first: a dataset, by its id.
        second: another one.
        reversed: how many models it beats on one and loses to on the other, by more than noise both times.
        others: how many models there are beside it.
        with_it: rank correlation of all models' scores.
        without_it: of the others'.
    """

    first: str
    second: str
    reversed: int
    others: int
    with_it: float
    without_it: float


def out_of_line(run: Run) -> Iterator[Diagnosis]:
    """A model that is really better than others on one dataset and really worse than they are on a similar one."""
    found = defaultdict[str, list[_OutOfLine]](list)
    for domain in _SIMILAR:
        datasets = [one.id for one in run.datasets if one.domain == domain]
        for first, second in combinations(datasets, 2):
            for model, one in _found(run, first, second):
                found[model].append(one)
    for model, cases in found.items():
        worst = max(cases, key=lambda one: (one.reversed, one.without_it - one.with_it))
        places = [dataset for one in cases for dataset in (one.first, one.second)]
        # The dataset that is in more of the pairs is the odd one; of one pair alone nobody knows.
        pair = sorted((worst.first, worst.second), key=lambda dataset: -places.count(dataset))
        yield _diagnosis(run, model, pair[0], pair[1], worst, places.count(pair[0]) > places.count(pair[1]))


def _found(run: Run, first: str, second: str) -> Iterator[tuple[str, _OutOfLine]]:
    scores = {
        dataset: {one.model: one.score for one in run.results if one.dataset == dataset} for dataset in (first, second)
    }
    models = [model for model in scores[first] if model in scores[second]]
    if len(models) < _LEAST_MODELS:
        return
    signs = _real_differences(run)
    reversals = {
        model: sum(
            signs.get((first, model, other), 0) * signs.get((second, model, other), 0) < 0
            for other in models
            if other != model
        )
        for model in models
    }
    model = max(models, key=lambda one: reversals[one])
    if reversals[model] < max(_LEAST_REVERSED, (len(models) - 1) / 2):
        return
    others = [one for one in models if one != model]
    with_it, without_it = (_correlation(scores[first], scores[second], names) for names in (models, others))
    if without_it >= _AGREE and without_it > with_it:
        yield model, _OutOfLine(first, second, reversals[model], len(others), with_it, without_it)


def _real_differences(run: Run) -> dict[tuple[str, str, str], int]:
    """(dataset, model, other) -> 1 where the model is better by more than noise, -1 where it is worse."""
    signs = {}
    for one in run.comparisons:
        if one.probe == run.settings.probes[0] and one.more_than_noise:
            sign = 1 if one.difference > 0 else -1
            signs[one.dataset, one.model, one.other] = sign
            signs[one.dataset, one.other, one.model] = -sign
    return signs


def _correlation(first: dict[str, float], second: dict[str, float], models: Sequence[str]) -> float:
    """Spearman's rank correlation of two datasets' scores; 0 where all are equal on one of them."""
    from scipy.stats import spearmanr

    columns = [[scores[model] for model in models] for scores in (first, second)]
    if any(len(set(column)) == 1 for column in columns):
        return 0.0
    return float(spearmanr(*columns).statistic)


def _diagnosis(run: Run, model: str, odd: str, usual: str, case: _OutOfLine, decided: bool) -> Diagnosis:
    facts = {one.id: one for one in run.datasets}
    scores = {one.dataset: one.score for one in run.results if one.model == model}
    ranks = {dataset: _rank(run, model, dataset) for dataset in (odd, usual)}
    differences = _differences(run, facts[odd], facts[usual])
    where = f"on {clean(odd)}" if decided else f"between {clean(odd)} and {clean(usual)}"
    finding = (
        f"{clean(model)} is out of line {where}, all {facts[odd].domain}: place {ranks[odd]} on {clean(odd)} with "
        f"{percent(scores[odd])} %, place {ranks[usual]} on {clean(usual)} with {percent(scores[usual])} %; "
        f"{case.reversed} of {case.others} other models change sides with it by more than noise. The rank correlation "
        f"of the two datasets is {case.with_it:.2f} with it and {case.without_it:.2f} without."
    )
    if differences:
        finding += f" The data differ: {'; '.join(differences)}."
    high, low = sorted((odd, usual), key=lambda dataset: ranks[dataset])
    advice = [
        f"Look whether it was trained on {clean(high)}, and at what training and test clips share there."
        if not decided or odd == high
        else "",
        f"Look at how it prepares the audio of {clean(low)}: sample rate, length, padding, level."
        if not decided or odd == low
        else "",
    ]
    return Diagnosis(
        rule="out of line",
        severity="warning",
        models=[model],
        datasets=[odd, usual],
        finding=finding,
        advice=" ".join(filter(None, advice)),
    )


def _rank(run: Run, model: str, dataset: str) -> int:
    scores = {one.model: one.score for one in run.results if one.dataset == dataset}
    return 1 + sum(score > scores[model] for score in scores.values())


def _differences(run: Run, one: DatasetFacts, other: DatasetFacts) -> list[str]:
    """What differs in how the clips of two datasets reach an encoder, in words."""
    if one.files is None or other.files is None:
        return []
    names = clean(one.id), clean(other.id)

    def told(what: str, values: tuple[str, str]) -> list[str]:
        return [] if values[0] == values[1] else [f"{what}: {values[0]} in {names[0]}, {values[1]} in {names[1]}"]

    def shares(what: str, values: tuple[float, float]) -> list[str]:
        if abs(values[0] - values[1]) < _DIFFERENT:
            return []
        return told(what, (f"{100 * values[0]:.0f} %", f"{100 * values[1]:.0f} %"))

    loud = tuple(_beyond_full_scale(run, dataset.id) for dataset in (one, other))
    return [
        *told("sample rate", (_usual(one.files, "sample_rates", " Hz"), _usual(other.files, "sample_rates", " Hz"))),
        *told("channels", (_usual(one.files, "channels"), _usual(other.files, "channels"))),
        *shares("share of padding", (one.files.padded, other.files.padded)),
        *shares("clips cut", (one.files.cut, other.files.cut)),
        *(told("median length", _lengths(one.files, other.files))),
        *shares("clips beyond full scale", (loud[0], loud[1])),
    ]


def _usual(files: FileFacts, what: str, unit: str = "") -> str:
    counts: dict[int, int] = getattr(files, what)
    return f"{max(counts, key=lambda value: counts[value]):,}{unit}" if counts else "unknown"


def _lengths(one: FileFacts, other: FileFacts) -> tuple[str, str]:
    """Equal where neither is twice the other."""
    low, high = sorted((one.median_seconds, other.median_seconds))
    if high <= 2 * low:
        return "", ""
    return f"{number(one.median_seconds)} s", f"{number(other.median_seconds)} s"


def _beyond_full_scale(run: Run, dataset: str) -> float:
    found = [one.measurement for one in run.results if one.dataset == dataset and one.measurement is not None]
    return max((one.beyond_full_scale / one.clips for one in found if one.clips), default=0.0)
