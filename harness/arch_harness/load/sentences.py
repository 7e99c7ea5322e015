"""What a load test says: sentences and tables, whatever the format."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from arch_harness.load.report import EVERY_CLIP, IN_TIME
from arch_harness.load.search import NEAR
from arch_harness.report.text.numbers import UNKNOWN, clean, number, percent
from arch_harness.report.text.tables import Column, Section, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arch_harness.load.report import ClipMix, LoadReport, LoadRun, ModelLoad, SenderFacts

_SCENARIOS = {
    "server": "Server: clips at random moments, latency from the moment that each is due",
    "offline": "Offline: all clips at once",
    "single-stream": "SingleStream: the next clip once the last is answered",
    "multi-stream": "MultiStream: the next query of several clips once the last is answered",
}
# LoadGen has names of its own for what a scenario's settings become.
_SCENARIO_WORDS = ("server_", "offline_", "multi_stream_", "single_stream_")


def answers(report: LoadReport) -> list[str]:
    """What it comes to, a sentence or two for each model."""
    return [f"{clean(one.model.name)} {_answer(report, one)}" for one in report.models]


def _answer(report: LoadReport, one: ModelLoad) -> str:
    found = one.sustained
    if one.unfinished is not None:
        return _unfinished_answer(report, one, one.unfinished)
    if found is None:
        return _curve_answer(report, one)
    slo = report.slo.slo if report.slo else None
    doubts = "".join(f" Near that rate {short}." for short, _ in _doubts(one))
    if found.rate <= 0:
        return f"does not keep {slo}, not even at {number(found.high)} clips/s.{doubts}"
    interval = "or more" if found.at_least else f"({number(found.low)}–{number(found.high)})"
    text = f"sustains {number(found.rate)} clips/s {interval} at {slo}: {_in_audio(report, one, found.rate)}."
    if found.at_least:
        text += " This client may send no more; drive the load from a faster machine to learn more."
    if found.valid_up_to is None:
        text += " No run is VALID by LoadGen's rules."
    else:
        text += f" LoadGen calls runs VALID up to {number(found.valid_up_to)} clips/s."
    return text + doubts


def _doubts(one: ModelLoad) -> list[tuple[str, str]]:
    """Why the rate that was found may not be the servers' own, in short and whole: rules of ours, broken near it."""
    found = one.sustained
    place = 0.0 if found is None else found.rate or found.high
    if place <= 0:
        return []
    near = [run for run in one.runs if run.rate and abs(math.log(run.rate / place)) <= NEAR]
    late, failed = ([run for run in near if any(b.rule == rule for b in run.broken)] for rule in (IN_TIME, EVERY_CLIP))
    where = f"of the {len(near)} runs near {number(place)} clips/s"
    doubts = []
    if late:
        worst = number(max(run.late_ms for run in late))
        words = f"in {len(late)} {where} this client sent late, at worst by {worst} ms (p99), which counts against the"
        doubts.append(("this client sent late, so that the servers may carry more", f"{words} servers"))
    if failed:
        reasons: Counter[str] = sum((Counter(run.reasons) for run in failed), Counter())
        words = (
            f"in {len(failed)} {where} {sum(run.failed for run in failed):,} clips failed, which count as late; most"
        )
        doubts.append(("clips failed", f"{words} with: {clean(max(reasons, key=lambda one: reasons[one]))}"))
    return doubts


def _unfinished_answer(report: LoadReport, one: ModelLoad, why: str) -> str:
    if not one.runs:
        return f"was not measured: {clean(why)}."
    text = f"was not measured to the end: {clean(why)}. Of the {len(one.runs):,} runs that had ended"
    kept = [run for run in one.runs if run.kept]
    rates = [run.rate for run in kept if run.rate is not None]
    if report.slo is None or not rates:
        return f"{text} {len(kept) or 'none'} kept {report.slo.slo}." if report.slo else f"{text} none gives an answer."
    return f"{text} the highest that kept {report.slo.slo} is at {number(max(rates))} clips/s, which is no answer yet."


def _curve_answer(report: LoadReport, one: ModelLoad) -> str:
    slo = report.slo.slo if report.slo else None
    if report.scenario != "server":
        return "; ".join(_run_answer(report, one, run) for run in one.runs) + "."
    if not one.runs:
        return f"was measured at no rate: {_above(one)}."
    kept = [run.rate for run in one.runs if run.kept and run.rate is not None]
    lost = [run.rate for run in one.runs if run.kept is False and run.rate is not None]
    first = min(lost, default=None)
    below = [rate for rate in kept if first is None or rate < first]
    if not below:
        return f"keeps {slo} at none of the rates that were measured."
    until = "" if first is None else f"; the first rate that does not is {number(first)}"
    return f"keeps {slo} up to {number(max(below))} clips/s{until}: {_in_audio(report, one, max(below))}."


def _above(one: ModelLoad) -> str:
    """The rates that were asked for and not measured, and why."""
    rates = ", ".join(map(number, one.refused))
    return (
        f"{rates} clips/s {'is' if len(one.refused) == 1 else 'are'} above {percent(one.ceiling.allowed)} % of the "
        f"{number(one.ceiling.clips_per_s or 0)} clips/s that this client sends"
    )


def _run_answer(report: LoadReport, one: ModelLoad, run: LoadRun) -> str:
    judged = UNKNOWN if run.judged_ms is None else f"{number(run.judged_ms)} ms"
    percentile = report.slo.slo.name if report.slo else "p90" if report.scenario == "single-stream" else "p99"
    audio = number(run.clips_per_s * one.clips.mean_seconds)
    latency = "" if report.scenario == "offline" else f", {percentile} {judged}"
    if report.slo is not None:
        latency += f", and {'keeps' if run.kept else 'does not keep'} {report.slo.slo}"
    return f"answers {number(run.clips_per_s)} clips/s, {audio} seconds of audio a second{latency}"


def _in_audio(report: LoadReport, one: ModelLoad, rate: float) -> str:
    mean = one.clips.mean_seconds
    hop = report.hop_s or mean
    every = "that follow one another" if report.hop_s is None else f"each {number(hop)} s apart"
    return (
        f"{number(rate * mean)} seconds of audio a second, {int(rate * hop + 1e-9):,} streams of {number(mean)} s "
        f"clips {every}"
    )


def warnings(report: LoadReport) -> list[str]:
    """What must be known before, a line each."""
    lines = []
    for one in report.models:
        name = clean(one.model.name)
        if one.ceiling.clips_per_s is None:
            lines.append(f"{name}: the client may be the limit: {clean(one.ceiling.where)}")
        if one.refused:
            lines.append(f"{name}: not measured: {_above(one)}")
        lines += [f"{name}: {text}" for _, text in _doubts(one)]
        foreign = sum(run.server.foreign_requests for run in one.runs if run.server)
        if foreign:
            lines.append(f"{name}: others sent {foreign:,} requests meanwhile")
        for run in one.runs[-1:] if report.scenario != "server" else one.runs:
            lines += [
                f"{name}{_at(run)} is INVALID: {b.rule}: {b.advice}" for b in run.broken if run.purpose != "search"
            ]
    lines += [f"{clean(name)} was not measured: the test ended before" for name in report.unmeasured]
    return lines


def network(report: LoadReport) -> str:
    """What the network takes of each latency, where servers are on other machines; empty where none is."""
    trips = [
        f"{'not known' if ms is None else f'{number(ms)} ms'} to {clean(address)}"
        for address, ms in report.round_trips.items()
    ]
    return (
        f"network round trip {', '.join(trips)}: part of each latency, and not in the client's ceiling" if trips else ""
    )


def sending(report: LoadReport) -> list[tuple[str, str]]:
    """Which processes sent, and how well their clocks agree, as terms; none for one."""
    if not report.senders:
        return []
    machines = Counter(_machine(one) for one in report.senders)
    processes = ", ".join(f"{count} on {clean(name)}" for name, count in machines.items())
    clocks = {_machine(one): one for one in reversed(report.senders)}
    compared = ", ".join(
        f"{clean(name)} {one.clock_ms:+.2f} ms (± {one.clock_uncertain_ms:.2f})" for name, one in clocks.items()
    )
    spread = max((run.spread_ms for one in report.models for run in one.runs), default=0.0)
    return [
        ("Processes that send", f"{processes}, each with a LoadGen of its own and an equal share of the rate"),
        (
            "Clocks",
            f"ahead of this machine's: {compared}; all of a run began within {number(spread)} ms of one another",
        ),
    ]


def _client(report: LoadReport) -> str:
    """The hardware of who sent."""
    here = (report.machine.cpu, report.machine.cores)
    machines = {_machine(one): (one.cpu, one.cores) for one in report.senders} or {"": here}
    return "; ".join(
        f"{clean(name)}: {clean(cpu)}, {cores} cores" if name else f"{cpu}, {cores} cores"
        for name, (cpu, cores) in machines.items()
    )


def _machine(one: SenderFacts) -> str:
    return one.host if one.address is None else f"{one.host} ({one.address})"


def _at(run: LoadRun) -> str:
    return "" if run.rate is None else f" at {number(run.rate)} clips/s"


def method(report: LoadReport) -> list[tuple[str, str]]:
    """How it was measured, as terms."""
    mixes: dict[str, list[str]] = {}  # by what is said of them: those of most tests are one
    for one in report.models:
        mixes.setdefault(_lengths(report, one.clips), []).append(clean(one.model.name))
    return [
        ("Scenario", _SCENARIOS[report.scenario]),
        ("Promise", str(report.slo.slo) if report.slo else "none"),
        *[(f"Clips, {', '.join(names)}" if len(mixes) > 1 else "Clips", text) for text, names in mixes.items()],
        ("Servers", ", ".join(f"{one.address} (Triton {one.version})" for one in report.servers)),
        ("Audio", "in requests over gRPC" if report.transport == "grpc" else "read by the servers in shared memory"),
        *([("Network", network(report))] if report.round_trips else []),
        *sending(report),
        ("LoadGen", f"mlcommons-loadgen {report.loadgen_version}, seed {report.seed}"),
        ("Client", _client(report)),
        *[
            (f"Ceiling, {clean(one.model.name)}", f"{number(one.ceiling.clips_per_s)} clips/s, {one.ceiling.where}")
            for one in report.models
            if one.ceiling.clips_per_s is not None
        ],
        ("When", report.created.strftime("%Y-%m-%d %H:%M %Z")),
    ]


def _lengths(report: LoadReport, mix: ClipMix) -> str:
    lengths = f"{number(mix.least_seconds)} to {number(mix.most_seconds)} s, {number(mix.mean_seconds)} s in the mean"
    return f"{mix.count:,} of {clean(report.dataset)}, {lengths}, decoded beforehand, each sent as long as it is"


def runs_table(one: ModelLoad) -> Table:
    """A row for each run, in the order of the rates."""
    columns = (
        Column("Rate", "clips/s", True),
        Column("Answered", "clips/s", True),
        Column("Goodput", "clips/s", True),
        Column("p50", "ms", True),
        Column("p99", "ms", True),
        Column("Late", "%", True),
        Column("Queue", "ms", True),
        Column("Compute", "ms", True),
        Column("Batch", "", True),
        Column("Queries", "", True),
        Column("LoadGen"),
    )
    return Table(columns, [_row(run) for run in sorted(one.runs, key=lambda run: run.rate or 0)])


def _row(run: LoadRun) -> tuple[str, ...]:
    server = run.server
    return (
        _shown(run.rate),
        number(run.clips_per_s),
        _shown(run.goodput),
        _shown(run.p50_ms),
        _shown(run.p99_ms),
        UNKNOWN if run.kept is None else percent(run.over / max(1, run.queries)),
        UNKNOWN if server is None else number(server.queue_ms),
        UNKNOWN if server is None else number(server.compute_ms),
        UNKNOWN if server is None else number(server.mean_batch_size),
        f"{run.queries:,}",
        "VALID" if run.valid else "INVALID: " + ", ".join(one.rule for one in run.broken),
    )


def _shown(value: float | None) -> str:
    return UNKNOWN if value is None else number(value)


def sections(report: LoadReport) -> list[Section]:
    """The runs of each model, what makes runs invalid, and LoadGen's settings."""
    text = (
        "Each row is a run of LoadGen. Latencies count from the moment that a clip was due. Goodput: clips answered "
        "within the promise. Late: answers after it, or none. Queue, compute and batch: means in the server, by "
        "Triton's statistics."
    )
    if report.senders[1:]:
        text += " Each process that sends has a LoadGen of its own; a run is VALID if all of them call their part so."
    if report.round_trips:
        text += f" {network(report)[:1].upper()}{network(report)[1:]}."
    found = [Section(f"Runs of {clean(one.model.name)}", text, runs_table(one)) for one in report.models]
    rows = [
        (clean(one.model.name), _shown(run.rate), broken.rule, clean(broken.advice))
        for one in report.models
        for run in one.runs
        for broken in run.broken
    ]
    if rows:
        columns = (Column("Model"), Column("Rate", "clips/s", True), Column("Rule"), Column("What to do"))
        found.append(
            Section(
                "Why runs are INVALID",
                "LoadGen's rules, and that every clip is answered and sent in time.",
                Table(columns, rows),
            )
        )
    run = next((run for one in report.models for run in one.runs[-1:]), None)
    if run is not None:
        names = (Column("Setting"), Column("Requested"), Column("Effective"))
        text = "Of the last run, from LoadGen's own log: what it was asked for, and what it used."
        if run.parts > 1:
            text += f" Of the first of {run.parts} processes, each of which has its share."
        found.append(Section("LoadGen's settings", text, Table(names, settings_rows(run))))
    return found


def settings_rows(run: LoadRun) -> Sequence[tuple[str, str, str]]:
    """Name, requested and effective value of LoadGen's settings; what differs comes first."""
    requested = {}
    for name, value in run.requested.items():
        for word in _SCENARIO_WORDS:
            name = name.removeprefix(word)
        requested[name] = value
    names = [*run.effective, *(name for name in requested if name not in run.effective)]
    rows = [(name, _value(requested.get(name)), _value(run.effective.get(name))) for name in names]
    return sorted(rows, key=lambda row: row[1] == row[2] or UNKNOWN in row[1:])


def _value(value: object) -> str:
    return (
        UNKNOWN
        if value is None
        else f"{value:,}"
        if isinstance(value, int | float) and not isinstance(value, bool)
        else str(value)
    )
