"""What was measured, on what and how: the tables of models and datasets, the method, hardware and versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arch_harness.report.text.numbers import UNKNOWN, clean, number, plural
from arch_harness.report.text.tables import Column, Meaning, Table, cells_of, columns_of, meanings_of
from arch_harness.results import rows
from arch_harness.results.metric_kinds import ATTRIBUTES

if TYPE_CHECKING:
    from arch_harness.results.run import DatasetFacts, ModelFacts, Run, ServerFacts

_DIGITS = 10  # of a hash

_EXPORTED = columns_of("precision", "executed_by", "parameter_count")
_PARITY = columns_of("parity_max_relative_error", "parity_min_cosine")
_SERVED = columns_of("max_batch_size", "max_queue_delay_us", "max_queue_size", "instances", "threads")
_MODEL_COLUMNS = (
    *columns_of("model"),
    Column("Source"),
    Column("Revision"),
    Column("Family"),
    *_EXPORTED,
    Column("Embedding", "size", True),
    Column("Opset", "", True),
    Column("Content hash"),
    *_PARITY,
    *_SERVED,
)
_DATASET_COLUMNS = (
    *columns_of("dataset"),
    Column("Title"),
    Column("Domain"),
    Column("Clips", "", True),
    Column("Official clips", "", True),
    Column("Classes", "", True),
    Column("Official classes", "", True),
    Column("Folds", "", True),
    Column("Max length", "s", True),
    Column("Licence"),
    Column("Citation"),
    Column("Path"),
)


def models_table(run: Run) -> Table:
    """What the export wrote and the server repeats of each model."""
    return Table(_MODEL_COLUMNS, [_model_row(model) for model in run.models])


def _model_row(model: ModelFacts) -> tuple[str, ...]:
    facts = rows.model_row(model)
    return (
        clean(model.name),
        clean(model.source),
        _revision(clean(model.revision)),
        clean(model.family),
        *cells_of(_EXPORTED, facts | {"executed_by": model.executed_by or "not told"}),
        str(model.embedding_size),
        str(model.opset),
        clean(model.content_hash).removeprefix("sha256:")[:_DIGITS],
        *cells_of(_PARITY, facts),
        *cells_of(_SERVED, facts),
    )


def model_meanings() -> list[Meaning]:
    """What the columns of the models' table mean."""
    digits = Meaning("Revision, Content hash", f"The first {_DIGITS} digits; results.json holds them in full.")
    return [digits, *meanings_of(_MODEL_COLUMNS)]


def datasets_table(run: Run) -> Table:
    """The data on disk that was used."""
    return Table(_DATASET_COLUMNS, [_dataset_row(dataset) for dataset in run.datasets])


def _dataset_row(dataset: DatasetFacts) -> tuple[str, ...]:
    return (
        clean(dataset.id),
        clean(dataset.title),
        dataset.domain,
        f"{dataset.clips:,}",
        UNKNOWN if dataset.clips_official is None else f"{dataset.clips_official:,}",
        f"{dataset.classes_used:,}",
        UNKNOWN if dataset.classes_official is None else f"{dataset.classes_official:,}",
        f"{dataset.folds:,}",
        number(dataset.max_seconds),
        clean(dataset.licence),
        clean(dataset.citation),
        clean(dataset.path),
    )


def _revision(text: str) -> str:
    # A hash is told apart by its first digits; a tag or branch is shown as it is.
    kind, _, digits = text.rpartition(":")
    is_hash = len(digits) >= 32 and set(digits) <= set("0123456789abcdef")
    return f"{kind}:{digits[:_DIGITS]}".lstrip(":") if is_hash else text


def _server_facts(server: ServerFacts) -> str:
    origin = "started by arch for this run" if server.started_by_arch else "already running"
    tls = ", with TLS" if server.tls else ""
    return f"{clean(server.name)} {clean(server.version)} at {clean(server.address)}, {origin}{tls}"


def _in_flight(run: Run) -> str:
    if run.settings.concurrency is not None:
        return f"{run.settings.concurrency:,}, of one clip each"
    found = sorted({result.measurement.concurrency for result in run.results if result.measurement})
    reached = f": {', '.join(f'{count:,}' for count in found)}" if found else ""
    return f"of one clip each, raised until the throughput stopped growing{reached}"


def _phases(run: Run) -> str:
    """How the speed was measured."""
    runs = "once" if run.settings.repeat == 1 else f"{run.settings.repeat:,} times"
    rate = f"{number(run.settings.rate)} clips/s" if run.settings.rate else "70 % of the slowest model's clips/s"
    return (
        f"measured {runs}, in phases: one request in flight; the search for how many to keep in flight, where that was "
        "not asked for; windows of 2 s or more at that number, of which throughput, batch sizes and utilisation are "
        f"taken once three in a row differ by at most 10 %; clips sent at 70 % of that rate. Equal rate: {rate}."
    )


def method_terms(run: Run) -> list[tuple[str, str]]:
    """How it was measured, as terms and texts."""
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
        (ATTRIBUTES["transport"].header, ", ".join(transports) or UNKNOWN),
        ("Workers", f"{settings.workers:,}"),
        ("Speed", _phases(run)),
        (
            "Probes",
            f"{', '.join(settings.probes)}; {plural(settings.epochs, 'epoch')}, "
            f"{plural(settings.seeds, 'seed')} from {settings.seed} on",
        ),
        ("arch", clean(run.arch_version)),
    ]


def setting_line(run: Run) -> str:
    """Server and hardware in one line."""
    servers = {f"{clean(server.name)} {clean(server.version)}" for server in run.servers}
    count = f"{len(run.servers)} servers of " if len(run.servers) > 1 else ""
    machine = run.machine
    client = "" if _same_machine(run) else "client: "
    gpus = ", ".join(clean(gpu.split(",")[0]) for gpu in machine.gpus) or "no GPU"
    hardware = f"{clean(machine.cpu)}, {plural(machine.cores, 'core')}, {number(machine.memory_gib)} GiB, {gpus}"
    return f"{count}{', '.join(sorted(servers))} · {client}{hardware}"


def _same_machine(run: Run) -> bool:
    return all(server.same_machine for server in run.servers)


def hardware_terms(run: Run) -> list[tuple[str, str]]:
    """The client's machine, as terms and texts."""
    machine = run.machine
    return [
        ("Machine", "Client and server" if _same_machine(run) else "Client only; the server's is not known"),
        ("CPU", f"{clean(machine.cpu)}, {plural(machine.cores, 'core')}"),
        ("Memory", f"{number(machine.memory_gib)} GiB"),
        ("GPU", "; ".join(clean(gpu) for gpu in machine.gpus) or "none"),
        ("Operating system", clean(machine.os)),
        ("Python", clean(machine.python)),
    ]
