"""Every rule over a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, get_args

from arch_harness.diagnosis import leaks, moved, poor, similar
from arch_harness.results.checks.diagnoses import Diagnosis, Severity

if TYPE_CHECKING:
    from arch_harness.results.run import Run

RULES: tuple[Callable[[Run], Iterator[Diagnosis]], ...] = (
    poor.poor_everywhere,
    poor.collapsed_embeddings,
    leaks.copies,
    leaks.near_copies,
    leaks.shared_sources,
    similar.out_of_line,
    moved.batch_mates,
    moved.padding,
    moved.precision,
)
"""Each looks at the whole run, at what its results say and at what was looked at beside them."""


def diagnose(run: Run) -> list[Diagnosis]:
    """What is wrong with a run's results, the worst first; no file is read."""
    severities = get_args(Severity)
    found = [one for rule in RULES for one in rule(run)]
    return sorted(found, key=lambda one: severities.index(one.severity))
