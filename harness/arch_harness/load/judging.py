"""How a run of LoadGen is judged: its figures, and which rules it breaks."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Literal

import numpy as np

from arch_harness.load.logs import merged, percentile
from arch_harness.load.report import EVERY_CLIP, IN_TIME, Broken, LoadRun

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arch_harness.load.asked import LoadRequest
    from arch_harness.load.logs import Log, Part
    from arch_harness.results.measurement import ServerTimes

LATE_SHARE = 0.1
"""Of the promised time, by which LoadGen's own thread may be late."""


def judged(
    parts: Sequence[Part],
    times: ServerTimes | None,
    rate: float | None,
    purpose: Literal["curve", "search", "measured"],
    name: str,
    asked: LoadRequest,
) -> LoadRun:
    """One run, of what each process sent.

    Args:
        parts: of the run.
        times: the server's.
        rate: clips/s that were asked for; None where LoadGen sends on answers.
        purpose: of the run.
        name: of the folder of its logs.
        asked: what holds it to a promise.
    """
    slo = asked.slo
    samples, failed = merged(parts)
    reasons = dict(sum((Counter(part.reasons) for part in parts), Counter[str]()))
    latencies = samples.latencies(failed)
    late_ms = percentile(np.sort(samples.issued), 0.99)
    over = 0 if slo is None else int((latencies > slo.milliseconds).sum())
    in_time = None if slo is None else int(((samples.done <= slo.milliseconds) & ~failed).sum())
    kept = None if slo is None else slo.kept(over, len(latencies))
    broken = _broken(parts, asked)
    if rate is None and kept is False:  # in the streams LoadGen knows of no limit
        advice = f"{over:,} of {len(latencies):,} queries were late: promise less, or answer faster"
        broken.append(Broken(rule=str(slo), advice=advice))
    if failed.any():
        reason = max(reasons, key=lambda one: reasons[one])
        broken.append(Broken(rule=EVERY_CLIP, advice=f"{int(failed.sum())} failed, most with: {reason}"))
    if rate is not None and slo is not None and late_ms > LATE_SHARE * slo.milliseconds:
        advice = (
            f"it was {late_ms:.0f} ms late (p99): run it on another machine than the server, or with less beside it"
        )
        broken.append(Broken(rule=IN_TIME, advice=advice))
    firsts = [part.first for part in parts]
    log = parts[0].log
    return LoadRun(
        purpose=purpose,
        rate=rate,
        queries=len(latencies),
        clips=len(samples),
        failed=int(failed.sum()),
        reasons=reasons,
        seconds=samples.seconds,
        clips_per_s=int((~failed).sum()) / samples.seconds,
        goodput=None if in_time is None else in_time / samples.seconds,
        over=over,
        **{f"p{q}_ms": _finite(percentile(latencies, q / 100)) for q in (50, 90, 95, 99)},
        judged_ms=_finite(percentile(latencies, asked.share)),
        late_ms=max(0.0, late_ms),
        kept=kept,
        valid=all(part.log.values["result_validity"] == "VALID" for part in parts) and not broken,
        broken=broken,
        requested=_plain(log.settings("requested")),
        effective=_plain(log.settings("effective")),
        server=times,
        log=name,
        parts=len(parts),
        spread_ms=1e3 * (max(firsts) - min(firsts)),
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _plain(settings: dict[str, object]) -> dict[str, str | int | float | bool | None]:
    return {name: value for name, value in settings.items() if isinstance(value, str | int | float | bool)}


def _broken(parts: Sequence[Part], asked: LoadRequest) -> list[Broken]:
    """The rules of LoadGen that a run breaks, each with what to do; of several parts those that any breaks."""
    found: dict[str, list[str]] = {}
    for part in parts:
        for rule, advice in _broken_rules(part.log, len(np.unique(part.samples.query)), asked).items():
            found.setdefault(rule, []).append(advice)
    broken = []
    for rule, several in found.items():
        # Of numbers that are wanted, the largest is enough for all.
        most = max(several, key=lambda words: max(map(int, re.findall(r"\d+", words)), default=0))
        where = f" (in {len(several)} of {len(parts)} processes)" if len(parts) > 1 else ""
        broken.append(Broken(rule=rule, advice=most + where))
    return broken


def _broken_rules(log: Log, queries: int, asked: LoadRequest) -> dict[str, str]:
    found = {}
    values, effective = log.values, log.settings("effective")
    queries = values.get("result_query_count", queries)
    if values.get("result_perf_constraints_met") is False:
        found[f"{asked.slo}"] = "send fewer clips a second, or promise less"
    if values.get("result_min_duration_met") is False:
        wanted = effective.get("min_duration_ms", 0) / 1e3
        advice = f"it ended before {wanted:g} s: too many clips waited, or --min-queries asks for too few of them"
        found["least duration"] = advice
    if values.get("result_min_queries_met") is False:
        wanted = effective.get("min_query_count", 0)
        found["least queries"] = f"{queries} of {wanted}: run longer, with --min-duration"
    if values.get("early_stopping_met") is False:
        found["early stopping"] = _early(str(values.get("early_stopping_result", "")), queries)
    for error in log.errors:
        found.setdefault("no error of LoadGen", error)
    if values["result_validity"] != "VALID" and not found:
        found["LoadGen's judgement"] = str(values.get("result_invalid_reason", ""))
    return found


def _early(words: str, queries: int) -> str:
    """What to do, of LoadGen's words on how many queries it takes to be 99 % sure."""
    more = re.search(r"at least (\d+) more queries", words)
    least = re.search(r"at least (\d+) queries for early stopping", words)
    if more is None and least is None:
        return " ".join(words.split())
    needed = queries + int(more[1]) if more is not None else int(least[1])  # type: ignore[index]
    return f"{queries} queries are too few to be 99 % sure: --min-queries {needed} is enough if none more is late"
