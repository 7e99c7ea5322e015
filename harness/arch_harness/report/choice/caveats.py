"""The warnings that change a decision, the gravest first: one rule a warning, each grouped over all it touches."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from arch_harness.report.choice.choose import at_chance
from arch_harness.report.text.diagnoses import diagnosis_remarks
from arch_harness.report.text.numbers import clean, percent, plural, shorten
from arch_harness.report.text.remarks import (
    MAX_REASON,
    carried_lines,
    incomplete_lines,
    partial_lines,
    unscaled_lines,
)
from arch_harness.report.text.tables import MARK
from arch_harness.results.repeats import runs_of, stalls_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from arch_harness.report.choice.choose import Choice
    from arch_harness.report.choice.estimates import ScoreChange
    from arch_harness.results.run import Result

_MOST_NAMES = 3


def caveats(choice: Choice) -> list[str]:
    """What a reader must know before going by the choice, a sentence each; whatever the format."""
    return [line for rule in RULES for line in rule(choice)]


def named(names: Iterable[str]) -> str:
    """Names in a sentence, the first few of them."""
    found = [clean(name) for name in dict.fromkeys(names)]
    if len(found) > _MOST_NAMES + 1:
        found = [*found[:_MOST_NAMES], f"{len(found) - _MOST_NAMES} more"]
    return " and ".join([", ".join(found[:-1]), found[-1]] if len(found) > 1 else found)


def _listed(found: Sequence[str]) -> str:
    more = [f"and in {plural(len(found) - _MOST_NAMES, 'more dataset')}"] if len(found) > _MOST_NAMES else []
    return "; ".join([*found[:_MOST_NAMES], *more])


def _partial(choice: Choice) -> list[str]:
    return partial_lines(choice.scores.run)


def _carried(choice: Choice) -> list[str]:
    return carried_lines(choice.scores.run)


def _diagnoses(choice: Choice) -> list[str]:
    return diagnosis_remarks(choice.scores.run)


def _unscored(choice: Choice) -> list[str]:
    run = choice.scores.run
    lines = []
    by_dataset = defaultdict(list)
    for one in run.unscored:
        by_dataset[one.dataset].append(one)
    for dataset, found in by_dataset.items():
        models = named(one.model for one in found)
        lines.append(f"{models} without a score on {clean(dataset)}: {shorten(clean(found[0].reason), MAX_REASON)}.")
    left = [row.name for row in choice.rows if not row.is_complete]
    if left and choice.best is not None:
        lines.append(f"{named(left)} scored on some of the datasets only, and left out of the choice.")
    return lines


def _chance(choice: Choice) -> list[str]:
    found: dict[str, list[str]] = defaultdict(list)
    for row in choice.rows:
        for dataset in at_chance(row):
            found[dataset].append(row.name)
    lines = []
    for dataset, models in found.items():
        there = [row for row in choice.rows if dataset in row.results]
        every = len(models) == len(there)
        who = ("No model" if len(there) > 1 else clean(models[0])) if every else named(models)
        verb = "does" if every and len(there) > 1 else ("do not do" if len(models) > 1 else "does not do")
        level = percent(there[0].results[dataset].chance)
        lines.append(f"{who} {verb} better than chance ({level} %) on {clean(dataset)}.")
    return lines


def _noise(choice: Choice) -> list[str]:
    """What so many test clips cannot tell: the choice from the best or, where it is the best, from those near it."""
    deploy, scores = choice.deploy, choice.scores
    if deploy is None or len([row for row in choice.rows if row.is_complete]) < 2:
        return []
    others = [row.name for row in choice.rows if row.is_complete and row is not deploy]
    changes = [change for name in others if (change := scores.change(deploy.name, name)) is not None]
    unknown = [change.other for change in changes if change.is_real is None]
    if unknown:
        return [
            f"Whether {clean(deploy.name)} differs by more than noise is not known of {named(unknown)}: they were not "
            "compared clip by clip."
        ]
    alike = [change for change in changes if change.is_real is False]
    if not alike:
        return []
    nearest = _of(alike, choice.best.name) if choice.best not in (None, deploy) else None
    shown = nearest or max(alike, key=lambda change: abs(change.difference))
    return [_noise_line(deploy.name, shown, len(alike), len(changes))]


def _of(changes: Sequence[ScoreChange], model: str) -> ScoreChange | None:
    return next((change for change in changes if change.other == model), None)


def _noise_line(model: str, change: ScoreChange, alike: int, compared: int) -> str:
    clips, apart = plural(change.clips or 0, "test clip"), f"{100 * abs(change.difference):.1f}"
    line = f"{clips} cannot tell {clean(model)} and {clean(change.other)} apart, which differ by {apart} points"
    if change.clips_needed:
        line += f"; about {change.clips_needed:,} could"
    line += f". Differences below about {100 * (change.noise or 0):.1f} points are noise here"
    if alike > 1:
        line += f", as those to {alike} of the {compared} other models are"
    return line + "."


def _failures(choice: Choice) -> list[str]:
    """By file, however many models failed it."""
    run = choice.scores.run
    found: list[str] = []
    first: list[str] = []
    for dataset in run.datasets:
        outcomes = [one for one in run.outcomes if one.dataset == dataset.id and one.failed]
        files = {failure.clip for one in outcomes for failure in one.failures}
        if files:
            of = "" if len(run.models) == 1 else f", with {len(outcomes)} of {plural(len(run.models), 'model')}"
            found.append(f"{len(files):,} of {dataset.clips:,} in {clean(dataset.id)}{of}")
            first = first or sorted(files)
    if not found:
        return []
    names = named(first)
    return [f"Files that gave no embedding and count in no score: {_listed(found)}. First of them: {names}."]


def _unscaled(choice: Choice) -> list[str]:
    """Of the first result; the others mostly have the same files."""
    lines = unscaled_lines(choice.scores.run)
    more = f" So do clips of {plural(len(lines) - 1, 'more result')}." if len(lines) > 1 else ""
    return [lines[0] + more] if lines else []


def _incomplete(choice: Choice) -> list[str]:
    """All in one sentence where there are many."""
    lines = [line.removeprefix(f"{MARK} ") for line in incomplete_lines(choice.scores.run)]
    if len(lines) <= _MOST_NAMES:
        return lines
    names = named(one.id for one in choice.scores.run.datasets if one.incomplete)
    return [f"{names} are incomplete: their scores are not comparable with published ones."]


def _otherwise(choice: Choice) -> list[str]:
    lines = []
    for row in choice.rows:
        if row.facts.runs_otherwise:
            lines.append(
                f"{clean(row.name)} was exported in {clean(row.facts.precision)} and ran in "
                f"{clean(row.facts.executed_by)}."
            )
        if row.facts.parity_missed:
            lines.append(
                f"{clean(row.name)} differs from its checkpoint by more than {clean(row.facts.precision)} may."
            )
    return lines


def _from_store(choice: Choice) -> list[str]:
    found = [row.name for row in choice.rows if row.clips_per_s is None]
    if not found:
        return []
    who = "No model's speed was measured" if len(found) == len(choice.rows) else f"No speed of {named(found)}"
    kept = any(result.carried for row in choice.rows for result in row.results.values())
    why = "came from the store, where no speed on this hardware is kept" if kept else "came from the store"
    return [f"{who}: embeddings {why}. arch bench --recompute measures it."]


def _stalls(choice: Choice) -> list[str]:
    found = _measured(choice, lambda result: bool(result.measurement and stalls_of(result.measurement)))
    count = sum(stalls_of(result.measurement) for result in found if result.measurement)
    if not found:
        return []
    return [
        f"The server stalled: {plural(count, 'request')} took half a second more than the others, with "
        f"{named(result.model for result in found)}."
    ]


def _unsteady(choice: Choice) -> list[str]:
    lines = []
    total = len(_measured(choice, lambda _: True))
    for state, words in (
        ("not steady", "The throughput was not steady"),
        ("too short", "There were too few clips for a steady throughput"),
    ):

        def is_so(result: Result, state: str = state) -> bool:
            return result.measurement is not None and runs_of(result.measurement)[0].steadiness == state

        if found := _measured(choice, is_so):
            lines.append(
                f"{words} in {len(found)} of {plural(total, 'measurement')}: "
                f"{named(result.model for result in found)}; such a speed is rough."
            )
    return lines


def _measured(choice: Choice, wanted: Callable[[Result], bool]) -> list[Result]:
    return [one for one in choice.scores.run.results if one.measurement is not None and wanted(one)]


RULES: tuple[Callable[[Choice], list[str]], ...] = (
    _partial,
    _diagnoses,
    _chance,
    _unscored,
    _noise,
    _otherwise,
    _from_store,
    _carried,
    _stalls,
    _failures,
    _unscaled,
    _incomplete,
    _unsteady,
)
"""In the order in which their sentences stand."""
