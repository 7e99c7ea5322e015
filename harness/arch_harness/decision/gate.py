"""Whether a run may take the place of a baseline: a verdict for each threshold and pair, with its evidence.

Statistics decide: a rule fails where a change for the worse is real, not where it may be noise. One gate makes many
comparisons, so each is made at a level at which all those of a rule together fail by chance in two of a hundred gates
(Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from arch_common.errors import ArchError, GateError, UsageError
from scipy.stats import t as student_t

from arch_harness.decision.compare import RunFolder, compare_runs
from arch_harness.decision.thresholds import EXACT
from arch_harness.report.text.numbers import clean, number, percent, points
from arch_harness.results.measurement import LoadName
from arch_harness.results.repeats import LATENCIES, RESOLUTION, difference_of, point_of, same_rate, spread_of, values_of

if TYPE_CHECKING:
    from arch_harness.decision.compare import PairComparison, RunComparison, ScoreDifference
    from arch_harness.decision.compatibility import Touched
    from arch_harness.decision.thresholds import LatencyLimit, Thresholds
    from arch_harness.results.run import Result, Unscored

FALSE_ALARMS = 0.02
"""How often all comparisons of a rule together fail where nothing has changed."""

GateVerdict = Literal["PASS", "FAIL", "UNSURE", "MISSING"]
"""PASS: no change for the worse beyond the threshold was found.
FAIL: one was, and it is real.
UNSURE: one was, but it may be noise: the data cannot tell.
MISSING: what would have to be judged was not measured, or cannot be compared.
"""

WORST_FIRST: tuple[GateVerdict, ...] = ("FAIL", "MISSING", "UNSURE", "PASS")


@dataclass(frozen=True)
class GateCheck:
    """A rule on a pair.

    Attributes:
        rule: the threshold as it was asked for.
        pair: the model and dataset, or the dataset.
        evidence: the figures, and what they say.
    """

    rule: str
    pair: str
    verdict: GateVerdict
    evidence: str


@dataclass(frozen=True)
class GateResult:
    """All checks of a gate.

    Attributes:
        comparison: of the two runs, with what differs beside the figures.
        strict: whether UNSURE and MISSING fail too.
    """

    comparison: RunComparison
    checks: list[GateCheck]
    strict: bool = False

    def of(self, verdict: GateVerdict) -> list[GateCheck]:
        """The checks with a verdict."""
        return [check for check in self.checks if check.verdict == verdict]

    @property
    def failed(self) -> list[GateCheck]:
        """The checks for which the gate fails."""
        return [one for one in self.checks if one.verdict == "FAIL" or (self.strict and one.verdict != "PASS")]

    @property
    def passed(self) -> bool:
        """Whether none failed and none could not be made."""
        return not self.failed and not self.of("MISSING")

    def summary(self) -> str:
        """How many checks have which verdict, in one line."""
        counts = {verdict: len(self.of(verdict)) for verdict in WORST_FIRST}
        word = "failed" if self.failed else "passed" if self.passed else "could not be made whole"
        return f"gate {word}: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)

    def enforce(self) -> None:
        """Raise unless the gate has passed.

        Raises:
            GateError: if a check failed.
            ArchError: if none did, but one could not be made.
        """
        if self.failed:
            raise GateError(self.summary())
        if missing := self.of("MISSING"):
            raise ArchError(f"{self.summary()}; {missing[0].pair}: {missing[0].evidence}")


def run_gate(
    ours: RunFolder,
    theirs: RunFolder,
    thresholds: Thresholds,
    renamed: Mapping[str, str] | None = None,
    *,
    models: Sequence[str] = (),
    datasets: Sequence[str] = (),
    strict: bool = False,
    note: Callable[[str], None] = lambda _text: None,
) -> GateResult:
    """Hold a run to thresholds, against a baseline.

    Args:
        ours: the run.
        theirs: the baseline.
        thresholds: what is allowed.
        renamed: models of the run, each with the model of the baseline that it is compared with.
        models: only these of the run; by default all.
        datasets: only these; by default all.
        strict: whether what cannot be told fails too.
        note: told of damaged files in an embedding store.

    Raises:
        UsageError: if the two runs have nothing in common, or a model or dataset is named that is not there.
    """
    renamed = renamed or {}
    _check_names(ours, theirs, models, datasets)
    ours = _only(ours, models, datasets)
    theirs = _only(theirs, [renamed.get(name, name) for name in models], datasets)
    comparison = compare_runs(ours, theirs, renamed, embeddings=thresholds.needs_embeddings, note=note)
    checks = [
        GateCheck(
            "pairs", name, "MISSING", "in the baseline, but not in the run: --model and --dataset narrow the gate"
        )
        for name in comparison.only_in_baseline
    ]
    checks += _drops(thresholds, comparison, ours)
    checks += _speeds(thresholds, comparison, ours, theirs)
    checks += _latencies(thresholds, ours)
    checks += _failures(thresholds, ours)
    checks += _cosines(thresholds, comparison)
    return GateResult(comparison, checks, strict)


def _check_names(ours: RunFolder, theirs: RunFolder, models: Sequence[str], datasets: Sequence[str]) -> None:
    for what, named, known in (
        ("model", models, {one.model for run in (ours.run, theirs.run) for one in run.outcomes}),
        ("dataset", datasets, {one.dataset for run in (ours.run, theirs.run) for one in run.outcomes}),
    ):
        for name in named:
            if name not in known:
                raise UsageError(f"neither run has a {what} {name!r}; they have {', '.join(sorted(known))}")


def _only(one: RunFolder, models: Sequence[str], datasets: Sequence[str]) -> RunFolder:
    def wanted(outcome: Result | Unscored) -> bool:
        return (not models or outcome.model in models) and (not datasets or outcome.dataset in datasets)

    run = one.run
    kept = {"results": list(filter(wanted, run.results)), "unscored": list(filter(wanted, run.unscored))}
    return replace(one, run=run.model_copy(update=kept))


def _drops(thresholds: Thresholds, comparison: RunComparison, ours: RunFolder) -> Iterator[GateCheck]:
    if thresholds.max_drop is None:
        return
    rule = f"max-drop {100 * thresholds.max_drop:g}pt"
    headline = ours.run.settings.probes[0]
    found = [(pair, next((one for one in pair.scores if one.probe == headline), None)) for pair in comparison.pairs]
    level = FALSE_ALARMS / max(1, sum(score is not None for _, score in found))
    for pair, score in found:
        if score is None:
            yield GateCheck(rule, pair.name, "MISSING", _why(pair, comparison, "scores", headline))
        else:
            yield GateCheck(rule, pair.name, *_drop(score, thresholds.max_drop, level))


def _drop(score: ScoreDifference, allowed: float, level: float) -> tuple[GateVerdict, str]:
    """Student's t with the clips that changed: the others tell nothing, and of a few any count may be chance."""
    half = float(student_t.ppf(1 - level, max(1, score.differing - 1))) * score.error
    low, high = score.difference - half, score.difference + half
    evidence = f"{percent(score.score)} % against {percent(score.baseline_score)} %: "
    if not score.differing:
        return "PASS", f"{evidence}all {score.clips:,} test clips are labelled alike"
    evidence += f"{points(score.difference)} points ({points(low)} to {points(high)}) on {score.clips:,} test clips"
    drop = -score.difference
    if drop <= allowed + EXACT:
        open_end = f"; a drop of up to {-100 * low:.1f} is not excluded" if -low > allowed + EXACT else ""
        return "PASS", evidence + open_end
    if high < 0:
        return "FAIL", f"{evidence}: real"
    wanted = math.ceil(float(f"{score.clips * (half / drop) ** 2:.2g}"))
    return "UNSURE", f"{evidence}: may be noise; about {max(wanted, score.clips + 1):,} test clips would tell"


def _speeds(
    thresholds: Thresholds, comparison: RunComparison, ours: RunFolder, theirs: RunFolder
) -> Iterator[GateCheck]:
    if thresholds.min_speed is None:
        return
    rule = f"min-speed {thresholds.min_speed:g}"
    level = FALSE_ALARMS / max(1, len(comparison.pairs))
    for pair in comparison.pairs:
        results = ours.result(pair.model, pair.dataset), theirs.result(pair.baseline_model, pair.dataset)
        yield GateCheck(rule, pair.name, *_speed(pair, comparison, results, thresholds.min_speed, level))


def _speed(
    pair: PairComparison,
    comparison: RunComparison,
    results: tuple[Result | None, Result | None],
    allowed: float,
    level: float,
) -> tuple[GateVerdict, str]:
    mismatches = (*comparison.mismatches, *pair.mismatches)
    reasons = [one.line() for one in mismatches if one.decides or (one.refused and one.touches == "everything")]
    if reasons:
        return "MISSING", f"{reasons[0]}; bench the baseline on this machine in the same way"
    measured = [result.measurement if result else None for result in results]
    first, second = measured
    if first is None or second is None or not (first.clips_per_s and second.clips_per_s):
        where = "the baseline" if first is not None and first.clips_per_s else "the run"
        return "MISSING", f"{where} has no speed: its embeddings came from the store; arch bench --recompute"
    if results[0] is not None and results[0].carried is not None:
        return "MISSING", _TAKEN_OVER
    difference = difference_of(first, second, "clips_per_s", 1 - 2 * level)
    values = [values_of(one, "clips_per_s") for one in (first, second)]
    speeds = " against ".join(number(fmean(found)) for found in values)
    if difference is None:
        once = [where for where, found in zip(("the run", "the baseline"), values, strict=True) if len(found) < 2]
        return "MISSING", f"{speeds} clips/s, measured once in {' and '.join(once)}: {_REPEAT}"
    runs = " and ".join(str(len(found)) for found in values)
    evidence = (
        f"{speeds} clips/s: {difference.ratio:.3f} times ({difference.low:.3f} to {difference.high:.3f}), "
        f"{runs} measurements"
    )
    if difference.ratio >= allowed - EXACT:
        return "PASS", evidence
    if difference.verdict == "real":
        return "FAIL", f"{evidence}: real"
    if difference.high < 1:
        return "UNSURE", f"{evidence}: less than the {100 * RESOLUTION:.0f} % that a machine's slow drifts make"
    return "UNSURE", f"{evidence}: may be noise; more measurements (arch bench --repeat) would tell"


_TAKEN_OVER = "the run measured no speed, but took over that of an earlier one; arch bench --recompute"
_REPEAT = "no interval, no verdict; arch bench --recompute --repeat 3 measures it three times"


def _latencies(thresholds: Thresholds, ours: RunFolder) -> Iterator[GateCheck]:
    level = FALSE_ALARMS / max(1, len(ours.run.results))
    for limit in thresholds.max_p99:
        for result in ours.run.results:
            pair = clean(f"{result.model} on {result.dataset}")
            yield GateCheck(f"max-p99 {limit}", pair, *_latency(result, limit, level))


def _latency(result: Result, limit: LatencyLimit, level: float) -> tuple[GateVerdict, str]:
    if result.measurement is None:
        return "MISSING", "the run has no latency: its embeddings came from the store; arch bench --recompute"
    if result.carried is not None:
        return "MISSING", _TAKEN_OVER
    load: LoadName = LATENCIES[limit.figure][0]
    point = point_of(result.measurement, load)
    if limit.rate is not None and (point is None or not same_rate(point.rate, limit.rate)):
        other = f"measured at {number(point.rate)} clips/s" if point and point.rate else "not measured at a rate"
        return "MISSING", f"{other}: arch bench --rate {limit.rate:g} measures it at that"
    spread = spread_of(result.measurement, limit.figure, 1 - 2 * level)
    if spread is None:
        return "MISSING", "no 99th percentile: fewer than 100 requests at that load"
    if spread.half is None:
        return "MISSING", f"p99 {number(spread.mean)} ms, measured once: {_REPEAT}"
    low, high = max(0.0, spread.mean - spread.half), spread.mean + spread.half
    evidence = f"p99 {number(spread.mean)} ms ({number(low)} to {number(high)}), {spread.runs} measurements"
    if spread.mean <= limit.milliseconds + EXACT:
        return "PASS", evidence
    if low > limit.milliseconds:
        return "FAIL", f"{evidence}: real"
    return "UNSURE", f"{evidence}: may be noise; more measurements (arch bench --repeat) would tell"


def _failures(thresholds: Thresholds, ours: RunFolder) -> Iterator[GateCheck]:
    """By file: one that no model could be given counts once, not once for each model.

    Pairs without a score count too: most of them have none because all their clips failed.
    """
    if thresholds.max_failed is None:
        return
    for dataset in dict.fromkeys(one.dataset for one in ours.run.outcomes):
        outcomes = [one for one in ours.run.outcomes if one.dataset == dataset]
        files = sorted({failure.clip for one in outcomes for failure in one.failures})
        clips = max(one.clips for one in outcomes)
        share = len(files) / clips if clips else 0.0
        some = ", ".join(map(clean, files[:3])) + (", …" if len(files) > 3 else "")
        evidence = f"{len(files):,} of {clips:,} files failed ({100 * share:.3g} %)" + (f": {some}" if files else "")
        verdict: GateVerdict = "PASS" if share <= thresholds.max_failed + EXACT else "FAIL"
        yield GateCheck(f"max-failed {100 * thresholds.max_failed:g}%", clean(dataset), verdict, evidence)


def _cosines(thresholds: Thresholds, comparison: RunComparison) -> Iterator[GateCheck]:
    if thresholds.min_cosine is None:
        return
    rule = f"min-cosine {thresholds.min_cosine:g}"
    for pair in comparison.pairs:
        found = pair.embeddings
        if found is None:
            yield GateCheck(rule, pair.name, "MISSING", _why(pair, comparison, "everything", "embeddings"))
            continue
        evidence = (
            f"lowest cosine {found.lowest:.6f} ({clean(found.lowest_clip)}), mean {found.mean:.6f}, of {found.clips:,} "
            f"of {found.expected:,} clips"
        )
        if found.lowest < thresholds.min_cosine:
            yield GateCheck(rule, pair.name, "FAIL", evidence)
        elif found.clips < found.expected:
            yield GateCheck(rule, pair.name, "MISSING", f"{evidence}: the others are not in both stores")
        else:
            yield GateCheck(rule, pair.name, "PASS", evidence)


def _why(pair: PairComparison, comparison: RunComparison, touched: Touched, what: str) -> str:
    """Why a pair has no figures of a kind: a probe by its name, or `embeddings`."""
    mismatches = (*comparison.mismatches, *pair.mismatches)
    refused = [one.line() for one in mismatches if one.refused and one.touches in (touched, "everything")]
    problems = [pair.problems[name] for name in (what, "scores") if name in pair.problems]
    return next(iter([*refused, *problems]), f"the baseline has no {what}")
