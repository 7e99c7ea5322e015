"""Where the time goes: a clip's way through workers and servers, what was the limit, and the faults on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from arch_harness.report.text.numbers import UNKNOWN, clean, format_metric, number, plural
from arch_harness.report.text.speed.advice import Situation, sentences_of
from arch_harness.report.text.tables import (
    Column,
    Meaning,
    Section,
    Table,
    cells_of,
    columns_of,
    meanings_of,
    measured_model,
)
from arch_harness.results import rows
from arch_harness.results.measurement import Faults

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from arch_harness.results.measurement import Measurement
    from arch_harness.results.run import Result, Run


@dataclass(frozen=True)
class Timing:
    """The section of the report.

    Attributes:
        sentences: what limited the throughput, one of each result that was measured.
        groups: the same grouped by the limit: (how many it was, their sentences).
        stages: the table, one row of each of them.
        meanings: what its numbers mean.
        more: the servers where there are several, the nodes of a cluster, the faults where there are any.
    """

    sentences: list[str]
    groups: list[tuple[str, list[str]]]
    stages: Table
    meanings: list[Meaning]
    more: list[Section]


STAGE_COLUMNS = columns_of(
    *("dataset", "model", "decode_ms", "resample_ms", "wait_ms", "network_ms", "queue_ms", "compute_ms"),
    *("batch_sizes", "concurrency", "in_flight_taken", "decoding_busy", "server_busy", "client_cores"),
    *("machine_cores", "gpu_busy", "transport", "bottleneck"),
)


def build_timing(run: Run, results: Sequence[Result], known: Sequence[Column] = ()) -> Timing | None:
    """The section on `results`, in the order in which they are shown; None if none of them was measured.

    Args:
        run: whose results they are.
        results: of the run.
        known: columns that are explained already.
    """
    measured = [(result, result.measurement) for result in results if result.measurement is not None]
    models = {model.name: model for model in run.models}
    together = all(server.same_machine for server in run.servers)
    if not measured:
        return None
    explained = (*known, *STAGE_COLUMNS)
    situations = [
        (
            result,
            Situation(
                one,
                models[result.model],
                run.machine.cores,
                together,
                asked=run.settings.concurrency is not None,
                shared_memory=run.settings.transport == "shared-memory",
            ),
        )
        for result, one in measured
    ]
    sentences = {id(result): f"{_pair(result)}: {' '.join(sentences_of(found))}" for result, found in situations}
    return Timing(
        sentences=list(sentences.values()),
        groups=[
            (f"{len(found)} of {len(measured)}: {limit}", [sentences[id(one)] for one in found])
            for limit, found in limits_of(results)
        ],
        stages=Table(STAGE_COLUMNS, [cells_of(STAGE_COLUMNS, _stage_values(result, one)) for result, one in measured]),
        meanings=meanings_of(STAGE_COLUMNS, known),
        more=[
            section
            for section in (_servers(measured, explained), _nodes(measured, explained), _faults(measured, explained))
            if section.table.rows
        ],
    )


def limits_of(results: Iterable[Result]) -> list[tuple[str, list[Result]]]:
    """The results that were measured by what limited them, the most frequent limit first."""
    found: dict[str, list[Result]] = {}
    for result in results:
        if result.measurement is not None:
            found.setdefault(result.measurement.bottleneck or "no clip answered", []).append(result)
    return sorted(found.items(), key=lambda item: -len(item[1]))


def limits_line(results: Iterable[Result]) -> str:
    """What limited the throughput, grouped, in one sentence; empty where nothing was measured."""
    groups = limits_of(results)
    total = sum(len(found) for _, found in groups)
    shown = ", ".join(f"{len(found)} of {total}: {limit}" for limit, found in groups)
    return f"Limit of the throughput: {shown}." if groups else ""


def _stage_values(result: Result, measurement: Measurement) -> dict[str, Any]:
    values = rows.row(result, None)
    if measurement.concurrency_found:
        values["concurrency"] = f"{format_metric('concurrency', measurement.concurrency)}, found"
    return values


def timing_notes(results: Sequence[Result]) -> list[str]:
    """What was read from the store, and what others did on the servers during the measurement."""
    lines = []
    for result in results:
        one = result.measurement
        if one is None:
            lines.append(
                f"{_pair(result)}: every embedding was read from the store, where an earlier run had put it. Nothing "
                "was measured: there is no throughput and no latency."
            )
            continue
        if result.carried is not None:
            lines.append(
                f"{_pair(result)}: {result.stored:,} of {plural(result.clips, 'embedding')} were read from the store. "
                f"Throughput and latency are of the {one.clips:,} that an earlier run computed."
            )
        elif result.stored:
            lines.append(
                f"{_pair(result)}: {result.stored:,} of {plural(result.clips, 'embedding')} were read from the store. "
                f"Throughput and latency are of the {one.clips:,} that this run computed."
            )
        if one.server is None and one.clips:
            lines.append(
                f"{_pair(result)}: a server ended or was restarted during the measurement and its statistics are lost "
                "(queue, compute, batch sizes)."
            )
        # What a killed worker or an attempt given up had asked for is computed all the same, and nobody else's.
        own = one.faults.workers_lost or one.faults.timed_out
        if one.server is not None and one.server.foreign_requests and not own:
            lines.append(
                f"{_pair(result)}: others sent the model {plural(one.server.foreign_requests, 'request')} during the "
                "measurement. The server's figures (queue, compute, batch sizes) include them."
            )
    return lines


def _pair(result: Result) -> str:
    return f"{clean(result.dataset)} × {measured_model(result)}"


def _servers(measured: Sequence[tuple[Result, Measurement]], known: Sequence[Column]) -> Section:
    of_server = columns_of("queue_ms", "compute_ms", "mean_batch_size", "dropped")
    columns = (
        *columns_of("dataset", "model"),
        Column("Server"),
        Column("Clips", "", True),
        Column("Share", "%", True),
        *of_server,
    )
    found = []
    for result, one in measured:
        together = sum(share.clips for share in one.servers)
        for share in one.servers if len(one.servers) > 1 else []:
            times = rows.server_row(share.times) if share.times else {}
            found.append(
                (
                    clean(result.dataset),
                    measured_model(result),
                    clean(share.address),
                    f"{share.clips:,}",
                    number(100 * share.clips / together) if together else UNKNOWN,
                    *cells_of(of_server, times | {"dropped": share.dropped}),
                )
            )
    text = (
        "The servers share the clips by requests under way: the next clip goes to the one with the fewest. Clips and "
        "shares are of the measured phase. A server that does not answer is dropped, and taken back when it is ready "
        "again; a dash stands where its counters are lost."
    )
    return Section("Servers", text, Table(columns, found), meanings_of(columns, known))


def _nodes(measured: Sequence[tuple[Result, Measurement]], known: Sequence[Column]) -> Section:
    of_workers = columns_of("workers_lost")
    columns = (
        *columns_of("dataset", "model"),
        Column("Node"),
        *(Column(header, "", True) for header in ("Cores", "Workers", "Clips")),
        *of_workers,
        Column("Remarks"),
    )
    found = [
        (
            clean(result.dataset),
            measured_model(result),
            f"{clean(node.name)} ({clean(node.address)})",
            f"{node.cores:,}",
            f"{node.workers:,}",
            f"{node.clips:,}",
            *cells_of(of_workers, {"workers_lost": node.workers_lost}),
            ", ".join(["lost"] * node.lost + ["was sent the files"] * node.files_sent),
        )
        for result, one in measured
        for node in one.nodes
    ]
    text = (
        "Workers on the nodes of a Ray cluster read and sent the clips. What a node that was lost had not brought was "
        "sent again from the others; one without the dataset's files was sent those of its clips. Busy cores are those "
        "of the driver's node alone."
    )
    return Section("Nodes", text, Table(columns, found), meanings_of(columns, known))


def _faults(measured: Sequence[tuple[Result, Measurement]], known: Sequence[Column]) -> Section:
    columns = columns_of("dataset", "model", *Faults.model_fields)
    found = [cells_of(columns, rows.row(result, None)) for result, one in measured if one.faults != Faults()]
    text = (
        "An attempt that found the queue full, the server unreachable or stopping, that was cut off by its end, or "
        "that timed out, was repeated, elsewhere if there is another server; what a server refused was given to "
        "another one once; malformed answers are final. Time in attempts and pauses is part of the latency."
    )
    return Section("Faults", text, Table(columns, found), meanings_of(columns, known))
