"""What must not be missed beside scores, in every format: data of which a part is missing, pairs without a score."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arch_harness.report.text.diagnoses import diagnosis_remarks
from arch_harness.report.text.numbers import clean, plural, shorten, timestamp
from arch_harness.report.text.tables import CARRIED_MARK, MARK
from arch_harness.results.repeats import is_of_this_hardware

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from arch_harness.results.run import DatasetFacts, Machine, Result, Run, ServerFacts

MAX_REASON = 300
"""Characters of a reason that are shown; `results.json` holds all."""

_MOST_PAIRS = 4


def partial_lines(run: Run) -> list[str]:
    """A sentence on a run that was interrupted, or still goes on: which pairs are missing."""
    if not run.partial:
        return []
    if not run.missing:
        return ["Not all that was asked for is done: the run was interrupted, and the same command completes it."]
    names = _some([f"{clean(one.dataset)} × {clean(one.model)}" for one in run.missing])
    done = len(run.outcomes)
    return [
        f"Not all that was asked for is done: {plural(len(run.missing), 'pair')} of {done + len(run.missing):,} "
        f"{'is' if len(run.missing) == 1 else 'are'} missing ({names}). The run was interrupted, and the same command "
        "completes it."
    ]


def carried_lines(run: Run) -> list[str]:
    """A sentence for each place whose speeds stand in the run although it did not measure them; explains the mark."""
    places: dict[str, list[tuple[Result, datetime]]] = {}
    for one in run.results:
        if one.carried is not None:
            place = _place(one.carried.machine, one.carried.servers)
            places.setdefault(place, []).append((one, one.carried.started))
    return [_carried_line(place, is_of_this_hardware(run, found[0][0]), found) for place, found in places.items()]


def _carried_line(place: str, here: bool, found: Sequence[tuple[Result, datetime]]) -> str:
    names = _some([f"{clean(one.dataset)} × {clean(one.model)}" for one, _ in found])
    first, last = (timestamp(choose(started for _, started in found)) for choose in (min, max))
    return (
        f"{CARRIED_MARK} not measured in this run, which took the embeddings from the store, but when they were "
        f"computed, {first if first == last else f'{first} to {last}'}, on {'this' if here else 'OTHER'} hardware "
        f"({place}): the speed of {names}."
    )


def _place(machine: Machine, servers: Sequence[ServerFacts]) -> str:
    """What a speed depends on of the place where it was measured."""
    names = sorted(
        {
            f"{clean(one.name)} {clean(one.version)}{'' if one.same_machine else f' at {clean(one.address)}'}"
            for one in servers
        }
    )
    parts = [f"{clean(machine.cpu)}, {plural(machine.cores, 'core')}", *map(clean, machine.gpus), *names]
    return ", ".join(parts)


def _some(names: Sequence[str]) -> str:
    shown = list(names[:_MOST_PAIRS])
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")


def incomplete_of(run: Run) -> frozenset[str]:
    """The datasets of which clips or classes are missing; their scores bear a mark."""
    return frozenset(dataset.id for dataset in run.datasets if dataset.incomplete)


def incomplete_lines(run: Run) -> list[str]:
    """A sentence for each dataset of which clips or classes are missing, that explains the mark."""
    return [
        f"{MARK} {clean(dataset.id)} is incomplete: {_used(dataset)} of the official release. Its scores are not "
        "comparable with published ones."
        for dataset in run.datasets
        if dataset.incomplete
    ]


def _used(dataset: DatasetFacts) -> str:
    counts = (
        (dataset.clips, dataset.clips_official, "clips"),
        (dataset.classes_used, dataset.classes_official, "classes"),
    )
    return " and ".join(f"{here:,} of the {there:,} {what}" for here, there, what in counts if there is not None)


def unscored_lines(run: Run) -> list[str]:
    """A sentence for each pair without a score, the first few of them."""
    lines = [
        f"{clean(one.dataset)} × {clean(one.model)} has no score: {shorten(clean(one.reason), MAX_REASON)}."
        for one in run.unscored[:_MOST_PAIRS]
    ]
    more = len(run.unscored) - len(lines)
    return lines + ([f"{plural(more, 'more pair')} without a score, see results.json."] if more else [])


def unscaled_lines(run: Run) -> list[str]:
    """A sentence for each result whose clips go far beyond full scale."""
    return [
        f"{clean(one.dataset)} × {clean(one.model)}: {plural(one.measurement.beyond_full_scale, 'clip')} of "
        f"{one.measurement.clips:,} hold samples far beyond full scale: the files were never scaled, and were sent as "
        "they are. arch data verify names them."
        for one in run.results
        if one.measurement is not None and one.measurement.beyond_full_scale
    ]


def failures_line(run: Run) -> str:
    """How many clips failed, in one sentence."""
    if not run.failed:
        return "No clip failed."
    where = [f"{clean(one.dataset)} × {clean(one.model)}: {one.failed:,}" for one in run.outcomes if one.failed]
    shown = "; ".join(where[:4]) + (f"; and {plural(len(where) - 4, 'more result')}" if len(where) > 4 else "")
    return f"{plural(run.failed, 'failure')}: clips that gave no embedding and take part in no score ({shown})."


def remarks(run: Run) -> list[str]:
    """What a reader must know of the scores in a table."""
    return [
        *diagnosis_remarks(run),
        *partial_lines(run),
        *incomplete_lines(run),
        *unscaled_lines(run),
        *unscored_lines(run),
    ]
