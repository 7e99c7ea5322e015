"""The choice in words: the model to deploy and its price, the alternatives, the rule; and the one table of models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arch_harness.report.choice.choose import TOLERANCE
from arch_harness.report.text.numbers import UNKNOWN, clean, format_metric, number, percent, plural, points
from arch_harness.report.text.tables import (
    CARRIED_MARK,
    MARK,
    NOT_TOLD,
    Column,
    Meaning,
    Table,
    columns_of,
    meanings_of,
)
from arch_harness.results.metric_definitions import METRICS
from arch_harness.results.price import PRICES
from arch_harness.results.repeats import mean_of, point_of

if TYPE_CHECKING:
    from arch_harness.report.choice.choose import Choice
    from arch_harness.report.choice.estimates import Estimate, ScoreChange
    from arch_harness.report.choice.summary import ModelSummary

STAR = "★"
"""Stands before a model on the front."""

RULE = (
    f"Of the models whose mean score is at most {100 * TOLERANCE:g} point below the best, the fastest is the one "
    "to deploy; speeds within 5 % of each other count as equal. Only models with a score on every dataset count. "
    "Points given up count whether or not they are more than noise."
)
"""The rule of `choose`, for the reader."""


def headline(choice: Choice) -> str:
    """One sentence: the model to deploy and at what price, or why there is none."""
    one = choice.deploy
    if one is None:
        return {
            "no results": "No model to deploy: the run has no results.",
            "not comparable": "No model to deploy: no model has a score on every dataset, so their means are of "
            "different data.",
            "chance": "No model to deploy: none does better than chance.",
            None: "",
        }[choice.why_not]
    name = clean(one.name)
    if one.times_baseline is not None and one.change is not None and one.baseline is not None and one.clips_per_s:
        before = choice.row(one.baseline).clips_per_s
        figures = f"{number(one.clips_per_s)} against {number(before)} clips/s" if before else ""
        return (
            f"Deploy {name} ({_score(one.score)}): {_times(one.times_baseline)} the speed of its fp32 "
            f"{clean(one.baseline)} ({figures}), and {_price(one.change)}."
        )
    if choice.given_up is not None and choice.times_best is not None and choice.best is not None:
        return (
            f"Deploy {name} ({_score(one.score)}): {_times(choice.times_best)} the speed of the best-scoring "
            f"{clean(choice.best.name)} "
            f"({number(one.clips_per_s or 0)} against {number(choice.best.clips_per_s or 0)} clips/s), "
            f"and {_price(choice.given_up)}."
        )
    speed = f" at {number(one.clips_per_s)} clips/s" if one.clips_per_s else ", with its speed not measured"
    score = f"mean score {_score(one.score)}"
    if len(choice.rows) == 1:
        return f"{name} is the only model: {score}{speed}."
    if choice.best is not one:
        return f"Deploy {name}: {score}{speed}; {_price(choice.given_up)}." if choice.given_up else ""
    if choice.fastest is one:
        others = all(row.clips_per_s for row in choice.rows)
        fastest = "is the fastest" if others else "is the fastest of those measured"
        return f"Deploy {name}: it has the highest score and {fastest}, {score}{speed}."
    return (
        f"Deploy {name}: the highest {score}{speed}, and no model that is clearly faster comes within "
        f"{100 * TOLERANCE:g} point of it."
    )


def details(choice: Choice) -> list[str]:
    """More sentences on the model to deploy: against the best, latency at a load, memory, size."""
    one, best = choice.deploy, choice.best
    if one is None or best is None:
        return []
    lines = []
    if choice.given_up is not None and best.name != one.baseline and one.baseline is not None:
        times = f", at {_times(choice.times_best)} its speed" if choice.times_best else ""
        lines.append(
            f"Against the best-scoring {clean(best.name)} ({_score(best.score)}): {_price(choice.given_up)}{times}."
        )
    baseline = choice.row(one.baseline) if one.baseline is not None else None
    if latency := _latency(choice, one, baseline):
        lines.append(f"{latency}.")
    if costs := _costs(one, baseline):
        lines.append(f"It takes {', '.join(costs)}.")
    if energy := _energy(choice, one, baseline):
        lines.append(energy)
    if paid := price_line(choice, one):
        lines.append(paid)
    if one.facts.executed_by:
        lines.append(f"It ran in {clean(one.facts.executed_by)}.")
    return lines


def alternatives(choice: Choice) -> list[tuple[str, str]]:
    """What to take if something else counts: (condition, sentence)."""
    one, best, fastest = choice.deploy, choice.best, choice.fastest
    if best is None or (len(choice.rows) == 1 and one is not None):
        return []
    found = []
    for condition, row in (("If accuracy is all", best), ("If speed is all", fastest)):
        if row is None:
            continue
        if row is one:
            found.append((condition, f"{clean(row.name)} as well."))
            continue
        change = choice.scores.change(row.name, one.name) if one else None
        ratio = row.clips_per_s / one.clips_per_s if one and row.clips_per_s and one.clips_per_s else None
        beside = [_price(change)] if change else []
        beside += [f"{_times(ratio)} its speed"] if ratio else []
        speed = f" at {number(row.clips_per_s)} clips/s" if row.clips_per_s else ""
        compared = f"; against {clean(one.name)} {', '.join(beside)}" if one and beside else ""
        found.append((condition, f"{clean(row.name)}, {percent(row.score.value)} %{speed}{compared}."))
    return found


def _price(change: ScoreChange) -> str:
    """Points gained or lost, and whether that is noise."""
    size = f"{100 * abs(change.difference):.1f}"
    text = f"{size} points {'higher' if change.difference > 0 else 'lower'} in mean score"
    if size == "0.0":
        text = "equal in mean score"
    if change.is_real is None:
        return text
    ends = f"{points(change.estimate.low or 0.0)} to {points(change.estimate.high or 0.0)}"
    return f"{text} ({'more' if change.is_real else 'no more'} than noise: 95 % interval {ends})"


def _times(ratio: float | None) -> str:
    return f"{ratio:.1f} ×" if ratio else ""


def _score(score: Estimate) -> str:
    if score.low is None or score.high is None:
        return f"{percent(score.value)} %"
    return f"{percent(score.value)} % ({percent(score.low)}–{percent(score.high)})"


def _latency(choice: Choice, one: ModelSummary, baseline: ModelSummary | None) -> str:
    """The worst p99 of the datasets, with its load: the equal rate, or else 70 % of the model's own highest rate."""
    worst: tuple[float, str] | None = None
    for dataset in one.results:
        p99 = choice.scores.latency(one.name, dataset, "equal_p99_ms")
        if p99 is not None and (worst is None or p99 > worst[0]):
            worst = (p99, dataset)
    if worst is None:
        return _own_latency(one)
    rate = number(choice.scores.rates[worst[1]] or 0.0)
    where = f" on {clean(worst[1])}" if len(one.results) > 1 else ""
    before = choice.scores.latency(baseline.name, worst[1], "equal_p99_ms") if baseline else None
    beside = f" (its fp32: {number(before)} ms)" if before is not None else ""
    return f"At {rate} clips/s{where}, the load that every model was given, its p99 is {number(worst[0])} ms{beside}"


def _own_latency(one: ModelSummary) -> str:
    found = []
    for dataset, result in one.results.items():
        point = point_of(result.measurement, "paced") if result.measurement else None
        p99 = mean_of(result.measurement, "paced_p99_ms") if result.measurement else None
        if point is not None and point.rate and p99 is not None:
            found.append((p99, point.rate, dataset))
    if not found:
        return ""
    p99, own, dataset = max(found)
    where = f" on {clean(dataset)}" if len(one.results) > 1 else ""
    return f"At {number(own)} clips/s{where}, 70 % of its highest, its p99 is {number(p99)} ms"


def _costs(one: ModelSummary, baseline: ModelSummary | None) -> list[str]:
    taken, before = one.footprint, baseline.footprint if baseline else None
    if taken is None:
        return []
    texts = []
    for identifier, words in (("memory_mib", "of memory"), ("disk_mib", "on disk"), ("load_seconds", "to load")):
        value = getattr(taken, identifier)
        if value is not None:
            other = getattr(before, identifier) if before else None
            beside = f" (its fp32: {format_metric(identifier, other)})" if other is not None else ""
            texts.append(f"{format_metric(identifier, value)} {METRICS[identifier].unit} {words}{beside}")
    return texts


def _energy(choice: Choice, one: ModelSummary, baseline: ModelSummary | None) -> str:
    """Joules of a clip, where they can be compared, and of which hardware; over several datasets the geometric mean."""
    if one.joules_per_clip is None or not has_energy(choice):
        return ""
    other = baseline.joules_per_clip if baseline else None
    beside = f" (its fp32: {number(other)} J)" if other is not None else ""
    return f"A clip takes {number(one.joules_per_clip)} J beyond idle{beside}: {' + '.join(one.energy_of)}."


def has_energy(choice: Choice) -> bool:
    """Whether energies are known, and all of the same kinds of hardware."""
    return len({row.energy_of for row in choice.rows if row.joules_per_clip is not None}) == 1


def price_line(choice: Choice, one: ModelSummary) -> str:
    """The price of clips and of audio, empty where it is not known; of several datasets the geometric means."""
    price = choice.scores.run.settings.price
    if price is None or one.price_per_million_clips is None or one.price_per_1000_hours is None:
        return ""
    return (
        f"At {price:g} an hour for the servers, kept saturated, a million clips cost "
        f"{number(one.price_per_million_clips)} and 1,000 hours of audio {number(one.price_per_1000_hours)}."
    )


def loads_line(choice: Choice) -> str:
    """At which rate each dataset's latencies are, for beneath the table; empty where none was measured."""
    rates = [
        f"{clean(name)} at {number(rate)} clips/s"
        for name in choice.scores.datasets
        if (rate := choice.scores.rates[name])
    ]
    return f"p50 and p99 at the same load for all models: {', '.join(rates)}." if rates else ""


def choice_columns(choice: Choice) -> tuple[Column, ...]:
    """Of the one table over all datasets."""
    score, speed = columns_of("score", "clips_per_s")
    p50, p99 = columns_of("equal_p50_ms", "equal_p99_ms")
    several = len(choice.scores.datasets) > 1
    return (
        *columns_of("model"),
        Column("Mean score" if several else score.title, score.unit, True, "score"),
        Column("95 % interval", "%", True),
        Column("vs its fp32", "points", True),
        Column("95 % interval", "points", True),
        Column("Change"),
        Column(speed.title, "", True, "clips_per_s"),
        Column("× fp32", "", True),
        *(Column(one.title, one.unit, True, one.id) for one in (p50, p99)),
        *columns_of("memory_mib", "disk_mib", "load_seconds"),
        *(columns_of("joules_per_clip") if has_energy(choice) else ()),
        *(columns_of(*PRICES) if choice.scores.run.settings.price else ()),
    )


def choice_table(choice: Choice) -> Table:
    """One row a model over all datasets, a star before those on the front; marks as in every table."""
    return Table(choice_columns(choice), [_cells(choice, row) for row in choice.rows])


def _cells(choice: Choice, row: ModelSummary) -> tuple[str, ...]:
    incomplete = {one.id for one in choice.scores.run.datasets if one.incomplete}
    mark = MARK if incomplete & set(row.results) else ""
    part = "" if row.is_complete else f" ({len(row.results)} of {plural(len(choice.scores.datasets), 'dataset')})"
    change = row.change
    verdict = UNKNOWN
    if change is not None and change.is_real is not None:
        verdict = "real" if change.is_real else "noise"
    taken: dict[str, Any] = row.footprint.model_dump() if row.footprint else {}
    ends = change.estimate if change else None
    old = CARRIED_MARK if any(one.carried for one in row.results.values()) else ""
    is_baseline = row.baseline is None and any(one.baseline == row.name for one in choice.rows)
    return (
        f"{STAR + ' ' if row.on_front else ''}{clean(row.name)}{part}",
        percent(row.score.value) + mark,
        _ends(row.score, percent),
        ("baseline" if is_baseline else UNKNOWN) if change is None else points(change.difference),
        UNKNOWN if ends is None else _ends(ends, points),
        verdict,
        format_metric("clips_per_s", row.clips_per_s) + ("" if row.clips_per_s is None else old),
        UNKNOWN if row.times_baseline is None else f"{row.times_baseline:.2f}",
        format_metric("equal_p50_ms", row.p50_ms) + ("" if row.p50_ms is None else old),
        format_metric("equal_p99_ms", row.p99_ms) + ("" if row.p99_ms is None else old),
        *(
            NOT_TOLD if taken.get(name) is None else format_metric(name, taken[name])
            for name in ("memory_mib", "disk_mib", "load_seconds")
        ),
        *((_joules(row) + (old if row.joules_per_clip is not None else ""),) if has_energy(choice) else ()),
        *(format_metric(name, getattr(row, name)) for name in (PRICES if choice.scores.run.settings.price else ())),
    )


def _joules(row: ModelSummary) -> str:
    return NOT_TOLD if row.joules_per_clip is None else format_metric("joules_per_clip", row.joules_per_clip)


def _ends(estimate: Estimate, form: Any) -> str:
    if estimate.low is None or estimate.high is None:
        return UNKNOWN
    join = "–" if form is percent else " to "
    return f"{form(estimate.low)}{join}{form(estimate.high)}"


def choice_meanings(choice: Choice) -> list[Meaning]:
    """What the columns of the one table mean."""
    fixed = {
        "vs its fp32": "The mean score less that of the fp32 export of the same checkpoint, the whole one where the "
        "run has cuts of it, with the interval of the same test clips (paired bootstrap). Real where the interval "
        "leaves out 0, else noise.",
        "× fp32": "Clips/s over those of the same fp32 export.",
    }
    more = [Meaning(term, text) for term, text in fixed.items()]
    own = [
        Meaning(STAR, "On the front: no other model has both a higher mean score and a higher speed."),
        Meaning(
            "Over several datasets",
            "Scores are means, their intervals those of the datasets together (Zou and Donner, 2008); clips/s, "
            "their ratios, energies and prices are geometric means; p50, p99 are the highest of the datasets, each at "
            "one rate for all models.",
        ),
    ]
    return [*own, *more, *meanings_of(choice_columns(choice))]
