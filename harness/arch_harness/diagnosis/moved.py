"""What moves embeddings or scores and should not: others in a batch, padding, precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from arch_harness.report.text.numbers import clean, number, points
from arch_harness.results.checks.diagnoses import Diagnosis

if TYPE_CHECKING:
    from arch_harness.results.run import ModelFacts, Run

_TOO_FAR = 0.1
"""Of the distance from one clip to another: what moves an embedding further may move clips across what a probe drew."""

_ANOTHER_CLIP = 0.5
_FALSE_ALARMS = 0.01
"""How often a run in which nothing moved any score may be told that something did, over all that is compared in it."""

_QUANTILE = 1.959964
"""Standard deviations from the middle of a normal distribution to the ends of its 95 % interval."""


def batch_mates(run: Run) -> Iterator[Diagnosis]:
    """A model whose embedding of a clip depends on what else is in its batch."""
    for model, moved in _moved(run, "batch"):
        worst = max(moved, key=lambda one: one.distance)
        yield Diagnosis(
            rule="batch mates",
            severity="fault" if worst.distance > _ANOTHER_CLIP else "warning",
            models=[model],
            datasets=[one.dataset for one in moved],
            finding=f"What else is in its batch moves the embeddings of {clean(model)}: {worst.words}, sent alone and "
            "together. Its scores depend on the load.",
            advice="Export it again without batches (max_batch_size: 1 in its config.pbtxt), or in a precision that "
            "takes no scale over the whole batch.",
        )


def padding(run: Run) -> Iterator[Diagnosis]:
    """A model that is to ignore padding and does not, and one whose score padding moves."""
    for model, moved in _moved(run, "unpadded"):
        worst = max(moved, key=lambda one: one.distance)
        yield Diagnosis(
            rule="padding",
            severity="fault",
            models=[model],
            datasets=[one.dataset for one in moved],
            finding=f"{clean(model)} says that padding does not change its embeddings (lengths exact), and it does: "
            f"{worst.words}, sent with and without.",
            advice="Export it again with --lengths exact.",
        )
    for change in _changes(run, _padded_twin):
        yield Diagnosis(
            rule="padding",
            severity="note",
            models=[change.model, change.other],
            datasets=[change.dataset],
            finding=f"Padding moves the score on {clean(change.dataset)}: {clean(change.model)}, which leaves it out, "
            f"scores {change.words} than {clean(change.other)}, which counts it in as ARCH does.",
            advice="Compare with published scores by the one with padding; deploy the one that is better on clips of "
            "your lengths.",
        )


def precision(run: Run) -> Iterator[Diagnosis]:
    """A model whose score differs from that of the same checkpoint in fp32, on the same clips."""
    for change in _changes(run, _fp32_twin):
        yield Diagnosis(
            rule="precision",
            severity="warning" if change.difference < 0 else "note",
            models=[change.model, change.other],
            datasets=[change.dataset],
            finding=f"{clean(change.model)} scores {change.words} than {clean(change.other)} on "
            f"{clean(change.dataset)}, the same checkpoint in fp32.",
            advice="That is the price of its precision here: take another one, or weigh it against the speed.",
        )


@dataclass(frozen=True)
class _Moved:
    """How far embeddings of clips moved that were sent again."""

    dataset: str
    clips: int
    distance: float
    cosine: float

    @property
    def words(self) -> str:
        """In a sentence."""
        return (
            f"of {self.clips} clips of {clean(self.dataset)} one moved by {number(100 * self.distance)} % of the "
            f"distance between clips (cosine {self.cosine:.4f})"
        )


def _moved(run: Run, what: Literal["batch", "unpadded"]) -> Iterator[tuple[str, list[_Moved]]]:
    """The models some of whose embeddings moved too far, with the datasets where they did."""
    for model in run.models:
        found = []
        for one in run.results:
            again = one.resent
            if one.model != model.name or again is None:
                continue
            clips, distance, cosine = (
                (again.clips, again.batch_distance, again.batch_cosine)
                if what == "batch"
                else (again.unpadded_clips, again.unpadded_distance, again.unpadded_cosine)
            )
            if distance is not None and cosine is not None and distance > _TOO_FAR:
                found.append(_Moved(one.dataset, clips, distance, cosine))
        if found:
            yield model.name, found


@dataclass(frozen=True)
class _Change:
    """A score that really differs from that of another model, on the same clips."""

    model: str
    other: str
    dataset: str
    difference: float
    low: float
    high: float
    clips: int

    @property
    def words(self) -> str:
        """By how much, behind `scores`."""
        side = "lower" if self.difference < 0 else "higher"
        size = points(abs(self.difference)).lstrip("+")
        return (
            f"{size} points {side} (95 % interval of the difference {points(self.low)} to {points(self.high)}, paired "
            f"over {self.clips:,} clips)"
        )


def _changes(run: Run, is_twin: Callable[[ModelFacts, ModelFacts], bool]) -> list[_Change]:
    """The comparisons of twins that differ by more than all comparisons together may by chance."""
    facts = {one.name: one for one in run.models}
    found = []
    for one in run.comparisons:
        if one.probe != run.settings.probes[0]:
            continue
        if is_twin(facts[one.model], facts[one.other]):
            found.append(_Change(one.model, one.other, one.dataset, one.difference, one.low, one.high, one.clips))
        elif is_twin(facts[one.other], facts[one.model]):
            found.append(_Change(one.other, one.model, one.dataset, -one.difference, -one.high, -one.low, one.clips))
    return [one for one in found if _by_chance(one) * len(found) < _FALSE_ALARMS]


def _by_chance(change: _Change) -> float:
    """How often a difference as large as this would be found where there is none, by its interval's width.

    Compared with the number of comparisons this is Bonferroni's correction.
    """
    error = (change.high - change.low) / (2 * _QUANTILE)
    if not error:
        return 1.0 if not change.difference else 0.0
    return math.erfc(abs(change.difference) / error / math.sqrt(2))


def _fp32_twin(one: ModelFacts, other: ModelFacts) -> bool:
    """Whether `other` is the fp32 of the checkpoint that `one` is in another precision."""
    same = _checkpoint(one) == _checkpoint(other) and one.lengths == other.lengths
    return same and one.precision != "fp32" and other.precision == "fp32"


def _padded_twin(one: ModelFacts, other: ModelFacts) -> bool:
    """Whether `one` leaves padding out and `other`, of the same checkpoint and precision, does not."""
    same = _checkpoint(one) == _checkpoint(other) and one.precision == other.precision
    return same and one.lengths == "exact" and other.lengths != "exact"


def _checkpoint(model: ModelFacts) -> tuple[str, str, int | None]:
    return model.source, model.revision, model.cut_after_layer
