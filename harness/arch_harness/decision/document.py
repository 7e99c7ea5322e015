"""What a comparison and a gate say, as sentences and tables, whatever the format."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from arch_harness.decision.gate import FALSE_ALARMS, WORST_FIRST
from arch_harness.report.text.numbers import UNKNOWN, clean, format_metric, percent, plural, points
from arch_harness.report.text.speed.sections import LOAD_NAMES
from arch_harness.report.text.tables import SCORE_METRICS, Column, Section, Table, columns_of
from arch_harness.results.metric_definitions import METRICS
from arch_harness.results.repeats import CONFIDENCE, LATENCIES, RESOLUTION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arch_harness.decision.compare import FigureDifference, PairComparison, RunComparison, ScoreDifference
    from arch_harness.decision.gate import GateResult


@dataclass(frozen=True)
class DecisionText:
    """A page.

    Attributes:
        title: in a line.
        lead: what it comes to, a sentence each.
        warnings: what must be known before, a line each.
        sections: tables; those that have nothing to show are left out.
    """

    title: str
    lead: list[str]
    warnings: list[str] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)


def comparison_text(comparison: RunComparison) -> DecisionText:
    """What a comparison says."""
    found = [_scores(comparison), _figures(comparison), _embeddings(comparison)]
    return DecisionText(
        clean(f"{comparison.run} against {comparison.baseline}"),
        _counts(comparison),
        [*comparison.warnings, *comparison.problems],
        [section for section in found if section.table.rows],
    )


def _counts(comparison: RunComparison) -> list[str]:
    """How many differences are real; how many are noise or could not be told."""
    lines = []
    scores = [(pair, one) for pair in comparison.pairs for one in pair.scores]
    if scores:
        real = [f"{_pair(pair, one)} {points(one.difference)}" for pair, one in scores if one.verdict == "real"]
        lines.append(_said("score", len(scores), real, "points"))
    figures = [(pair, one) for pair in comparison.pairs for one in pair.figures]
    judged = [(pair, one) for pair, one in figures if one.verdict != "measured once"]
    if judged:
        real = [
            f"{pair.name} {figure_name(one.figure)} × {one.ratio:.2f}" for pair, one in judged if one.verdict == "real"
        ]
        lines.append(_said("figure of speed", len(judged), real, "").replace("figure of speeds", "figures of speed"))
    if len(judged) < len(figures):
        lines.append(
            f"{plural(len(figures) - len(judged), 'ratio')} of speed and latency without a verdict: measured once, "
            "which says nothing of the spread; arch bench --recompute --repeat 3, for both runs, gives an interval."
        )
    return lines


def _said(noun: str, count: int, real: Sequence[str], unit: str) -> str:
    if not real:
        return f"No difference in {plural(count, noun)} is more than noise."
    shown = (
        ", ".join(real[:3]) + (f" {unit}" if unit else "") + (f", and {len(real) - 3} more" if len(real) > 3 else "")
    )
    differ = "differs" if len(real) == 1 else "differ"
    return f"{len(real)} of {plural(count, noun)} really {differ}: {shown}."


def _pair(pair: PairComparison, one: ScoreDifference) -> str:
    return pair.name if len(pair.scores) == 1 else f"{pair.name} ({one.probe})"


def _scores(comparison: RunComparison) -> Section:
    columns = (
        *columns_of("dataset", "model"),
        Column("Change", "points", True),
        Column("95 % interval", "points", True),
        Column("Verdict"),
        Column("Run", "%", True),
        Column("Baseline", "%", True),
        Column("Clips", "", True),
        Column("Metric"),
        *columns_of("probe"),
    )
    found = [
        (
            *_names(pair),
            points(one.difference),
            f"{points(one.low)} to {points(one.high)}",
            one.verdict,
            percent(one.score),
            percent(one.baseline_score),
            f"{one.clips:,}",
            SCORE_METRICS[one.metric],
            one.probe,
        )
        for pair in comparison.pairs
        for one in pair.scores
    ]
    text = (
        "The change is on the test clips that both runs have an embedding of, with the interval of a paired bootstrap "
        "over them: what makes a clip hard for both cancels out. Real: the interval leaves out 0."
    )
    return Section("Scores", text, Table(columns, found))


def _figures(comparison: RunComparison) -> Section:
    columns = (
        *columns_of("dataset", "model"),
        Column("Figure"),
        Column("Ratio", "", True),
        Column(f"{100 * CONFIDENCE:.0f} % interval", "", True),
        Column("Verdict"),
        Column("Run", "", True),
        Column("Baseline", "", True),
        Column("Times measured", "", True),
    )
    found = [(*_names(pair), *_figure_cells(one)) for pair in comparison.pairs for one in pair.figures]
    text = (
        "Ratios of the run to the baseline, with the interval that the repeats allow (Welch's t over logarithms). "
        f"Real: the interval leaves out 1, and the ratio is {100 * RESOLUTION:.0f} % away from it or more. Latencies "
        "are compared only at a load that is the same in both, energies only of the same kinds of hardware. "
        "Higher is better of clips/s, lower of all others."
    )
    return Section("Speed and latency", text, Table(columns, found))


def _figure_cells(one: FigureDifference) -> tuple[str, ...]:
    return (
        figure_name(one.figure),
        f"{one.ratio:.2f}",
        UNKNOWN if one.low is None or one.high is None else f"{one.low:.2f} to {one.high:.2f}",
        one.verdict,
        format_metric(one.figure, one.value),
        format_metric(one.figure, one.baseline_value),
        " and ".join(map(str, one.runs)),
    )


def figure_name(figure: str) -> str:
    """A metric of speed with its load and unit."""
    if figure not in LATENCIES:
        metric = METRICS[figure]
        return metric.header.lower() + (f", {metric.unit}" if metric.unit else "")
    load, percentile = LATENCIES[figure]
    return f"{percentile} {LOAD_NAMES[load]}, ms"


def _embeddings(comparison: RunComparison) -> Section:
    columns = (
        *columns_of("dataset", "model"),
        Column("Clips", "", True),
        Column("Lowest cosine", "", True),
        Column("Mean cosine", "", True),
        Column("Lowest of"),
    )
    found = [
        (
            *_names(pair),
            f"{pair.embeddings.clips:,} of {pair.embeddings.expected:,}",
            f"{pair.embeddings.lowest:.6f}",
            f"{pair.embeddings.mean:.6f}",
            clean(pair.embeddings.lowest_clip),
        )
        for pair in comparison.pairs
        if pair.embeddings is not None
    ]
    text = "Cosine similarity of each clip's two embeddings, from the embedding store; 1 is identical in direction."
    return Section("Embeddings", text, Table(columns, found))


def _names(pair: PairComparison) -> tuple[str, str]:
    model = pair.model if pair.model == pair.baseline_model else f"{pair.model} against {pair.baseline_model}"
    return clean(pair.dataset), clean(model)


def gate_text(result: GateResult) -> DecisionText:
    """What a gate says."""
    columns = (Column("Verdict"), Column("Threshold"), Column("On"), Column("Evidence"))
    checks = sorted(result.checks, key=lambda one: WORST_FIRST.index(one.verdict))
    found = [(one.verdict, one.rule, one.pair, one.evidence) for one in checks]
    many = max(Counter(check.rule for check in result.checks).values(), default=1)
    text = (
        f"Intervals are as wide as {plural(many, 'check')} of a rule together need to fail by chance in "
        f"{100 * FALSE_ALARMS:.0f} of 100 gates. UNSURE: beyond the threshold, but it may be noise. MISSING: not "
        "measured, or not comparable."
    )
    summary = result.summary()
    return DecisionText(
        summary[:1].upper() + summary[1:],
        [clean(f"{result.comparison.run} against {result.comparison.baseline}.")],
        result.comparison.warnings,
        [Section("Checks", text, Table(columns, found))],
    )
