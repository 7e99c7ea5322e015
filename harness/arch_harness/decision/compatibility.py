"""Whether two runs can be compared: each field in which they differ, and what that touches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from arch_harness.report.text.numbers import clean
from arch_harness.results.repeats import point_of, power_sources, same_rate
from arch_harness.results.run import Origin

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from arch_harness.results.measurement import Measurement
    from arch_harness.results.run import Result, Run

Touched = Literal["scores", "speed", "latency", "energy", "everything"]

_LISTING = "datasets[].listing (clips, labels and folds)"
_OF_SPEED = ("max_batch_size", "max_queue_delay_us", "max_queue_size", "instances", "threads", "conv_search")
_LONGEST = 60


@dataclass(frozen=True)
class Mismatch:
    """A field in which two runs differ.

    Attributes:
        field: its name in `results.json`.
        ours: what the run has.
        theirs: what the baseline has.
        touches: which figures mean something else by it.
        refused: whether these are not compared at all.
        decides: whether a gate takes no differences of these figures for a change of the model.
        where: the model and dataset that it is of; empty for the whole run.
    """

    field: str
    ours: str
    theirs: str
    touches: Touched
    refused: bool = False
    decides: bool = False
    where: str = ""

    def line(self) -> str:
        """All that in one line."""
        subject = f"{self.where}: " if self.where else ""
        what = {
            "scores": "scores",
            "speed": "speed and latency",
            "latency": "latencies at that load",
            "energy": "energies",
            "everything": "scores, speed and latency",
        }
        many = "are not compared" if self.refused else "may differ by that alone"
        return f"{subject}{self.field} is {self.ours}, and {self.theirs} in the baseline: {what[self.touches]} {many}"


def run_mismatches(ours: Run, theirs: Run) -> list[Mismatch]:
    """What differs between two runs as a whole: hardware, servers, protocol, versions."""
    return [
        *_protocol(ours, theirs),
        *hardware_mismatches(origin_of(ours), origin_of(theirs)),
        *_versions(ours, theirs),
    ]


def _protocol(ours: Run, theirs: Run) -> Iterator[Mismatch]:
    settings = ours.settings, theirs.settings
    yield from _differing("settings", settings, ["epochs"], "scores", refused=True)
    # Other seeds give another estimate of the same score; the interval does not hold what they change.
    yield from _differing("settings", settings, ["seed", "seeds"], "scores")
    yield from _differing("settings", settings, ["concurrency", "workers"], "speed")


def origin_of(run: Run, result: Result | None = None) -> Origin:
    """Where and when a speed was measured: in the run, or where the result says."""
    if result is not None and result.carried is not None:
        return result.carried
    started = run.created if result is None else result.started
    return Origin(started=started, arch_version=run.arch_version, machine=run.machine, servers=run.servers)


def hardware_mismatches(ours: Origin, theirs: Origin) -> Iterator[Mismatch]:
    """What differs between the places of two speeds: the client's machine, and the servers."""
    machines = ours.machine, theirs.machine
    yield from _differing("machine", machines, ["cpu", "cores", "gpus"], "speed", decides=True)
    memory = round(ours.machine.memory_gib), round(theirs.machine.memory_gib)
    yield from _unequal("machine.memory_gib", memory, "speed")
    yield from _unequal("the number of servers", (len(ours.servers), len(theirs.servers)), "speed", decides=True)
    yield from _unequal("servers[].same_machine", _of_servers(ours, theirs, "same_machine"), "speed", decides=True)
    yield from _unequal("servers[].tls", _of_servers(ours, theirs, "tls"), "speed")
    if not all(server.same_machine for origin in (ours, theirs) for server in origin.servers):
        # What a server elsewhere runs on is not known, but it has an address.
        yield from _unequal("servers[].address", _of_servers(ours, theirs, "address"), "speed")


def _versions(ours: Run, theirs: Run) -> Iterator[Mismatch]:
    yield from _unequal("arch_version", (ours.arch_version, theirs.arch_version), "everything")
    yield from _unequal("servers[].version", _of_servers(ours, theirs, "version"), "speed")
    yield from _differing("machine", (ours.machine, theirs.machine), ["os", "python"], "speed")
    packages = ours.machine.packages, theirs.machine.packages
    names = [name for name in sorted({*packages[0], *packages[1]}) if packages[0].get(name) != packages[1].get(name)]
    shown = [", ".join(f"{name} {one.get(name, 'none')}" for name in names) for one in packages]
    yield from _unequal("machine.packages", (shown[0], shown[1]), "everything")


def pair_mismatches(ours: Run, theirs: Run, result: Result, other: Result) -> list[Mismatch]:
    """What differs between two results beside their figures: the data, the metric, how the model was served."""
    sides = (ours, result), (theirs, other)
    listings = [next(one.listing for one in run.datasets if one.id == found.dataset) for run, found in sides]
    models = [next(one for one in run.models if one.name == found.model) for run, found in sides]
    found = [
        *_unequal(_LISTING, (listings[0][:12], listings[1][:12]), "everything", refused=True),
        *_unequal("results[].metric", (result.metric, other.metric), "scores", refused=True),
        *_unequal("results[].failed", (result.failed, other.failed), "scores"),
        *_differing("models[]", models, ["executed_by"], "everything"),
        *_differing("models[]", models, _OF_SPEED, "speed"),
    ]
    measured = result.measurement, other.measurement
    if measured[0] is not None and measured[1] is not None:
        found += _differing("measurement", measured, ["transport"], "speed", decides=True)
        found += _loads(measured[0], measured[1])
        sources = [power_sources(one) for one in measured if one is not None]
        found += _unequal("measurement.consumption.power[].source", sources, "energy", refused=True)
        if result.carried is not None or other.carried is not None:
            found += _taken_over(ours, theirs, result, other)
    return [replace(one, where=clean(f"{result.model} on {result.dataset}")) for one in found]


def _taken_over(ours: Run, theirs: Run, result: Result, other: Result) -> Iterator[Mismatch]:
    """What differs between the places of two speeds of which one at least was measured in an earlier run."""
    dates = [one.carried.started.strftime("%Y-%m-%d %H:%M") if one.carried else None for one in (result, other)]
    said = ["measured in the run" if date is None else f"measured in an earlier run of {date}" for date in dates]
    yield from _unequal("results[].carried", said, "speed")
    origins = origin_of(ours, result), origin_of(theirs, other)
    told = set(hardware_mismatches(origin_of(ours), origin_of(theirs)))  # of the runs as a whole
    yield from (one for one in hardware_mismatches(*origins) if one not in told)
    yield from _unequal("carried.arch_version", [one.arch_version for one in origins], "speed")
    yield from _unequal("carried.servers[].version", _of_servers(*origins, "version"), "speed")


def _loads(ours: Measurement, theirs: Measurement) -> Iterator[Mismatch]:
    """Loads that both have and at which their latencies cannot be compared."""
    one, other = point_of(ours, "saturated"), point_of(theirs, "saturated")
    if one and other:
        yield from _unequal("loads[saturated].in_flight", (one.in_flight, other.in_flight), "latency", refused=True)
    one, other = point_of(ours, "equal rate"), point_of(theirs, "equal rate")
    if one and other and not same_rate(one.rate, other.rate):
        yield from _unequal("loads[equal rate].rate", (one.rate, other.rate), "latency", refused=True)


def lines_of(mismatches: Iterable[Mismatch]) -> list[str]:
    """A line each, those that refuse first; what is alike in several pairs is said once, with how many they are."""
    groups: dict[tuple[object, ...], list[Mismatch]] = {}
    for one in sorted(mismatches, key=lambda one: not one.refused):
        groups.setdefault((one.field, one.ours, one.theirs, one.touches, one.refused), []).append(one)
    found = []
    for group in groups.values():
        first = group[0]
        where = first.where if len(group) == 1 else f"{first.where} and {len(group) - 1} more"
        found.append(replace(first, where=where).line())
    return found


def _differing(
    prefix: str,
    sides: Sequence[object],
    names: Sequence[str],
    touches: Touched,
    *,
    refused: bool = False,
    decides: bool = False,
) -> Iterator[Mismatch]:
    for name in names:
        values = [getattr(one, name) for one in sides]
        yield from _unequal(f"{prefix}.{name}", values, touches, refused=refused, decides=decides)


def _unequal(
    field: str, values: Sequence[object], touches: Touched, *, refused: bool = False, decides: bool = False
) -> Iterator[Mismatch]:
    ours, theirs = values
    if ours != theirs:
        yield Mismatch(field, _shown(ours), _shown(theirs), touches, refused, decides)


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "none"
    text = clean(f"{value:.4g}" if isinstance(value, float) else str(value))
    return {"None": "not set", "": "not known"}.get(text, text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…")


def _of_servers(ours: Run | Origin, theirs: Run | Origin, field: str) -> tuple[list[object], list[object]]:
    """The values of a field over the servers of each run, each once."""

    def values(origin: Run | Origin) -> list[object]:
        return sorted({getattr(server, field) for server in origin.servers}, key=str)

    return values(ours), values(theirs)
