"""What is said of a reproduction, whatever the format: one sentence on top, tables, and numbered reasons below them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from arch_harness.report.text.numbers import UNKNOWN, clean, optional_percent, percent, plural, points, timestamp
from arch_harness.report.text.tables import SCORE_METRICS, Column, Table

if TYPE_CHECKING:
    from arch_harness.published.reproduction import BesidePublished, PairBesidePublished, Reproduction

_COLUMNS = (
    *(Column("Dataset"), Column("Model"), Column("Metric"), Column("Ours", "%", True)),
    *(Column("Interval", "95 %", True), Column("Published", "%", True), Column("Apart", "points", True)),
    Column("Verdict"),
)
_PAIR_COLUMNS = (
    *(Column("Dataset"), Column("Models"), Column("Ours", "points", True), Column("Interval", "95 %", True)),
    *(Column("Published", "points", True), Column("Verdict")),
)
LIMITS = (
    "Apart is our score less the published one, in points; the numbers in square brackets are those of reasons below "
    "the table.",
    "The interval is over test clips: it says what other test clips of the same kind would change in our score. The "
    "published scores are without intervals, and say neither of which revision of a checkpoint nor of which seeds they "
    "are.",
    "A difference of what is no reproduction says nothing of the published score.",
)
"""How the tables are to be read."""


@dataclass(frozen=True)
class ReproductionText:
    """The text, in the order in which it is shown.

    Attributes:
        summary: one sentence.
        results: ours beside the published scores.
        reasons: what the numbers in square brackets behind a verdict stand for, from [1] on.
        pairs: which of two models is ahead; None where that was not asked, or nothing is there to tell.
        left_out: what was asked for and is not there.
        notes: how to read it all, and where the published scores are from.
    """

    title: str
    date: str
    summary: str
    results: Table
    reasons: list[str]
    pairs: Table | None
    left_out: list[str]
    notes: list[str]


def build_text(found: Reproduction) -> ReproductionText:
    """The text of a reproduction, the same in every format."""
    reasons = list(dict.fromkeys(reason for one in found.results for reason in (*one.obstacles, *one.caveats)))
    revisions = {one.model: one.revision for one in found.results}
    exported = "; ".join(
        f"{clean(model)} of {clean(revision).removeprefix('sha256:')[:12]}" for model, revision in revisions.items()
    )
    return ReproductionText(
        title=clean(found.title),
        date=timestamp(found.created),
        summary=_summary(found),
        results=Table(_COLUMNS, [_row(one, reasons) for one in found.results]),
        reasons=[clean(reason) for reason in reasons],
        pairs=Table(_PAIR_COLUMNS, [_pair_row(one) for one in found.pairs]) if found.pairs else None,
        left_out=[clean(line) for line in found.left_out],
        notes=[
            *LIMITS,
            *([f"Exported from the revisions: {exported}."] if exported else []),
            f"The published scores are those of {found.source}.",
        ],
    )


def _summary(found: Reproduction) -> str:
    if not found.results:
        return "Nothing was run."
    on = plural(len(found.results), "result")
    if not found.comparable:
        return f"None of {on} can be set against a published score; the table says why."
    rest = len(found.results) - found.comparable
    more = f"; {rest} of {on} cannot be set against one" if rest else ""
    return (
        f"The published score is within our interval in {found.within} of the {found.comparable} that can be "
        f"compared{more}."
    )


def _row(one: BesidePublished, reasons: list[str]) -> tuple[str, ...]:
    marks = ",".join(str(place) for place, reason in enumerate(reasons, 1) if reason in (*one.obstacles, *one.caveats))
    return (
        clean(one.dataset),
        clean(one.model),
        SCORE_METRICS[one.metric],
        optional_percent(one.score),
        UNKNOWN if one.low is None or one.high is None else f"{percent(one.low)} to {percent(one.high)}",
        optional_percent(one.published),
        UNKNOWN if one.difference is None else points(one.difference),
        f"{one.verdict} [{marks}]" if marks else one.verdict,
    )


def _pair_row(one: PairBesidePublished) -> tuple[str, ...]:
    return (
        clean(one.dataset),
        f"{clean(one.model)} less {clean(one.other)}",
        UNKNOWN if one.difference is None else points(one.difference),
        UNKNOWN if one.low is None or one.high is None else f"{points(one.low)} to {points(one.high)}",
        UNKNOWN if one.published is None else points(one.published),
        clean(one.verdict),
    )
