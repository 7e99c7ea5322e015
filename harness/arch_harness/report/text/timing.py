"""Where the time goes: a clip's way through workers and servers, what was the limit, and the faults on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from arch_harness.measuring.bottleneck import SATURATED
from arch_harness.report.text.numbers import clean, number, plural
from arch_harness.report.text.tables import Column, Meaning, Section, Table
from arch_harness.results.measurement import Faults

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from arch_harness.results.measurement import Measurement, ServerTimes
    from arch_harness.results.run import Result

_CORES_BUSY = 0.9
"""Share of the machine's cores from which on more workers find none that is free."""


@dataclass(frozen=True)
class Timing:
    """The section of the report.

    Attributes:
        sentences: what limited the throughput, one of each result that was measured.
        stages: the table, one row of each of them.
        meanings: what its numbers mean.
        more: the servers where there are several, the faults where there are any.
    """

    sentences: list[str]
    stages: Table
    meanings: list[Meaning]
    more: list[Section]


@dataclass(frozen=True)
class _TimingColumn(Column):
    value: Callable[[Measurement], str] = lambda _: ""


def verdict(measurement: Measurement, cores: int) -> str:
    """What limited the throughput, and what can be done about it; one sentence.

    Args:
        measurement: of one model on one dataset.
        cores: of the client's machine.
    """
    stages, full = measurement.stages, measurement.occupancy
    if stages is None or full is None or measurement.bottleneck is None:
        return "No clip was answered."

    def part(milliseconds: float | None) -> str:
        return _whole((milliseconds or 0.0) / (stages.latency_ms or 1.0))

    computes = "" if full.server is None else f", while the server computes {_whole(full.server)} of the time"
    crowded = "; every core of this machine is busy" if _crowded(measurement, cores) else ""
    match measurement.bottleneck:
        case "server compute" if full.server is not None and full.server >= SATURATED:
            return f"The server computes {_whole(full.server)} of the time: the harness is not the limit."
        case "server compute":
            return (
                f"The server's execution takes {part(stages.compute_ms)} of a request's latency{computes}: "
                "more requests in flight (--concurrency) would keep it busier."
            )
        case "server queue":
            return (
                f"Waiting in the server's queue takes {part(stages.queue_ms)} of a request's latency"
                f"{computes}: more requests in flight (--concurrency) or a shorter queue delay of the model would help."
            )
        case "network":
            return (
                f"The way between client and server takes {part(stages.network_ms)} of a request's latency"
                f"{computes}: the network and the handling of messages are the limit{crowded}."
            )
        case "server or network":
            return (
                f"Requests under way take {_whole(full.in_flight)} of the places for them: servers or network are the "
                "limit, which of them is not known without the servers' counters."
            )
        case "decoding":
            advice = "add cores, every one of this machine is busy" if crowded else "add workers"
            return f"Decoding takes {_whole(full.decoding)} of the workers' time and is the limit: {advice}."
        case "client":
            return (
                f"The client keeps {_whole(full.in_flight)} of the places in flight taken{computes}: making requests "
                f"and taking answers is the limit{crowded or '; more workers would help'}."
            )


def _crowded(measurement: Measurement, cores: int) -> bool:
    """Whether hardly a core of the client's machine is free, so that more workers would only take turns."""
    busy = measurement.utilisation.means()["machine_cores"]
    return busy is not None and busy >= _CORES_BUSY * cores


def _whole(share: float) -> str:
    return f"{100 * share:.0f} %"


def _figure(value: float | None, factor: float = 1.0) -> str:
    return "–" if value is None else number(factor * value)


def _stage(name: str) -> Callable[[Measurement], str]:
    return lambda one: "–" if one.stages is None else _figure(getattr(one.stages, name))


def _full(name: str) -> Callable[[Measurement], str]:
    def value(one: Measurement) -> str:
        full = one.occupancy
        return _figure(None if full is None else getattr(full, name), 100)

    return value


def batches(server: ServerTimes | None) -> str:
    """The mean batch size, and the one that most requests were part of."""
    if server is None or not server.batch_sizes:
        return "–"
    requests = {size: size * count for size, count in server.batch_sizes.items()}
    most = max(requests, key=lambda size: (requests[size], size))
    return f"{number(server.mean_batch_size)}, mostly {most}"


STAGE_COLUMNS = (
    _TimingColumn("Decode", "ms", True, _stage("decode_ms")),
    _TimingColumn("Resample", "ms", True, _stage("resample_ms")),
    _TimingColumn("Wait", "ms", True, _stage("wait_ms")),
    _TimingColumn("Network", "ms", True, _stage("network_ms")),
    _TimingColumn("Queue", "ms", True, _stage("queue_ms")),
    _TimingColumn("Compute", "ms", True, _stage("compute_ms")),
    _TimingColumn("Batch sizes", "", True, lambda one: batches(one.server)),
    _TimingColumn(
        "In flight", "", True, lambda one: f"{one.concurrency:,}{', found' if one.concurrency_found else ''}"
    ),
    _TimingColumn("Taken", "%", True, _full("in_flight")),
    _TimingColumn("Decoding", "%", True, _full("decoding")),
    _TimingColumn("Server busy", "%", True, _full("server")),
    _TimingColumn("Client", "cores", True, lambda one: _figure(one.utilisation.means()["client_cores"])),
    _TimingColumn("Machine", "cores", True, lambda one: _figure(one.utilisation.means()["machine_cores"])),
    _TimingColumn(
        "GPU",
        "%",
        True,
        lambda one: _figure(one.utilisation.means()["gpu_busy"], 100),
    ),
    _TimingColumn("Limit", value=lambda one: one.bottleneck or "–"),
)

MEANINGS = [
    Meaning(
        "Decode, Resample, Wait",
        "A clip's mean time in a worker: reading and decoding the file, resampling, and waiting decoded for a free "
        "place in flight.",
    ),
    Meaning(
        "Network",
        "The mean latency less queue and compute: both ways between client and server, making and taking apart the "
        "messages, and back-off after a refusal.",
    ),
    Meaning(
        "Batch sizes", "The mean over the executions, and the size of the executions that served the most requests."
    ),
    Meaning(
        "In flight, Taken",
        "The places for requests under way, over all workers and servers, and how many of them were taken on average. "
        "'found' says that they were raised until the throughput stopped growing.",
    ),
    Meaning(
        "Decoding", "The part of the time of the workers' threads that went into reading, decoding and resampling."
    ),
    Meaning("Server busy", "The part of the time in which the model's instances executed, by Triton's statistics."),
    Meaning(
        "Client, Machine",
        "Cores of this machine that driver and workers kept busy, and that anything kept busy, the means over the "
        "measurement. Workers on other machines are not among them.",
    ),
    Meaning("GPU", "The part of the time in which the servers' GPUs computed, where that can be read."),
    Meaning(
        "Limit",
        f"'server compute' if the server was busy for at least {_whole(SATURATED)} of the time. Otherwise, if the "
        "places in flight were nearly always taken, where a request spent most of its latency; if not, what the "
        "workers did instead.",
    ),
]


def build(results: Sequence[Result], cores: int) -> Timing | None:
    """The section on `results`, in the order in which they are shown; None if none of them was measured.

    Args:
        results: of the run.
        cores: of the client's machine.
    """
    measured = [(result, result.measurement) for result in results if result.measurement is not None]
    if not measured:
        return None
    names = (Column("Dataset"), Column("Model"))
    return Timing(
        sentences=[f"{_pair(result)}: {verdict(one, cores)}" for result, one in measured],
        stages=Table(
            (*names, *STAGE_COLUMNS),
            [
                (clean(result.dataset), clean(result.model), *(column.value(one) for column in STAGE_COLUMNS))
                for result, one in measured
            ],
        ),
        meanings=MEANINGS,
        more=[section for section in (_servers(measured), _faults(measured)) if section.table.rows],
    )


def notes(results: Sequence[Result]) -> list[str]:
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
        if result.stored:
            lines.append(
                f"{_pair(result)}: {result.stored:,} of {plural(result.clips, 'embedding')} were read from the store. "
                f"Throughput and latency are of the {one.clips:,} that this run computed."
            )
        if one.server is None and one.clips:
            lines.append(
                f"{_pair(result)}: a server ended or was restarted during the measurement and its statistics are lost "
                "(queue, compute, batch sizes)."
            )
        # What a killed worker or a try given up had asked for is computed all the same, and nobody else's.
        own = one.faults.workers_lost or one.faults.timed_out
        if one.server is not None and one.server.foreign_requests and not own:
            lines.append(
                f"{_pair(result)}: others sent the model {plural(one.server.foreign_requests, 'request')} during the "
                "measurement. The server's figures (queue, compute, batch sizes) include them."
            )
    return lines


def _pair(result: Result) -> str:
    return f"{clean(result.dataset)} × {clean(result.model)}"


def _servers(measured: Sequence[tuple[Result, Measurement]]) -> Section:
    columns = (
        Column("Dataset"),
        Column("Model"),
        Column("Server"),
        Column("Clips", "", True),
        Column("Share", "%", True),
        Column("Queue", "ms", True),
        Column("Compute", "ms", True),
        Column("Batch", "mean", True),
        Column("Dropped", "times", True),
    )
    rows = []
    for result, one in measured:
        for share in one.servers if len(one.servers) > 1 else []:
            times = share.times
            rows.append(
                (
                    clean(result.dataset),
                    clean(result.model),
                    clean(share.address),
                    f"{share.clips:,}",
                    _figure(share.clips / one.clips if one.clips else None, 100),
                    *(("–",) * 3 if times is None else map(number, _server_figures(times))),
                    f"{share.dropped:,}",
                )
            )
    text = (
        "The servers share the clips by requests under way: the next clip goes to the one with the fewest. A server "
        "that does not answer is dropped, and taken back when it is ready again; a dash stands where its counters are "
        "lost."
    )
    return Section("Servers", text, Table(columns, rows))


def _server_figures(times: ServerTimes) -> tuple[float, float, float]:
    return times.queue_ms, times.compute_ms, times.mean_batch_size


def _faults(measured: Sequence[tuple[Result, Measurement]]) -> Section:
    kinds = {
        "retries": "Retries",
        "queue_full": "Queue full",
        "unreachable": "Unreachable",
        "cut_off": "Cut off",
        "stopping": "Stopping",
        "timed_out": "Timed out",
        "late": "Late answers",
        "refused": "Refused",
        "malformed": "Malformed",
        "workers_lost": "Workers lost",
    }
    columns = (Column("Dataset"), Column("Model"), *(Column(title, "", True) for title in kinds.values()))
    rows = [
        (
            clean(result.dataset),
            clean(result.model),
            *(f"{getattr(one.faults, name):,}" for name in kinds),
        )
        for result, one in measured
        if one.faults != Faults()
    ]
    text = (
        "Counts of tries. A try that found the queue full, the server unreachable or stopping, that was cut off by its "
        "end, or that timed out, was repeated, elsewhere if there is another server; what a server refused was given "
        "to another one once; malformed answers are final. Time in tries and pauses is part of the latency."
    )
    return Section("Faults", text, Table(columns, rows))
