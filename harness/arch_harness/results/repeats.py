"""The speed of a model over several measurements: mean, interval, and whether two models differ."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from scipy.stats import t as student_t

if TYPE_CHECKING:
    from arch_harness.results.measurement import LoadName, LoadPoint, Measurement, SpeedRun
    from arch_harness.results.run import Result, Run

_LOADS: dict[str, LoadName] = {"": "saturated", "alone_": "alone", "paced_": "paced", "equal_": "equal rate"}

LATENCIES = {
    f"{prefix}{percentile}_ms": (load, percentile)
    for prefix, load in _LOADS.items()
    for percentile in ("p50", "p95", "p99")
}
"""(load, percentile) of each metric that is a latency, by its id."""

EQUAL_FIGURES = ("clips_per_s", "joules_per_clip", "alone_p50_ms", "alone_p99_ms", "equal_p50_ms", "equal_p99_ms")
"""What two models are compared by: throughput, energy where it is of the same hardware (`same_power`), and the
latencies at a load that is the same for both."""

SPEED_FIGURES = ("clips_per_s", *LATENCIES)
"""The metrics of speed that a repeat measures again."""

POWER_FIGURES = ("joules_per_clip", "mean_power_w", "idle_power_w")
"""Those of power, which not every machine tells."""

CONFIDENCE = 0.99
"""Of the intervals: many figures of each pair of models are looked at, and at 95 % one in twenty is a false alarm."""

RESOLUTION = 0.05
"""Differences that are smaller are never called real: the machine's own slow drifts are of that size."""

_SAME_RATE = 0.01


@dataclass(frozen=True)
class Spread:
    """One figure over several measurements.

    Attributes:
        mean: of them.
        half: of the interval of the mean, 99 % unless another was asked for (Student's t over the runs); None of one
            run, which tells nothing of it.
        runs: how many.
    """

    mean: float
    half: float | None
    runs: int


@dataclass(frozen=True)
class SpeedDifference:
    """One figure of two models.

    Attributes:
        ratio: of the first to the second.
        low: end of the interval of the ratio, 99 % unless another was asked for (Welch's t over the logarithms of the
            runs).
        high: the other end.
        verdict: `real` where the interval leaves out 1 and the ratio is 5 % away from it or more.
    """

    ratio: float
    low: float
    high: float
    verdict: Literal["real", "noise"]


def runs_of(measurement: Measurement) -> list[SpeedRun]:
    """The measurements that count: those that lasted long enough, or all where none did."""
    runs: list[SpeedRun] = [measurement, *measurement.repeats]
    return [one for one in runs if one.steadiness != "too short"] or runs


def point_of(measurement: Measurement, load: LoadName) -> LoadPoint | None:
    """The latency at a load, of the first measurement that counts; None where it was not measured."""
    return runs_of(measurement)[0].at(load)


def stalls_of(measurement: Measurement) -> int:
    """Requests that stalled, at all loads of all measurements."""
    return sum(point.stalls for run in (measurement, *measurement.repeats) for point in run.loads)


def values_of(measurement: Measurement, figure: str) -> list[float]:
    """A figure in each run in which it is known; one of `SPEED_FIGURES` or `POWER_FIGURES`."""
    found = [_value(one, figure) for one in runs_of(measurement)]
    return [one for one in found if one is not None]


def mean_of(measurement: Measurement, figure: str) -> float | None:
    """The mean of a figure over the runs; None where it is not known."""
    values = values_of(measurement, figure)
    return statistics.fmean(values) if values else None


def powered_run(measurement: Measurement) -> SpeedRun:
    """The first run that counts whose power is told, or else the first that counts."""
    runs = runs_of(measurement)
    return next((one for one in runs if one.power), runs[0])


def power_sources(measurement: Measurement) -> list[str]:
    """The hardware whose power is told; empty where none is."""
    return sorted(one.source for one in powered_run(measurement).power)


def same_power(one: Measurement, other: Measurement) -> bool:
    """Whether the power of two measurements is of the same kinds of hardware: only then their energies compare."""
    return power_sources(one) == power_sources(other) != []


def rtfx_of(measurement: Measurement) -> float:
    """Seconds of audio embedded per second, as the mean of the clips/s has it."""
    mean = mean_of(measurement, "clips_per_s")
    return measurement.rtfx * mean / measurement.clips_per_s if mean and measurement.clips_per_s else 0.0


def spread_of(measurement: Measurement, figure: str, confidence: float = CONFIDENCE) -> Spread | None:
    """Mean and interval of a figure over the runs; None where it is not known."""
    values = values_of(measurement, figure)
    if not values:
        return None
    half = None
    if len(values) > 1:
        half = _quantile(len(values) - 1, confidence) * statistics.stdev(values) / math.sqrt(len(values))
    return Spread(statistics.fmean(values), half, len(values))


def difference_of(
    first: Measurement, second: Measurement, figure: str, confidence: float = CONFIDENCE
) -> SpeedDifference | None:
    """How a figure of two measurements differs; None where one of them was not repeated."""
    logs = [[math.log(value) for value in values_of(one, figure) if value > 0] for one in (first, second)]
    if min(map(len, logs)) < 2:
        return None
    shift = statistics.fmean(logs[0]) - statistics.fmean(logs[1])
    parts = [statistics.variance(one) / len(one) for one in logs]
    error = math.sqrt(sum(parts))
    freedom = sum(parts) ** 2 / (sum(part**2 / (len(one) - 1) for part, one in zip(parts, logs, strict=True)) or 1)
    half = _quantile(max(1.0, freedom), confidence) * error
    ratio, low, high = (math.exp(value) for value in (shift, shift - half, shift + half))
    real = not low <= 1 <= high and max(ratio, 1 / ratio) >= 1 + RESOLUTION
    return SpeedDifference(ratio, low, high, "real" if real else "noise")


def same_conditions(one: Result, other: Result) -> bool:
    """Whether the speeds of two models of a run tell the models apart, and not also where they were measured."""
    first, second = one.carried, other.carried
    if first is None or second is None:
        return first is second
    kinds = [
        sorted((server.name, server.version, server.same_machine) for server in it.servers) for it in (first, second)
    ]
    return first.machine == second.machine and kinds[0] == kinds[1]


def is_of_this_hardware(run: Run, result: Result) -> bool:
    """Whether the speed of a result was measured on the hardware that the run itself measures on."""
    origin = result.carried
    if origin is None:
        return True
    kinds = [[(one.same_machine, one.name) for one in servers] for servers in (origin.servers, run.servers)]
    facts = [(one.cpu, one.cores, one.gpus) for one in (origin.machine, run.machine)]
    return facts[0] == facts[1] and sorted(kinds[0]) == sorted(kinds[1])


def same_rate(one: float | None, other: float | None) -> bool:
    """Whether two rates are close enough for latencies at them to be compared: within 1 %."""
    return one is not None and other is not None and abs(one - other) <= _SAME_RATE * other


def _value(run: SpeedRun, figure: str) -> float | None:
    if figure not in LATENCIES:
        found: float | None = getattr(run, figure)
        return found
    load, percentile = LATENCIES[figure]
    point = run.at(load)
    return None if point is None or point.latency_ms is None else getattr(point.latency_ms, percentile)


def _quantile(freedom: float, confidence: float) -> float:
    return float(student_t.ppf(0.5 + confidence / 2, freedom))
