"""The winner, the Pareto front, and what to say where nothing fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from arch_harness.decision.thresholds import EXACT
from arch_harness.load.asked import Slo
from arch_harness.report.text.numbers import number, percent
from arch_harness.tuning.halving import RUNGS, Speed, is_usable
from arch_harness.tuning.results import FormScore
from arch_harness.tuning.space import Configuration, Form

NO_MEMORY = "--max-memory cannot be kept: this server does not tell what memory its models take"


def loses_more(loss: float, allowed: float) -> bool:
    """Whether a loss, a share as `allowed`, is more than that by more than rounding: 0.90 less 0.89 is above 0.01."""
    return loss > allowed + EXACT


def finished(found: Mapping[Configuration, Speed], fits: Callable[[Speed], bool]) -> list[Configuration]:
    """Those that were measured to the end and may be chosen, the fastest first."""
    whole = [one for one, speed in found.items() if speed.rung == len(RUNGS) - 1 and is_usable(speed, fits)]
    return sorted(whole, key=lambda one: found[one].rate, reverse=True)


def front_of(
    ranked: Sequence[Configuration], found: Mapping[Configuration, Speed], score: Callable[[Form], float]
) -> list[Configuration]:
    """Of `finished` ones those that no other beats in one of score and rate without losing in the other."""
    return [
        one
        for one in ranked
        if not any(
            found[other].rate >= found[one].rate
            and score(other.form) >= score(one.form)
            and (found[other].rate, score(other.form)) != (found[one].rate, score(one.form))
            for other in ranked
        )
    ]


def nothing_lossless(forms: Sequence[FormScore], max_loss: float) -> str:
    """What to say where every form that was to be tried loses too much."""
    known = [one for one in forms if one.loss is not None and loses_more(one.loss, max_loss)]
    if not known:
        return "no form of the encoder could be scored: " + "; ".join(f"{one.model}: {one.reason}" for one in forms)
    nearest = min(known, key=lambda one: one.loss or 0.0)
    return (
        f"no form keeps --max-loss {_points(max_loss)} pt: the nearest is {nearest.model}, which loses "
        f"{_points(nearest.loss or 0.0)} points ({_points(nearest.loss_low or 0.0)} to "
        f"{_points(nearest.loss_high or 0.0)})"
    )


def nothing_fits(found: Mapping[Configuration, Speed], slo: Slo, max_memory_mib: float | None) -> str:
    """What to say where no configuration may be chosen: which constraint it is, what comes nearest, what has failed."""
    faulty = [(one.key, speed.fault) for one, speed in found.items() if speed.fault]
    more = f", and {len(faulty) - 1} more" if len(faulty) > 1 else ""
    failed = f"{faulty[0][0]}{more}: {faulty[0][1]}" if faulty else ""
    # What has failed after its first runs has kept the promise in them, perhaps: it is no reason.
    ran = {one: speed for one, speed in found.items() if speed.runs and not speed.fault}
    if not ran:
        return f"no configuration could be measured; {failed}"
    beside_it = f"; not measured: {failed}" if failed else ""
    small = {one: speed for one, speed in ran.items() if keeps_memory(speed.memory_mib, max_memory_mib)}
    if not small:
        one = min(ran, key=lambda one: ran[one].memory_mib or 0)
        return (
            f"no configuration keeps --max-memory {number(max_memory_mib or 0)} MiB: the smallest is {one.key} with "
            f"{number(ran[one].memory_mib or 0)} MiB{beside_it}"
        )
    nearest = max(small, key=lambda one: small[one].rank)
    told = small[nearest].nearest_ms
    lowest = min(run.rate for run in small[nearest].runs)
    what = "no answer in time" if told is None else f"{slo.name} of {number(told)} ms"
    beside = "" if max_memory_mib is None or len(small) == len(ran) else f" within {number(max_memory_mib)} MiB"
    return (
        f"no configuration{beside} keeps {slo}, not even at {number(lowest)} clips/s: the nearest is {nearest.key} "
        f"with {what}{beside_it}"
    )


def keeps_memory(memory_mib: float | None, max_memory_mib: float | None) -> bool:
    """Whether memory, as far as it was told, is no more than is allowed; None allows any."""
    return max_memory_mib is None or memory_mib is None or memory_mib <= max_memory_mib


def _points(share: float) -> str:
    return percent(share)
