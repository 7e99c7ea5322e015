"""Two runs compared, model by model and dataset by dataset: scores, speed, latency, embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from arch_common.errors import ArchError, UsageError

from arch_harness.decision.compatibility import Mismatch, lines_of, pair_mismatches, run_mismatches
from arch_harness.decision.cosine import CosineDifference, compare_entries, compare_results
from arch_harness.probes.paired import paired_difference
from arch_harness.report.text.numbers import clean
from arch_harness.results.repeats import (
    EQUAL_FIGURES,
    LATENCIES,
    POWER_FIGURES,
    difference_of,
    point_of,
    same_power,
    same_rate,
    spread_of,
)

if TYPE_CHECKING:
    from arch_harness.embeddings.store import EntryFacts
    from arch_harness.results.measurement import Measurement
    from arch_harness.results.run import Result, Run
    from arch_harness.results.scores import ProbeName, ScoreMetric

COMPARED_FIGURES = (*EQUAL_FIGURES, "p99_ms")
"""The metrics of speed and energy that are compared: latencies only at loads that are the same for both, energies only
of the same kinds of hardware."""


@dataclass(frozen=True)
class RunFolder:
    """A run as it lies on the disk.

    Attributes:
        folder: that holds its predictions.
        run: its `results.json`.
        store: folder of the embedding store that it used.
    """

    folder: Path
    run: Run
    store: Path

    def result(self, model: str, dataset: str) -> Result | None:
        """Its result of a pair."""
        return next((one for one in self.run.results if (one.model, one.dataset) == (model, dataset)), None)


@dataclass(frozen=True)
class ScoreDifference:
    """A probe's scores in two runs.

    Attributes:
        score: in the run, of all its test clips; a share.
        baseline_score: in the baseline, likewise.
        clips: test clips that both runs have an embedding of; what follows is of these.
        difference: score of the run less that of the baseline, a share.
        low: of its 95 % interval, from a paired bootstrap.
        high: likewise.
        error: standard deviation of the difference over the samples.
        differing: test clips of which the two made different things.
        verdict: `real` where the interval leaves out 0.
    """

    probe: ProbeName
    metric: ScoreMetric
    score: float
    baseline_score: float
    clips: int
    difference: float
    low: float
    high: float
    error: float
    differing: int
    verdict: Literal["real", "noise"]

    @property
    def more_than_noise(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.verdict == "real"


@dataclass(frozen=True)
class FigureDifference:
    """A figure of speed in two runs, both at the same load.

    Attributes:
        figure: the metric's id.
        value: in the run, the mean over its repeats, in the metric's unit.
        baseline_value: in the baseline, likewise.
        runs: how often each of the two was measured, the run first.
        ratio: of the two, the mean over the logarithms where there are repeats.
        low: of the ratio's 99 % interval; None where one of the two was measured once.
        high: likewise.
        verdict: `measured once` where there is no interval.
    """

    figure: str
    value: float
    baseline_value: float
    runs: tuple[int, int]
    ratio: float
    low: float | None
    high: float | None
    verdict: Literal["real", "noise", "measured once"]


@dataclass(frozen=True)
class PairComparison:
    """One model on one dataset in two runs.

    Attributes:
        model: in the run.
        baseline_model: in the baseline; another name only where it was paired by hand.
        scores: by probe, the run's first one first.
        figures: of speed and latency.
        embeddings: of the same clips, where they were asked for.
        mismatches: fields in which its two results differ beside their figures.
        problems: why a probe's `scores` or the `embeddings` could not be compared, by the probe's name or that word.
    """

    model: str
    baseline_model: str
    dataset: str
    scores: list[ScoreDifference] = field(default_factory=list)
    figures: list[FigureDifference] = field(default_factory=list)
    embeddings: CosineDifference | None = None
    mismatches: list[Mismatch] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The pair in words."""
        model = self.model if self.model == self.baseline_model else f"{self.model} against {self.baseline_model}"
        return clean(f"{model} on {self.dataset}")


@dataclass(frozen=True)
class RunComparison:
    """A run against a baseline.

    Attributes:
        run: its name.
        baseline: likewise.
        pairs: of both.
        mismatches: fields in which the runs as a whole differ beside their figures.
        only_in_run: pairs that the baseline does not have.
        only_in_baseline: pairs that the run does not have.
    """

    run: str
    baseline: str
    pairs: list[PairComparison]
    mismatches: list[Mismatch] = field(default_factory=list)
    only_in_run: list[str] = field(default_factory=list)
    only_in_baseline: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """What could not be compared, a line each."""
        return [f"{pair.name}: {problem}" for pair in self.pairs for problem in pair.problems.values()]

    @property
    def is_whole(self) -> bool:
        """Whether everything that both have could be compared.

        Latencies at loads that differ, and energies of other hardware, are none of that.
        """
        mismatches = [*self.mismatches, *(one for pair in self.pairs for one in pair.mismatches)]
        parts = ("latency", "energy")
        return not self.problems and not any(one.refused and one.touches not in parts for one in mismatches)

    @property
    def warnings(self) -> list[str]:
        """What the reader must know of the two runs before the differences, a line each."""
        found = lines_of([*self.mismatches, *(one for pair in self.pairs for one in pair.mismatches)])
        for what, names in (
            (f"not in the baseline {self.baseline}, and so not compared", self.only_in_run),
            (f"not in the run {self.run}, and so not compared", self.only_in_baseline),
        ):
            found += [f"{what}: {', '.join(names)}"] if names else []
        return found


def compare_runs(
    ours: RunFolder,
    theirs: RunFolder,
    renamed: Mapping[str, str] | None = None,
    *,
    embeddings: bool = False,
    note: Callable[[str], None] = lambda _text: None,
) -> RunComparison:
    """Compare a run with a baseline, wherever both have a model of the same name on the same dataset.

    Args:
        ours: the run.
        theirs: the baseline.
        renamed: models of the run, each with the model of the baseline that it is compared with.
        embeddings: whether the stored embeddings are compared too.
        note: told of damaged files in a store.

    Raises:
        UsageError: if the two have nothing in common, or `renamed` names a model that is not there.
        ArchError: if embeddings are asked for and a store cannot be read.
    """
    renamed = renamed or {}
    _check_renamed(ours, theirs, renamed)
    pairs: list[PairComparison] = []
    mismatches = run_mismatches(ours.run, theirs.run)
    refused = {one.touches for one in mismatches if one.refused}
    taken = set()
    only_in_run = []
    for result in ours.run.results:
        name = renamed.get(result.model, result.model)
        other = theirs.result(name, result.dataset)
        if other is None:
            only_in_run.append(clean(f"{result.model} on {result.dataset}"))
            continue
        taken.add((name, result.dataset))
        found = pair_mismatches(ours.run, theirs.run, result, other)
        pair = PairComparison(result.model, name, result.dataset, mismatches=found)
        touched = refused | {one.touches for one in found if one.refused}
        if not touched & {"scores", "everything"}:
            _add_scores(pair, ours, theirs, result, other)
        if "everything" not in touched:
            if result.measurement is not None and other.measurement is not None:
                pair.figures.extend(_figures(result.measurement, other.measurement))
            if embeddings:
                pair = _with_embeddings(pair, ours, theirs, result, other, note)
        pairs.append(pair)
    if not pairs:
        raise UsageError(
            f"{ours.folder} and {theirs.folder} have no model and dataset in common: the first has "
            f"{_named(ours.run)}, the second {_named(theirs.run)}; --pair MODEL=MODEL compares models of two names"
        )
    replaced = _replaced(renamed)
    missing = [
        clean(f"{one.model} on {one.dataset}")
        for one in theirs.run.results
        if (one.model, one.dataset) not in taken and one.model not in replaced
    ]
    return RunComparison(str(ours.folder), str(theirs.folder), pairs, mismatches, only_in_run, missing)


def compare_stores(
    ours: Sequence[EntryFacts], theirs: Sequence[EntryFacts], names: tuple[str, str], note: Callable[[str], None]
) -> RunComparison:
    """Compare the embeddings in entries of the store: one with one, or those of a model and dataset of the same name.

    Args:
        ours: entries.
        theirs: those of the baseline.
        names: what the two are called.
        note: told of damaged files.

    Raises:
        UsageError: if they have nothing in common.
        ArchError: if an entry cannot be read, or two share no clip.
    """
    pairs = []
    taken = set()
    for one in ours:
        alike = [other for other in theirs if len(ours) == len(theirs) == 1 or _label(other) == _label(one)]
        # Of several the one that was used last; they are in that order.
        if alike and _label(one) not in taken:
            taken.add(_label(one))
            pair = PairComparison(one.value("model"), alike[0].value("model"), _label(one)[1])
            try:
                found = compare_entries(one.folder, alike[0].folder, note=note)
            except ArchError as error:
                pair.problems["embeddings"] = str(error)
                pairs.append(pair)
                continue
            pairs.append(PairComparison(pair.model, pair.baseline_model, pair.dataset, embeddings=found))
    if not pairs:
        raise UsageError(f"{names[0]} and {names[1]} hold no embeddings of one model and dataset in common")
    return RunComparison(names[0], names[1], pairs)


def _label(entry: EntryFacts) -> tuple[str, str]:
    done = f" ({entry.preprocessing})" if entry.preprocessing else ""
    return entry.value("model"), entry.value("dataset") + done


def _check_renamed(ours: RunFolder, theirs: RunFolder, renamed: Mapping[str, str]) -> None:
    for where, names, known in (
        (ours.folder, list(renamed), [one.name for one in ours.run.models]),
        (theirs.folder, list(renamed.values()), [one.name for one in theirs.run.models]),
    ):
        for name in names:
            if name not in known:
                raise UsageError(f"{where} has no model {name!r}; it has {', '.join(known)}")


def _replaced(renamed: Mapping[str, str]) -> set[str]:
    """Models of the baseline that nothing is compared with: the run's model of that name is compared with another."""
    return set(renamed) - set(renamed.values())


def _named(run: Run) -> str:
    return ", ".join(f"{one.model} on {one.dataset}" for one in run.results) or "nothing"


def _add_scores(pair: PairComparison, ours: RunFolder, theirs: RunFolder, result: Result, other: Result) -> None:
    earlier = {score.probe: score for score in other.probes}
    for score in result.probes:
        before = earlier.get(score.probe)
        if before is None:
            continue
        found = paired_difference((ours.folder, result), (theirs.folder, other), score.probe, ours.run.settings.seed)
        if found is None:
            pair.problems[score.probe] = (
                f"what the probe {score.probe} made of the test clips is not kept in both folders (predictions/), or "
                "they share no test clip: its scores are not compared"
            )
            continue
        pair.scores.append(
            ScoreDifference(
                probe=score.probe,
                metric=result.metric,
                score=score.score,
                baseline_score=before.score,
                **vars(found),
                verdict="real" if found.more_than_noise else "noise",
            )
        )
    if not any(score.probe in earlier for score in result.probes):
        probes = [", ".join(one.probe for one in found.probes) or "none" for found in (result, other)]
        pair.problems["scores"] = f"no probe in common: {probes[0]}, and {probes[1]} in the baseline"


def _with_embeddings(
    pair: PairComparison,
    ours: RunFolder,
    theirs: RunFolder,
    result: Result,
    other: Result,
    note: Callable[[str], None],
) -> PairComparison:
    try:
        found = compare_results((ours.run, ours.store, result), (theirs.run, theirs.store, other), note)
    except ArchError as error:
        pair.problems["embeddings"] = f"embeddings are not compared: {error}"
        return pair
    return replace(pair, embeddings=found)


def _figures(measurement: Measurement, other: Measurement) -> list[FigureDifference]:
    found = []
    for figure in COMPARED_FIGURES:
        if not same_load(measurement, other, figure):
            continue
        spreads = spread_of(measurement, figure), spread_of(other, figure)
        if spreads[0] is None or spreads[1] is None or not spreads[1].mean:
            continue
        runs = spreads[0].runs, spreads[1].runs
        difference = difference_of(measurement, other, figure)
        if difference is None:
            ratio = spreads[0].mean / spreads[1].mean
            found.append(
                FigureDifference(figure, spreads[0].mean, spreads[1].mean, runs, ratio, None, None, "measured once")
            )
        else:
            found.append(FigureDifference(figure, spreads[0].mean, spreads[1].mean, runs, **vars(difference)))
    return found


def same_load(measurement: Measurement, other: Measurement, figure: str) -> bool:
    """Whether a figure of the two was measured at the same load, or hardware, so that a difference is of the models."""
    if figure in POWER_FIGURES:
        return same_power(measurement, other)
    if figure not in LATENCIES:
        return True
    load, _ = LATENCIES[figure]
    points = point_of(measurement, load), point_of(other, load)
    if points[0] is None or points[1] is None:
        return False
    if load == "saturated":
        return points[0].in_flight == points[1].in_flight
    return load == "alone" or same_rate(points[0].rate, points[1].rate)
