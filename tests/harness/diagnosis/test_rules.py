"""Each rule and each cause: where it speaks, and where it must not; and twenty healthy runs that none accuses."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from arch_harness.diagnosis import leaks, moved, poor, similar
from arch_harness.diagnosis.diagnose import RULES, diagnose
from arch_harness.probes import bootstrap
from arch_harness.probes.score_functions import average_precision
from arch_harness.report.text.diagnoses import diagnosis_lines, diagnosis_remarks
from arch_harness.results.checks.diagnoses import EmbeddingFacts, FileFacts, ResentFacts
from arch_harness.results.run import Run, read_run, write_run
from arch_harness.results.scores import Comparison, Interval
from support.decisions import predictions
from support.runs import comparison, interval, run_of

EMBEDDINGS: dict[str, Any] = {
    "clips": 2000,
    "dimensions": 768,
    "effective_rank": 150.0,
    "spread": 0.3,
    "near": 0,
    "near_heard": 0,
    "near_same": 0,
    "near_examples": [],
    "names": None,
    "score_without_copies": None,
}
FILES: dict[str, Any] = {
    "looked_at": 200,
    "sample_rates": {44100: 200},
    "channels": {1: 200},
    "median_seconds": 5.0,
    "padded": 0.0,
    "cut": 0.0,
    "test_clips": 2000,
    "copies": 0,
    "copy_examples": [],
    "sources": 0,
    "shared_sources": 0,
    "shared_source_clips": 0,
}
RESENT: dict[str, Any] = {
    "clips": 4,
    "batch_distance": 1e-5,
    "batch_cosine": 1.0,
    "unpadded_clips": 2,
    "unpadded_distance": 1e-5,
    "unpadded_cosine": 1.0,
}
PAIR = {"train": "a.wav", "test": "b.wav"}


def healthy(models: Sequence[str] = ("a", "b"), datasets: Sequence[str] = ("d", "e")) -> Run:
    run = run_of(tuple(models), tuple(datasets))
    for one in run.results:
        one.embeddings, one.resent = EmbeddingFacts(**EMBEDDINGS), ResentFacts(**RESENT)
    for dataset in run.datasets:
        dataset.files = FileFacts(**FILES)
    return run


def at_chance(run: Run, model: str = "a", dataset: str = "") -> Run:
    for one in run.results:
        if one.model == model and dataset in ("", one.dataset):
            one.score, one.interval = 0.024, Interval.model_validate(interval(0.024))
            one.probes = [one.probes[0].model_copy(update={"score": 0.024})]
    return run


def classes(count: int, run: Run) -> Run:
    for one in run.datasets:
        one.classes_used = count
    return run


def never_scaled(run: Run, clips: int) -> Run:
    for one in run.results:
        assert one.measurement is not None
        one.measurement.beyond_full_scale = clips
    return run


def seen(run: Run, model: str | None = "a", **changes: Any) -> Run:
    for one in run.results:
        if model in (None, one.model):
            one.embeddings = EmbeddingFacts(**EMBEDDINGS | changes)
    return run


def files(run: Run, dataset: str = "d", **changes: Any) -> Run:
    next(one for one in run.datasets if one.id == dataset).files = FileFacts(**FILES | changes)
    return run


def resent(run: Run, **changes: Any) -> Run:
    for one in run.results:
        if one.model == "a":
            one.resent = ResentFacts(**RESENT | changes)
    return run


def facts(run: Run, model: str, **changes: Any) -> Run:
    run.models = [one.model_copy(update=changes if one.name == model else {}) for one in run.models]
    return run


def own_data(run: Run) -> Run:
    for dataset in run.datasets:
        dataset.clips_official = None
    return run


def twins(low: float, high: float, dataset: str = "d", better: str = "b", **changes: Any) -> Run:
    """`a` is a variant of `b`; the better one's lead lies in the interval."""
    worse = "a" if better == "b" else "b"
    run = facts(facts(healthy(), "b", source="example/one"), "a", **{"source": "example/one"} | changes)
    run.comparisons = [Comparison.model_validate(comparison(dataset, better, worse, low, high))]
    return run


NAMES = {"part": 2, "values": 6, "example": "jackson", "same": 0.83, "expected": 0.17}
INT8, EXACT = {"precision": "int8"}, {"lengths": "exact"}

FIRING = [
    (poor.poor_everywhere, at_chance(healthy()), "a is near chance on each of 2 datasets: at best 2.4 % on d"),
    (poor.collapsed_embeddings, seen(healthy(), spread=1e-5, effective_rank=0.0), "the same embedding"),
    (poor.collapsed_embeddings, seen(healthy(), effective_rank=1.4), "effective rank is 1.40 of 768 dimensions"),
    (
        leaks.copies,
        files(healthy(), copies=40, copy_examples=[PAIR]),
        "40 test clips of 2,000 of d are a training clip",
    ),
    (
        leaks.copies,
        seen(files(healthy(), copies=1, copy_examples=[PAIR]), score_without_copies=0.71),
        "Without all copies, a scores 71.0 % instead of 91.3 %.",
    ),
    (
        leaks.near_copies,
        seen(healthy(), near=9, near_heard=9, near_same=7, near_examples=[PAIR]),
        "the audio of 9 was compared, and 7 are the same sound (b.wav, say, is a.wav)",
    ),
    (
        leaks.shared_sources,
        own_data(files(healthy(), sources=20, shared_sources=3, shared_source_clips=310)),
        "310 of 2,000 test clips of d are of speakers or recordings that its training clips are of too (3 of 20)",
    ),
    (
        leaks.shared_sources,
        own_data(seen(healthy(), names=NAMES)),
        "Part 2 of the file names of d (jackson, say; 6 values) may name speakers",
    ),
    (moved.batch_mates, resent(healthy(), batch_distance=0.4, batch_cosine=0.97), "moved by 40.0 % of the distance"),
    (moved.padding, resent(healthy(), unpadded_distance=0.4), "says that padding does not change its embeddings"),
    (moved.padding, twins(0.03, 0.05, **EXACT), "a, which leaves it out, scores 4.0 points lower"),
    (
        moved.precision,
        twins(0.03, 0.05, **INT8),
        "a scores 4.0 points lower (95 % interval of the difference -5.0 to -3.0, paired over 1,947 clips) than b on d",
    ),
    (moved.precision, twins(0.03, 0.05, better="a", **INT8), "a scores 4.0 points higher"),
]
SILENT = [
    # An interval that reaches down to chance, of a score that is far above it: too few clips, no poor model.
    (poor.poor_everywhere, healthy()),
    # Near chance on one of two.
    (poor.poor_everywhere, at_chance(healthy(), dataset="d")),
    # Two classes want one direction, of which perfect embeddings have no more.
    (poor.collapsed_embeddings, classes(2, seen(healthy(), effective_rank=1.2))),
    (poor.collapsed_embeddings, seen(healthy(), spread=0.01, effective_rank=9.0)),
    (leaks.copies, healthy()),
    # Embeddings that lie on one another, of clips that are different sounds.
    (leaks.near_copies, seen(healthy(), near=900, near_heard=32, near_same=0)),
    (leaks.shared_sources, own_data(files(healthy(), sources=20))),
    # The published protocol is what it is, whatever its files are called.
    (leaks.shared_sources, seen(healthy(), names=NAMES)),
    (moved.batch_mates, resent(healthy(), batch_distance=0.05, batch_cosine=0.9999)),
    (moved.batch_mates, resent(healthy(), batch_distance=None, batch_cosine=None)),
    (moved.padding, resent(healthy(), unpadded_distance=0.05)),
    (moved.padding, twins(-0.01, 0.05, **EXACT)),
    (moved.precision, twins(-0.001, 0.02, **INT8)),
    # 95 % intervals leave out 0 in one of twenty comparisons.
    (moved.precision, twins(0.001, 0.02, **INT8)),
    # Not the same checkpoint, layer or lengths.
    (moved.precision, twins(0.03, 0.05, source="example/two", **INT8)),
    (moved.precision, twins(0.03, 0.05, cut_after_layer=6, **INT8)),
    (moved.precision, twins(0.03, 0.05, **EXACT, **INT8)),
]


def ladder(
    models: int, odd: float, real: bool = True, domain: str = "speech", datasets: tuple[str, ...] = ("d", "e")
) -> Run:
    """Models 4 points apart in the same order on each dataset, but for the first: its score on `e` is `odd`."""
    names = [chr(ord("a") + place) for place in range(models)]
    run = healthy(names, datasets)
    for one in run.results:
        one.score = 0.9 - 0.04 * names.index(one.model)
        if (one.model, one.dataset) == ("a", "e"):
            one.score = odd
    for facts_of in run.datasets:
        facts_of.domain = domain  # type: ignore[assignment]
    run.comparisons = []
    for dataset in datasets:
        scores = {one.model: one.score for one in run.results if one.dataset == dataset}
        for first, second in itertools.combinations(names, 2):
            better, worse = sorted((first, second), key=lambda name: -scores[name])
            lead, half = scores[better] - scores[worse], 0.01 if real else 0.5
            made = comparison(dataset, better, worse, lead - half, lead + half) | {"more_than_noise": real}
            run.comparisons.append(Comparison.model_validate(made))
    return run


FIRING += [
    (similar.out_of_line, ladder(6, 0.30), "a is out of line between d and e, all speech: place 1 on d with 90.0 %"),
    (similar.out_of_line, ladder(6, 0.30, datasets=("d", "e", "f")), "a is out of line on e, all speech: place 6 on e"),
    (
        similar.out_of_line,
        files(ladder(6, 0.30), "e", sample_rates={8000: 200}, padded=0.9, median_seconds=0.5),
        "The data differ: sample rate: 44,100 Hz in d, 8,000 Hz in e; share of padding: 0 % in d, 90 % in e; median "
        "length: 5.00 s in d, 0.500 s in e.",
    ),
]
SILENT += [
    (similar.out_of_line, ladder(6, 0.88)),
    (similar.out_of_line, ladder(6, 0.30, real=False)),
    (similar.out_of_line, ladder(3, 0.30)),
    (similar.out_of_line, ladder(6, 0.30, domain="other")),
]


@pytest.mark.parametrize(("rule", "run", "words"), FIRING)
def test_a_rule_speaks(rule: Callable[[Run], Any], run: Run, words: str) -> None:
    found = list(rule(run))
    assert found
    assert any(words in one.finding for one in found), [one.finding for one in found]
    assert all(one.advice for one in found)
    assert diagnose(run)


@pytest.mark.parametrize(("rule", "run"), SILENT)
def test_a_rule_is_silent(rule: Callable[[Run], Any], run: Run) -> None:
    assert list(rule(run)) == []


def test_no_rule_is_without_a_test_both_ways() -> None:
    assert {rule for rule, *_ in FIRING} == set(RULES) == {rule for rule, _ in SILENT}


CAUSES = [
    (poor._constant, seen(at_chance(healthy()), spread=1e-6), "the same for every clip"),
    (poor._collapsed, seen(at_chance(healthy()), effective_rank=1.3), "effective rank goes down to 1.30"),
    (poor._untrained, facts(at_chance(healthy()), "a", untrained=True), "weights are untrained"),
    (
        poor._normalization,
        facts(at_chance(healthy()), "a", normalization="none", checkpoint_normalization="whole"),
        "normalised otherwise (none) than its checkpoint asks for (whole)",
    ),
    (poor._normalization, facts(at_chance(healthy()), "a", normalization="whole"), "no preprocessor_config.json"),
    (
        poor._sample_rate,
        facts(at_chance(healthy()), "a", checkpoint_sample_rate=8000),
        "It is sent audio at 16,000 Hz, and its checkpoint wants 8,000 Hz.",
    ),
    (poor._sample_rate, files(at_chance(healthy()), sample_rates={8000: 200}), "what lies above 4,000 Hz is empty"),
    (poor._not_verified, facts(at_chance(healthy()), "a", parity_missed="mean cosine 0.2"), "mean cosine 0.2"),
    (
        poor._never_scaled,
        never_scaled(at_chance(healthy()), 1900),
        "1,900 clips of 2,000 of d were never scaled",
    ),
    (poor._noise, at_chance(healthy()), "b scores 87.6 % on the same clips of d, so clips and labels are in order"),
]
NO_CAUSES = [
    (poor._constant, healthy()),
    (poor._collapsed, healthy()),
    (poor._untrained, healthy()),
    (poor._normalization, healthy()),
    (poor._normalization, facts(healthy(), "a", normalization="none", source="builtin:logmel")),
    # The statistics of a clip alone are those of its valid samples.
    (
        poor._normalization,
        facts(healthy(), "a", normalization="valid", checkpoint_normalization="whole", lengths="exact"),
    ),
    (poor._sample_rate, facts(healthy(), "a", checkpoint_sample_rate=16000)),
    (poor._not_verified, healthy()),
    (poor._never_scaled, never_scaled(healthy(), 100)),
    # No other model knows better: it may be the labels.
    (poor._noise, at_chance(at_chance(healthy()), "b")),
]


@pytest.mark.parametrize(("cause", "run", "words"), CAUSES)
def test_a_cause_is_named(cause: Any, run: Run, words: str) -> None:
    (found,) = [one for one in poor.poor_everywhere(run) if one.models == ["a"]]
    assert words in found.finding
    assert words in cause(run, run.models[0], [one for one in run.results if one.model == "a"])


@pytest.mark.parametrize(("cause", "run"), NO_CAUSES)
def test_a_cause_is_not_made_up(cause: Any, run: Run) -> None:
    assert cause(run, run.models[0], [one for one in run.results if one.model == "a"]) is None


def test_no_cause_is_without_a_test_both_ways() -> None:
    assert {cause for cause, *_ in CAUSES} == set(poor.CAUSES) == {cause for cause, _ in NO_CAUSES}


@pytest.mark.parametrize(("positive", "clips"), [(1, 10), (6, 60), (30, 60)])
def test_what_guessing_gives_in_average_precision(positive: int, clips: int) -> None:
    random = np.random.default_rng(4)
    truth = np.zeros((clips, 4000), dtype=np.bool_)
    truth[:positive] = True
    found = average_precision(truth, random.random((clips, 4000)).astype(np.float32))
    assert poor.random_average_precision(positive, clips) == pytest.approx(
        found.mean(), abs=4 * found.std() / 4000**0.5
    )


def test_average_precision_near_that_of_guessing_is_poor() -> None:
    run = at_chance(healthy(datasets=("d",)))
    for one in run.results:
        # Of 10 test clips a fold, 1 is in each class: chance is 0.1, and ranking at random gives 0.29.
        one.metric, one.chance = "map_macro", 0.1
        one.folds = [fold.model_copy(update={"test": 10}) for fold in one.folds]
        one.probes = [
            one.probes[0].model_copy(update={"classes": [one.probes[0].classes[0].model_copy(update={"clips": 5})]})
        ]
        one.score, one.interval = (0.30, Interval.model_validate(interval(0.30)))
        if one.model == "b":
            one.score, one.interval = 0.60, Interval.model_validate(interval(0.60))
    assert poor.score_of_guessing(run.results[0]) == pytest.approx(0.2929, abs=1e-4)
    assert [one.models for one in poor.poor_everywhere(run)] == [["a"]]


def test_one_dataset_and_no_cause_is_a_warning() -> None:
    (found,) = diagnose(at_chance(at_chance(healthy(datasets=("d",)), "b")))[:1]
    assert (found.rule, found.severity) == ("poor everywhere", "warning")
    assert "whether labels and files belong together" in found.advice


def test_the_worst_comes_first_and_every_format_has_it(tmp_path: Path) -> None:
    run = own_data(files(at_chance(healthy()), sources=20, shared_sources=3, shared_source_clips=310))
    run = resent(run, batch_distance=0.3)
    run.diagnoses = diagnose(run)
    assert [(one.severity, one.rule) for one in run.diagnoses] == [
        ("fault", "poor everywhere"),
        ("warning", "shared sources"),
        ("warning", "batch mates"),
    ]
    write_run(run, tmp_path / "results.json")
    assert read_run(tmp_path / "results.json").diagnoses == run.diagnoses
    assert diagnosis_lines(run)[0][0] == "Fault: poor everywhere"
    assert len(diagnosis_remarks(run)) == 3
    assert diagnosis_remarks(run)[0].startswith("Fault, poor everywhere: a is near chance")


def test_results_of_an_earlier_arch_are_read_and_say_that_nothing_was_looked_for() -> None:
    document = run_of(("a",), ("d",)).model_dump(mode="json")
    del document["diagnoses"]
    for one in document["results"]:
        del one["embeddings"], one["resent"]
    for one in document["models"]:
        del one["untrained"], one["normalization"], one["lengths"], one["cut_after_layer"]
        del one["checkpoint_normalization"], one["checkpoint_sample_rate"]
    for one in document["datasets"]:
        del one["files"]
    run = Run.model_validate(document)
    assert run.diagnoses is None
    assert diagnose(run) == []


MODELS = {"big": 0.86, "big-int8": 0.86, "base": 0.80, "base-bf16": 0.80, "small": 0.72, "tiny": 0.60}
EASE = {"one": 0.0, "two": -0.08, "three": 0.05}


@pytest.mark.parametrize("seed", range(20))
def test_of_a_healthy_run_nothing_is_said(seed: int) -> None:
    """Models of different quality, variants that are as good as their fp32, datasets that are easier and harder."""
    random = np.random.default_rng(seed)
    run = healthy(tuple(MODELS), tuple(EASE))
    for facts_of in run.models:
        plain, _, precision = facts_of.name.partition("-")
        facts_of.source, facts_of.precision = f"example/{plain}", precision or "fp32"
    for data in run.datasets:
        data.domain = "speech"
    samples, found = {}, {}
    for one in run.results:
        level = MODELS[one.model] + EASE[one.dataset] + random.normal(0, 0.015) * (one.model in ("small", "tiny"))
        # What makes a clip hard is the same for all models.
        hardness = np.random.default_rng([seed, len(one.dataset)]).normal(0, 0.6, 300)
        chances = 1 / (1 + np.exp(-np.log(level / (1 - level)) - hardness))
        made = predictions((random.random(300) < chances).astype(np.float32))
        found[one.model, one.dataset] = one.score = bootstrap.score(made)
        scores = samples[one.model, one.dataset] = bootstrap.resampled_scores(made, seed)
        low, high = bootstrap.interval(scores)
        assert one.interval is not None
        one.interval = one.interval.model_copy(update={"low": low, "high": high})
        rank, spread = random.uniform(8, 200), random.uniform(0.02, 0.6)
        one.embeddings = EmbeddingFacts(**EMBEDDINGS | {"effective_rank": rank, "spread": spread})
        one.resent = ResentFacts(**RESENT | {"batch_distance": random.uniform(0, 0.05)})
    run.comparisons = []
    for dataset in EASE:
        for model, other in itertools.combinations(MODELS, 2):
            difference = found[model, dataset] - found[other, dataset]
            low, high = bootstrap.interval(samples[model, dataset] - samples[other, dataset])
            ends = {"difference": difference, "more_than_noise": low > 0 or high < 0}
            run.comparisons.append(Comparison.model_validate(comparison(dataset, model, other, low, high) | ends))
    assert diagnose(run) == []
