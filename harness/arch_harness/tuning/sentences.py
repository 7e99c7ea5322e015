"""What a tuning says: the winner and why, the front, what was tried, whatever the format."""

from __future__ import annotations

from collections.abc import Sequence

from arch_harness.decision.document import DecisionText
from arch_harness.load.asked import Slo
from arch_harness.load.judging import LATE_SHARE
from arch_harness.report.text.numbers import UNKNOWN, clean, number, percent, plural
from arch_harness.report.text.tables import Column, Section, Table
from arch_harness.tuning.choosing import keeps_memory, loses_more
from arch_harness.tuning.halving import KEEP, RUNGS
from arch_harness.tuning.results import FormScore, TunedPoint, TuneReport
from arch_harness.tuning.space import delay_text, suffix_of

_PER_S = " clips/s"


def slo_of(report: TuneReport) -> Slo:
    """The promise."""
    return Slo(report.settings.share, report.settings.milliseconds)


def name_of(report: TuneReport, point: TunedPoint) -> str:
    """A configuration as a model is called."""
    served = suffix_of(point.max_batch, point.instances, point.threads, point.queue_delay_us, point.conv_search)
    return f"{clean(report.forms[point.form].model)}-{served}"


def rate_text(point: TunedPoint, unit: str = "") -> str:
    """The rate with its interval, which is known of those that were measured to the end."""
    if point.rate <= 0:
        return "0" + unit
    if point.rung < len(RUNGS) - 1:
        return f"about {number(point.rate)}{unit}"
    interval = "or more" if point.at_least else f"({number(point.low)}–{number(point.high)})"
    return f"{number(point.rate)}{unit} {interval}"


def loss_text(form: FormScore) -> str:
    """What a form loses against the baseline, in points, with its interval."""
    if form.loss is None:
        return UNKNOWN
    if form.loss_low is None or form.loss_high is None:
        return percent(form.loss)
    return f"{percent(form.loss)} ({percent(form.loss_low)} to {percent(form.loss_high)})"


def tune_text(report: TuneReport) -> DecisionText:
    """The page."""
    return DecisionText(
        f"Tuning of {clean(report.settings.model)}", answers(report), warnings(report), _sections(report)
    )


def answers(report: TuneReport) -> list[str]:
    """The winner and its reasons, a sentence each."""
    won = report.chosen
    form = report.forms[won.form]
    lines = [
        f"{name_of(report, won)} sustains {rate_text(won, _PER_S)} at {slo_of(report)}: {_served(won)}, {_form(form)}.",
        *_reasons(report, won, form),
    ]
    if report.variant:
        lines.append(f"It is written as the model {clean(report.variant)}; no other model was changed.")
    return lines


def _served(point: TunedPoint) -> str:
    return (
        f"batches of up to {point.max_batch}, {plural(point.instances, 'instance')} of "
        f"{plural(point.threads, 'thread')}, queue delay {delay_text(point.queue_delay_us)}"
        + (f", {point.conv_search} search for convolutions" if point.conv_search else "")
    )


def _form(form: FormScore) -> str:
    cut = f", cut after layer {form.cut}" if form.cut else ""
    return form.precision + cut + (", exact" if form.lengths == "exact" else "")


def _reasons(report: TuneReport, won: TunedPoint, form: FormScore) -> list[str]:
    lines = []
    if form.loss is not None and report.max_loss is not None:
        is_base = form.model == report.baseline
        told = (
            "it is the baseline" if is_base else f"it loses {loss_text(form)} points against {clean(report.baseline)}"
        )
        lines.append(f"Score: {_score(form)} %; {told}, and {percent(report.max_loss)} are allowed.")
    second = [one for one in _measured(report) if one is not won]
    if second:
        lines.append(_against(report, won, second[0], "The next fastest is"))
    exact = [one for one in _measured(report) if report.forms[one.form].model == report.baseline and one is not won]
    if exact and exact[0] is not second[0]:
        lines.append(_against(report, won, exact[0], "The fastest of the baseline is"))
    if won.memory_mib is not None:
        allowed = "" if report.max_memory_mib is None else f", of {number(report.max_memory_mib)} that are allowed"
        lines.append(f"Its processes take {number(won.memory_mib)} MiB{allowed}.")
    return lines


def _against(report: TuneReport, won: TunedPoint, other: TunedPoint, what: str) -> str:
    apart = "the intervals do not meet" if won.low > other.high else "which the intervals do not tell apart"
    return f"{what} {name_of(report, other)} with {rate_text(other, _PER_S)}, {apart}."


def _measured(report: TuneReport) -> list[TunedPoint]:
    """To the end, and within the memory that is allowed, the fastest first."""
    last = len(RUNGS) - 1
    found = [one for one in report.points if one.rung == last and one.rate > 0]
    within = [one for one in found if keeps_memory(one.memory_mib, report.max_memory_mib)]
    return sorted(within, key=lambda one: -one.rate)


def warnings(report: TuneReport) -> list[str]:
    """What must be known, a line each."""
    lines = list(map(clean, report.notes))
    form = report.forms[report.chosen.form]
    limit = report.max_loss
    if limit is not None and form.loss_high is not None and loses_more(form.loss_high, limit):
        lines.append(
            f"the loss of {clean(form.model)} may be more than the {percent(limit)} points that are allowed: its "
            f"interval reaches {percent(form.loss_high)}"
        )
    if report.chosen.at_least:
        lines.append("no run has broken the promise: this client may send no more, so the winner is one of several")
    lines += _late(report)
    faults = [one for one in report.points if one.fault]
    if faults:
        more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        lines.append(f"{name_of(report, faults[0])}{more} could not be measured: {clean(faults[0].fault)}")
    return lines


def _late(report: TuneReport) -> list[str]:
    """Of the winner and the next fastest, between which the client may have decided."""
    allowed = LATE_SHARE * report.settings.milliseconds
    second = [one for one in _measured(report) if not one.chosen][:1]
    late = [one for one in (report.chosen, *second) if (one.late_ms or 0.0) > allowed]
    if not late:
        return []
    told = " and ".join(f"{number(one.late_ms or 0.0)} ms (p99) with {name_of(report, one)}" for one in late)
    return [
        f"the client was late itself: {told}, of {number(report.settings.milliseconds)} ms that are promised. It "
        "shares the cores with the server, and may be what limits the rate: ask arch load on another machine"
    ]


def _score(form: FormScore) -> str:
    if form.score is None:
        return UNKNOWN
    if form.low is None or form.high is None:
        return percent(form.score)
    return f"{percent(form.score)} ({percent(form.low)}–{percent(form.high)})"


_COLUMNS = (
    Column("Configuration"),
    Column("Rate", "clips/s", True),
    Column("Score", "%", True),
    Column("Loss", "points", True),
    Column("Batch", "", True),
    Column("Instances", "", True),
    Column("Threads", "", True),
    Column("Delay", "", True),
    Column("Memory", "MiB", True),
    Column("Measured", "s", True),
    Column("What became of it"),
)


def points_table(report: TuneReport, points: Sequence[TunedPoint]) -> Table:
    """A row for each configuration."""
    return Table(_COLUMNS, [_row(report, one) for one in points])


def _row(report: TuneReport, point: TunedPoint) -> tuple[str, ...]:
    form = report.forms[point.form]
    return (
        name_of(report, point),
        rate_text(point),
        _score(form),
        loss_text(form),
        str(point.max_batch),
        str(point.instances),
        str(point.threads),
        delay_text(point.queue_delay_us),
        UNKNOWN if point.memory_mib is None else number(point.memory_mib),
        number(point.seconds),
        _fate(report, point),
    )


def _fate(report: TuneReport, point: TunedPoint) -> str:
    if point.chosen:
        return "chosen"
    if point.fault:
        return f"not measured: {clean(point.fault)}"
    if report.max_memory_mib is not None and (point.memory_mib or 0) > report.max_memory_mib:
        return "takes too much memory"
    if point.rate <= 0:
        told = "" if point.nearest_ms is None else f": {slo_of(report).name} {number(point.nearest_ms)} ms at best"
        return f"does not keep the promise{told}"
    if point.on_front:
        return "on the front"
    return "measured to the end" if point.rung == len(RUNGS) - 1 else f"left after rung {point.rung + 1}"


def ordered(report: TuneReport) -> list[TunedPoint]:
    """The configurations, those that came farthest first, and of them the fastest."""
    return sorted(report.points, key=lambda one: (-one.rung, -one.rate))


def _sections(report: TuneReport) -> list[Section]:
    front = [one for one in ordered(report) if one.on_front]
    found = [
        Section(
            "The front",
            "Configurations that no other beats in both score and rate, of those that were measured to the end.",
            points_table(report, front),
        )
    ]
    if report.max_loss is not None:
        found.append(
            Section(
                "Forms",
                "What decides a score: each was scored once. Loss: score of the baseline less its own, on the same "
                "test clips, with the 95 % interval of a paired bootstrap.",
                Table(
                    (
                        Column("Model"),
                        Column("Precision"),
                        Column("Score", "%", True),
                        Column("Loss", "points", True),
                        Column("Runs in"),
                        Column("Tried"),
                    ),
                    [
                        (clean(one.model), _form(one), _score(one), loss_text(one), clean(one.executed_by), _tried(one))
                        for one in report.forms
                    ],
                ),
            )
        )
    found.append(
        Section(
            "All configurations",
            f"Successive halving: each is measured shortly, one of {KEEP} goes on, and its further runs are longer. "
            "Rates of those that were left early are rough.",
            points_table(report, ordered(report)),
        )
    )
    return found


def _tried(form: FormScore) -> str:
    return "yes" if form.admissible else f"no: {clean(form.reason)}"


def effort(report: TuneReport) -> str:
    """What was measured, and what an exhaustive search would have taken."""
    runs = sum(one.runs for one in report.points)
    share = report.seconds / report.exhaustive_seconds if report.exhaustive_seconds else 1
    return (
        f"{plural(len(report.points), 'configuration')}, {plural(runs, 'run')}, {number(report.seconds)} s of load: "
        f"{100 * share:.0f} % of what measuring every one to the end takes"
    )


def method(report: TuneReport) -> list[tuple[str, str]]:
    """How it was measured, as terms."""
    ceiling = "not known" if report.ceiling is None else f"{number(report.ceiling)} clips/s"
    return [
        ("Promise", str(slo_of(report))),
        ("Search", effort(report)),
        ("Shortest run", f"{number(report.run_seconds)} s; later ones " + ", ".join(_lengths())),
        ("Clips", f"{_clips(report)}, each sent as long as it is, at random moments"),
        ("The client may send", ceiling),
        ("Machine", f"{report.machine.cpu}, {report.machine.cores} cores, for client and server"),
        ("When", report.created.strftime("%Y-%m-%d %H:%M %Z")),
    ]


def _clips(report: TuneReport) -> str:
    sent = report.clips
    left_out = f" ({plural(sent.unreadable, 'file')} could not be read)" if sent.unreadable else ""
    return f"{sent.count:,} of {clean(report.settings.dataset)}{left_out}"


def _lengths() -> list[str]:
    return [f"{one.length:g} times as long" for one in RUNGS[1:]]
