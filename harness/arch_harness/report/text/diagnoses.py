"""What was found wrong with results, in the words of every format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arch_harness.report.text.numbers import clean, plural

if TYPE_CHECKING:
    from arch_harness.results.run import Run

_MOST_REMARKS = 4
"""Of a terminal, where the reports say the rest."""


def diagnosis_lines(run: Run) -> list[tuple[str, str]]:
    """Each diagnosis: how bad and what it is, and what was seen with what to do about it."""
    return [
        (f"{one.severity.capitalize()}: {one.rule}", clean(f"{one.finding} {one.advice}"))
        for one in run.diagnoses or ()
    ]


def diagnosis_remarks(run: Run) -> list[str]:
    """What a terminal says of them: the findings of the worst; notes are left to the reports."""
    worse = [one for one in run.diagnoses or () if one.severity != "note"]
    lines = [clean(f"{one.severity.capitalize()}, {one.rule}: {one.finding}") for one in worse[:_MOST_REMARKS]]
    more = len(worse) - len(lines)
    return lines + ([f"{plural(more, 'more finding')} in the report."] if more else [])
