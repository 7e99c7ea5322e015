"""What a report says: the tables, sentences and notes that every format shows, derived from one `Run`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from arch_harness.report.text import probes, timing
from arch_harness.report.text.numbers import (
    clean,
    number,
    optional,
    percent,
    plural,
    scientific,
    shorten,
    span,
    timestamp,
)
from arch_harness.report.text.tables import Column, Meaning, Section, Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from arch_harness.results.measurement import Measurement
    from arch_harness.results.run import DatasetFacts, ModelFacts, Result, Run, ServerFacts

MAX_FAILURES = 50
"""Failures shown per result; `results.json` holds all."""

_MAX_REASON = 300
_DIGITS = 10  # of a hash


@dataclass(frozen=True)
class FailureList:
    """The failures of one result, the first `MAX_FAILURES` of them in `table`."""

    title: str
    table: Table
    more: str


@dataclass(frozen=True)
class Report:
    """The text of a report, in the order in which it is shown."""

    title: str
    date: str
    summary: list[str]
    results: Table
    meanings: list[Meaning]
    timing: timing.Timing | None
    probing: list[Section]
    failures: list[FailureList]
    notes: list[str]
    models: Table
    model_meanings: list[Meaning]
    datasets: Table
    command: str
    method: list[tuple[str, str]]
    hardware: list[tuple[str, str]]
    packages: list[tuple[str, str]]


@dataclass(frozen=True)
class ResultColumn(Column):
    """A column of the main table, and how its cells are made from a result."""

    value: Callable[[Result], str] = field(kw_only=True)


def _spread(result: Result) -> str:
    scores = [fold.score for fold in result.folds]
    return span(min(scores), max(scores)) if scores else "–"


def _interval(result: Result) -> str:
    return span(result.interval.low, result.interval.high) if result.interval else "–"


def _measured(value: Callable[[Measurement], float]) -> Callable[[Result], str]:
    return lambda result: "–" if result.measurement is None else number(value(result.measurement))


def _latency(percentile: str) -> Callable[[Result], str]:
    def value(result: Result) -> str:
        latency = result.measurement and result.measurement.latency_ms
        return "–" if latency is None else number(getattr(latency, percentile))

    return value


def _server(figure: str) -> Callable[[Result], str]:
    def value(result: Result) -> str:
        times = result.measurement and result.measurement.server
        return "–" if times is None else number(getattr(times, figure))

    return value


def _speed(result: Result) -> float:
    """Clips per second; -1 where nothing was measured."""
    return -1.0 if result.measurement is None else result.measurement.clips_per_s


RESULT_COLUMNS = (
    ResultColumn("Dataset", value=lambda r: clean(r.dataset)),
    ResultColumn("Model", value=lambda r: clean(r.model)),
    ResultColumn("Metric", value=lambda r: probes.METRICS[r.metric]),
    ResultColumn("Score", "%", True, value=lambda r: percent(r.score)),
    ResultColumn("± seeds", "%", True, value=lambda r: optional(r.std)),
    ResultColumn("95 % interval", "%", True, value=_interval),
    ResultColumn("Folds", "%", True, value=_spread),
    ResultColumn("Macro F1", "%", True, value=lambda r: optional(r.macro_f1)),
    ResultColumn("Chance", "%", True, value=lambda r: percent(r.chance)),
    ResultColumn("Clips", "", True, value=lambda r: f"{r.clips:,}"),
    ResultColumn("Failed", "", True, value=lambda r: f"{r.failed:,}"),
    ResultColumn("Clips/s", "", True, value=_measured(lambda one: one.clips_per_s)),
    ResultColumn("RTFx", "", True, value=_measured(lambda one: one.rtfx)),
    ResultColumn("p50", "ms", True, value=_latency("p50")),
    ResultColumn("p95", "ms", True, value=_latency("p95")),
    ResultColumn("p99", "ms", True, value=_latency("p99")),
    ResultColumn("Queue", "ms", True, value=_server("queue_ms")),
    ResultColumn("Compute", "ms", True, value=_server("compute_ms")),
    ResultColumn("Batch", "mean", True, value=_server("mean_batch_size")),
)
"""The main table: every format shows these cells."""

MEANINGS = [
    Meaning(
        "Score, ScoreMetric",
        "Of a probe, a small classifier trained on the embeddings that the server returned; the linear one of the ARCH "
        "protocol unless another was asked for. Accuracy is the share of test clips that it labels correctly; mAP, for "
        "clips with several labels, is the average precision of each class, averaged over the classes. The mean over "
        "folds and seeds.",
    ),
    Meaning(
        "± seeds",
        "Standard deviation over seeds: what other initial weights and another clip order change.",
    ),
    Meaning(
        "95 % interval",
        "Bootstrap percentile interval: what another draw of test clips would change or, where a dataset has several "
        "folds, another draw of folds and of clips within them. Few folds make it rough.",
    ),
    Meaning("Folds", "The lowest and the highest score of a single fold."),
    Meaning("Macro F1", "F1 of each class, averaged over the classes with equal weight; mean over folds and seeds."),
    Meaning(
        "Chance",
        "For accuracy, the score of always answering with the most frequent class of the test clips; for mAP, the mean "
        "share of test clips that bear a class. Mean over the folds.",
    ),
    Meaning(
        "Clips, Failed",
        "Clips of the dataset, failed ones included, and how many of them gave no embedding. "
        "A failed clip takes part in no score.",
    ),
    Meaning(
        "Clips/s",
        "Clips embedded per second of wall time, from the first clip read to the last embedding received; "
        "reading and decoding count. A dash, here and in the next columns, stands where every embedding was read from "
        "the store: nothing was measured.",
    ),
    Meaning(
        "RTFx",
        "Seconds of real audio embedded per second of that wall time. Padding that a clip was filled up with does "
        "not count as audio.",
    ),
    Meaning(
        "p50, p95, p99",
        "Percentiles of the latency of single-clip requests, measured at the client from the moment that the decoded "
        "clip has a place in flight to receiving its embedding; tries that failed and the pauses after them count.",
    ),
    Meaning(
        "Queue, Compute",
        "Triton's own statistics, as the mean per request: the time a request waited in the server's queue, and the "
        "time spent on its input, inference and output.",
    ),
    Meaning(
        "Batch",
        "Mean number of clips that Triton's dynamic batching put into one execution of the model.",
    ),
]


def ordered(run: Run) -> list[Result]:
    """The results dataset by dataset in the run's order, and in a dataset by falling score, then throughput."""
    place = {dataset.id: index for index, dataset in enumerate(run.datasets)}
    return sorted(run.results, key=lambda r: (place[r.dataset], -r.score, -_speed(r), r.model))


def results_table(run: Run) -> Table:
    """The main table: one row per model and dataset."""
    return Table(RESULT_COLUMNS, [tuple(column.value(result) for column in RESULT_COLUMNS) for result in ordered(run)])


def failures_line(run: Run) -> str:
    """How many clips failed, in one sentence."""
    failed = sum(result.failed for result in run.results)
    if not failed:
        return "No clip failed."
    where = [f"{clean(r.dataset)} × {clean(r.model)}: {r.failed:,}" for r in ordered(run) if r.failed]
    shown = "; ".join(where[:4]) + (f"; and {plural(len(where) - 4, 'more result')}" if len(where) > 4 else "")
    return f"{plural(failed, 'failure')}: clips that gave no embedding and take part in no score ({shown})."


def summary(run: Run) -> list[str]:
    """A sentence per dataset: the best model by score, and the fastest."""
    sentences = []
    results = ordered(run)
    for dataset in run.datasets:
        found = [result for result in results if result.dataset == dataset.id]
        if found:
            lead = probes.lead(run, found[0].model, dataset.id)
            sentences.append(f"{clean(dataset.id)}: {_verdict(found)}{' ' + lead if lead else ''}")
    return sentences or ["The run has no results."]


def _verdict(found: list[Result]) -> str:
    best, fastest = found[0], max(found, key=_speed)
    figures = f"{percent(best.score)}% (chance {percent(best.chance)}%)"
    speed = "with embeddings from the store" if best.measurement is None else f"at {number(_speed(best))} clips/s"
    if len(found) == 1:
        return f"{clean(best.model)} scores {figures} {speed}."
    equal = [clean(result.model) for result in found[1:] if result.score == best.score]
    tie = f", also reached by {' and '.join(equal)}," if len(equal) in (1, 2) else ""
    tie = tie or (f", also reached by {len(equal)} other models," if equal else ",")
    if fastest.measurement is None:
        return f"{clean(best.model)} has the highest score, {figures}{tie} {speed}."
    if fastest is best:
        others = all(result.measurement is not None for result in found)
        return (
            f"{clean(best.model)} has the highest score, {figures}{tie} and is the fastest"
            f"{'' if others else ' of those measured'}, {speed}."
        )
    return (
        f"{clean(best.model)} has the highest score, {figures}{tie} {speed}; {clean(fastest.model)} is the fastest, "
        f"at {number(_speed(fastest))} clips/s with a score of {percent(fastest.score)}%."
    )


def _failures(run: Run) -> list[FailureList]:
    columns = (Column("Clip"), Column("Stage"), Column("Reason"))
    lists = []
    for result in ordered(run):
        if not result.failures:
            continue
        rows = [(clean(f.clip), f.stage, shorten(clean(f.reason), _MAX_REASON)) for f in result.failures[:MAX_FAILURES]]
        hidden = len(result.failures) - len(rows)
        more = f"and {hidden:,} more, see results.json" if hidden else ""
        title = f"{clean(result.dataset)} × {clean(result.model)}: {result.failed:,} of {plural(result.clips, 'clip')}"
        lists.append(FailureList(title, Table(columns, rows), more))
    return lists


def notes(run: Run) -> list[str]:
    """What the reader must know before comparing the numbers with others."""
    lines = []
    for dataset in run.datasets:
        name, official = clean(dataset.id), dataset.clips_official
        if official is not None and dataset.clips < official:
            lines.append(
                f"{name}: {dataset.clips:,} of the {official:,} clips of the official release were used, "
                "so the scores are not comparable with published numbers."
            )
        lines += [f"{name}: {clean(note)}" for note in dataset.notes]
    lines += probes.notes(run)
    lines += timing.notes(ordered(run))
    lines += [
        f"{clean(model.name)} misses the limits of {clean(model.precision)} and was installed with --force: "
        f"{clean(model.parity_missed)}."
        for model in run.models
        if model.parity_missed
    ]
    return lines


def _revision(text: str) -> str:
    # A hash is told apart by its first digits; a tag or branch is shown as it is.
    kind, _, digits = text.rpartition(":")
    is_hash = len(digits) >= 32 and set(digits) <= set("0123456789abcdef")
    return f"{kind}:{digits[:_DIGITS]}".lstrip(":") if is_hash else text


_MODEL_COLUMNS: tuple[tuple[Column, Callable[[ModelFacts], str]], ...] = (
    (Column("Model"), lambda m: clean(m.name)),
    (Column("Source"), lambda m: clean(m.source)),
    (Column("Revision"), lambda m: _revision(clean(m.revision))),
    (Column("Family"), lambda m: clean(m.family)),
    (Column("Precision"), lambda m: clean(m.precision)),
    (Column("Runs in"), lambda m: clean(m.executed_by) or "not told"),
    (Column("Parameters", "", True), lambda m: f"{m.parameter_count:,}"),
    (Column("Embedding", "size", True), lambda m: str(m.embedding_size)),
    (Column("Opset", "", True), lambda m: str(m.opset)),
    (Column("Content hash"), lambda m: clean(m.content_hash).removeprefix("sha256:")[:_DIGITS]),
    (Column("Parity error", "", True), lambda m: scientific(m.parity_max_relative_error)),
    (Column("Parity cosine", "", True), lambda m: f"{m.parity_min_cosine:.6f}"),
    (Column("Max batch", "clips", True), lambda m: str(m.max_batch_size)),
    (Column("Queue delay", "µs", True), lambda m: f"{m.max_queue_delay_us:,}"),
)

MODEL_MEANINGS = [
    Meaning(
        "Precision, Runs in",
        "What the model was exported for, and what the server says that it computes in and with which execution "
        "provider of ONNX Runtime. NVIDIA's own backend does not tell.",
    ),
    Meaning(
        "Parity error, cosine",
        "Measured at export against the source checkpoint on the same inputs: the largest relative difference of an "
        "embedding, and the smallest cosine similarity (1 is identical in direction).",
    ),
    Meaning("Revision, Content hash", f"The first {_DIGITS} digits; results.json holds them in full."),
    Meaning(
        "Max batch, Queue delay",
        "Limits of Triton's dynamic batching: the largest batch, and how long a request may wait for others to join.",
    ),
]

_DATASET_COLUMNS: tuple[tuple[Column, Callable[[DatasetFacts], str]], ...] = (
    (Column("Dataset"), lambda d: clean(d.id)),
    (Column("Title"), lambda d: clean(d.title)),
    (Column("Domain"), lambda d: d.domain),
    (Column("Clips", "", True), lambda d: f"{d.clips:,}"),
    (Column("Official clips", "", True), lambda d: "–" if d.clips_official is None else f"{d.clips_official:,}"),
    (Column("Classes", "", True), lambda d: f"{d.classes:,}"),
    (Column("Folds", "", True), lambda d: f"{d.folds:,}"),
    (Column("Max length", "s", True), lambda d: number(d.max_seconds)),
    (Column("Licence"), lambda d: clean(d.licence)),
    (Column("Citation"), lambda d: clean(d.citation)),
    (Column("Path"), lambda d: clean(d.path)),
)


def _server_facts(server: ServerFacts) -> str:
    origin = "started by arch for this run" if server.started_by_arch else "already running"
    return f"{clean(server.name)} {clean(server.version)} at {clean(server.address)}, {origin}"


def _in_flight(run: Run) -> str:
    if run.settings.concurrency is not None:
        return f"{run.settings.concurrency:,}, of one clip each"
    found = sorted({result.measurement.concurrency for result in run.results if result.measurement})
    reached = f": {', '.join(f'{count:,}' for count in found)}" if found else ""
    return f"of one clip each, raised until the throughput stopped growing{reached}"


def _method(run: Run) -> list[tuple[str, str]]:
    settings = run.settings
    place = (
        "On the same machine, whose cores and memory they share."
        if _same_machine(run)
        else "At different addresses: the client's latencies include the network between them."
    )
    transports = sorted({result.measurement.transport for result in run.results if result.measurement})
    return [
        ("Server" if len(run.servers) == 1 else "Servers", "; ".join(map(_server_facts, run.servers))),
        ("Client and server", place),
        ("Requests in flight", _in_flight(run)),
        ("Transport", ", ".join(transports) or "–"),
        ("Workers", f"{settings.workers:,}"),
        (
            "Probes",
            f"{', '.join(settings.probes)}; {plural(settings.epochs, 'epoch')}, "
            f"{plural(settings.seeds, 'seed')} from {settings.seed} on",
        ),
        ("arch", clean(run.arch_version)),
    ]


def _same_machine(run: Run) -> bool:
    return all(server.same_machine for server in run.servers)


def _hardware(run: Run) -> list[tuple[str, str]]:
    machine = run.machine
    return [
        ("Machine", "Client and server" if _same_machine(run) else "Client only; the server's is not known"),
        ("CPU", f"{clean(machine.cpu)}, {plural(machine.cores, 'core')}"),
        ("Memory", f"{number(machine.memory_gib)} GiB"),
        ("GPU", "; ".join(clean(gpu) for gpu in machine.gpus) or "none"),
        ("Operating system", clean(machine.os)),
        ("Python", clean(machine.python)),
    ]


def build(run: Run) -> Report:
    """Derive everything that a written report says from `run`."""
    return Report(
        title="Audio encoder benchmark",
        date=timestamp(run.created),
        summary=[*summary(run), failures_line(run)],
        results=results_table(run),
        meanings=MEANINGS,
        timing=timing.build(ordered(run), run.machine.cores),
        probing=probes.build(run, ordered(run)),
        failures=_failures(run),
        notes=notes(run),
        models=Table(
            tuple(column for column, _ in _MODEL_COLUMNS),
            [tuple(value(model) for _, value in _MODEL_COLUMNS) for model in run.models],
        ),
        model_meanings=MODEL_MEANINGS,
        datasets=Table(
            tuple(column for column, _ in _DATASET_COLUMNS),
            [tuple(value(dataset) for _, value in _DATASET_COLUMNS) for dataset in run.datasets],
        ),
        command=clean(run.command),
        method=_method(run),
        hardware=_hardware(run),
        packages=[(clean(name), clean(version)) for name, version in sorted(run.machine.packages.items())],
    )
