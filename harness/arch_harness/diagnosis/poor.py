"""Poor everywhere: a model that is near chance on all it was run on, and what speaks for each cause."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from arch_harness.diagnosis.embeddings import CONSTANT
from arch_harness.report.text.numbers import clean, number, percent, plural
from arch_harness.results.checks.diagnoses import Diagnosis

if TYPE_CHECKING:
    from arch_harness.results.checks.diagnoses import EmbeddingFacts
    from arch_harness.results.run import DatasetFacts, ModelFacts, Result, Run

_NEAR_CHANCE = 0.1
"""Of the way from chance to a score of 100 %: a model that is further up knows something, however wide its interval."""

_FEW_DIRECTIONS = 3.0
"""Effective rank below which embeddings are collapsed; where classes are few, half of what they need."""

_MOSTLY = 0.5


def is_near_chance(result: Result) -> bool:
    """Whether a score is hardly above what guessing gives, and its interval reaches down to that."""
    low, guessing = result.interval.low if result.interval else result.score, score_of_guessing(result)
    return low <= guessing and result.score - guessing <= _NEAR_CHANCE * (1 - guessing)


def score_of_guessing(result: Result) -> float:
    """The chance of a result; of mAP with few test clips a little more, because its lucky ranks outweigh the others."""
    if result.metric != "map_macro" or not result.probes or not result.folds:
        return result.chance
    tests = sum(fold.test for fold in result.folds) / len(result.folds)
    found = [random_average_precision(one.clips / len(result.folds), tests) for one in result.probes[0].classes]
    return max(result.chance, sum(found) / len(found)) if found else result.chance


def random_average_precision(positive: float, clips: float) -> float:
    """The average precision to expect where `positive` of so many clips are ranked at random.

    Source: Bestgen, "Exact expected average precision of the random baseline for system evaluation", Prague Bulletin of
    Mathematical Linguistics 103 (2015).
    """
    if not positive or clips <= 1:
        return 0.0
    harmonic = sum(1 / rank for rank in range(1, round(clips) + 1))
    return ((positive - 1) / (clips - 1) * (clips - harmonic) + harmonic) / clips


def is_constant(result: Result) -> bool:
    """Whether the embedding is the same for every clip, but for rounding."""
    return result.embeddings is not None and result.embeddings.spread <= CONSTANT


def is_collapsed(result: Result, dataset: DatasetFacts) -> bool:
    """Whether embeddings lie along so few directions that most classes have none of their own.

    k classes that are told apart perfectly need k - 1 directions and often use no more, so few classes are no sign.
    """
    seen = result.embeddings
    least = min(_FEW_DIRECTIONS, (dataset.classes_used - 1) / 2)
    return (
        seen is not None and not is_constant(result) and min(seen.dimensions, seen.clips) > least > seen.effective_rank
    )


def collapsed_embeddings(run: Run) -> Iterator[Diagnosis]:
    """Embeddings that are constant, or use hardly any direction."""
    datasets = {one.id: one for one in run.datasets}
    for model in run.models:
        seen = [(one, one.embeddings) for one in run.results if one.model == model.name and one.embeddings is not None]
        constant = [(one, facts) for one, facts in seen if is_constant(one)]
        collapsed = [(one, facts) for one, facts in seen if is_collapsed(one, datasets[one.dataset])]
        if constant:
            worst = max(facts.spread for _, facts in constant)
            yield Diagnosis(
                rule="collapsed embeddings",
                severity="fault",
                models=[model.name],
                datasets=[one.dataset for one, _ in constant],
                finding=f"{clean(model.name)} gives every clip of {_named(constant)} the same embedding: they differ "
                f"by {number(100 * worst)} % of their length, which is rounding.",
                advice="The graph does not depend on its input, or what reaches it is silence: export it again, and "
                "look at the clips (arch data verify).",
            )
        if collapsed:
            result, facts = min(collapsed, key=lambda one: one[1].effective_rank)
            yield Diagnosis(
                rule="collapsed embeddings",
                severity="warning",
                models=[model.name],
                datasets=[one.dataset for one, _ in collapsed],
                finding=f"The embeddings of {clean(model.name)} on {_named(collapsed)} have collapsed: their effective "
                f"rank is {number(facts.effective_rank)} of {facts.dimensions} dimensions on {clean(result.dataset)}, "
                f"which has {datasets[result.dataset].classes_used} classes.",
                advice="Look at what one direction can be: loudness (normalisation), length (padding), or a layer that "
                "is collapsed in the checkpoint; --layers at export and bench shows the other layers.",
            )


def poor_everywhere(run: Run) -> Iterator[Diagnosis]:
    """A model near chance on every dataset that it has a score on."""
    for model in run.models:
        results = [one for one in run.results if one.model == model.name]
        if not results or not all(map(is_near_chance, results)):
            continue
        causes = [sentence for cause in CAUSES if (sentence := cause(run, model, results)) is not None]
        best = max(results, key=lambda one: one.score - one.chance)
        scores = f"{percent(best.score)} % on {clean(best.dataset)}, where chance is {percent(best.chance)} %"
        if best.interval is not None:
            scores += f" (95 % interval {percent(best.interval.low)} to {percent(best.interval.high)} %)"
        where = f"each of {len(results)} datasets" if len(results) > 1 else "the one dataset that it was run on"
        yield Diagnosis(
            rule="poor everywhere",
            severity="fault" if causes or len(results) > 1 else "warning",
            models=[model.name],
            datasets=[one.dataset for one in results],
            finding=" ".join([f"{clean(model.name)} is near chance on {where}: at best {scores}.", *causes]),
            advice="Mend what is named, and export and bench again."
            if causes
            else "Nothing that is known of it explains that: compare its embeddings with the original model's on a "
            "few clips, and look whether labels and files belong together.",
        )


def _constant(_run: Run, _model: ModelFacts, results: Sequence[Result]) -> str | None:
    if not any(map(is_constant, results)):
        return None
    return "Its embeddings are the same for every clip."


def _collapsed(run: Run, _model: ModelFacts, results: Sequence[Result]) -> str | None:
    datasets = {one.id: one for one in run.datasets}
    ranks = [
        one.embeddings.effective_rank for one in results if one.embeddings and is_collapsed(one, datasets[one.dataset])
    ]
    return f"Its embeddings have collapsed: their effective rank goes down to {number(min(ranks))}." if ranks else None


def _noise(run: Run, model: ModelFacts, results: Sequence[Result]) -> str | None:
    """Embeddings that differ in many directions, of clips that another model tells apart."""
    better = [
        other
        for other in run.results
        if other.model != model.name and other.dataset in {one.dataset for one in results} and not is_near_chance(other)
    ]
    spread = [one.embeddings for one in results if one.embeddings and not is_constant(one)]
    datasets = {one.id: one for one in run.datasets}
    if not better or not spread or any(is_collapsed(one, datasets[one.dataset]) for one in results):
        return None
    best = max(better, key=lambda one: one.score - one.chance)
    rank = min(one.effective_rank for one in spread)
    return (
        f"{clean(best.model)} scores {percent(best.score)} % on the same clips of {clean(best.dataset)}, so clips and "
        f"labels are in order; its own embeddings differ (effective rank {number(rank)} of {spread[0].dimensions}) "
        "but not by what the labels are of."
    )


def _untrained(_run: Run, model: ModelFacts, _results: Sequence[Result]) -> str | None:
    if not model.untrained:
        return None
    return (
        "Its weights are untrained: every norm in it has scales of exactly 1 and biases of 0, as before any training."
    )


def _normalization(_run: Run, model: ModelFacts, _results: Sequence[Result]) -> str | None:
    """An export of exact lengths takes the valid samples' statistics where the checkpoint wants the whole clip's."""
    wanted, is_so = model.checkpoint_normalization, model.normalization
    if not is_so or model.source.startswith("builtin:"):
        return None
    if not wanted:
        return (
            f"Its checkpoint does not say how audio is prepared (no preprocessor_config.json), so a default was taken: "
            f"normalisation {is_so}, {model.sample_rate:,} Hz."
        )
    if wanted == is_so or (model.lengths == "exact" and (wanted, is_so) == ("whole", "valid")):
        return None
    return f"Its waveforms are normalised otherwise ({is_so}) than its checkpoint asks for ({wanted})."


def _sample_rate(run: Run, model: ModelFacts, results: Sequence[Result]) -> str | None:
    wanted = model.checkpoint_sample_rate
    if wanted and wanted != model.sample_rate:
        return f"It is sent audio at {model.sample_rate:,} Hz, and its checkpoint wants {wanted:,} Hz."
    files = {one.id: one.files for one in run.datasets}
    for result in results:
        found = files[result.dataset]
        if found is None or not found.looked_at:
            continue
        low = sum(count for rate, count in found.sample_rates.items() if rate < model.sample_rate)
        if low > _MOSTLY * found.looked_at:
            rate = max(found.sample_rates, key=lambda one: found.sample_rates[one])
            return (
                f"Files of {clean(result.dataset)} are at {rate:,} Hz and it wants {model.sample_rate:,} Hz: what lies "
                f"above {rate // 2:,} Hz is empty."
            )
    return None


def _not_verified(_run: Run, model: ModelFacts, _results: Sequence[Result]) -> str | None:
    if not model.parity_missed:
        return None
    return f"It missed its limits when it was exported: {clean(model.parity_missed)}."


def _never_scaled(_run: Run, _model: ModelFacts, results: Sequence[Result]) -> str | None:
    for one in results:
        found = one.measurement
        if found is not None and found.beyond_full_scale > _MOSTLY * found.clips:
            return (
                f"{plural(found.beyond_full_scale, 'clip')} of {found.clips:,} of {clean(one.dataset)} were never "
                "scaled to full scale."
            )
    return None


CAUSES = (_constant, _collapsed, _untrained, _normalization, _sample_rate, _not_verified, _never_scaled, _noise)
"""What may make a model poor everywhere, each a sentence with its evidence, in the order in which they stand."""


def _named(seen: Sequence[tuple[Result, EmbeddingFacts]]) -> str:
    return ", ".join(clean(one.dataset) for one, _ in seen)
