"""What is asked of a load test: the promise of a latency, the rates, the scenario, the length of a run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from arch_common.errors import UsageError

from arch_harness.results.measurement import Transport

Scenario = Literal["server", "offline", "single-stream", "multi-stream"]

FULL_S = 600.0
"""Of a run by MLPerf's rules."""

DEFAULT_DURATION_S = 10.0
DEFAULT_SAMPLES = 8
DEFAULT_REPEATS = 3
DEFAULT_STEPS = 8
_HIGHEST = 99.999  # with each further 9 early stopping wants ten times as many queries
_CONFIDENCE = 0.99  # LoadGen's own for early stopping
_MOST_STEPS = 50
_NUMBER = r"(\d{1,9}(?:\.\d{1,9})?)"


@dataclass(frozen=True)
class Slo:
    """A promise: so large a share of the clips is answered within so many milliseconds of the moment it is due."""

    share: float
    milliseconds: float

    @property
    def name(self) -> str:
        """The percentile: p99."""
        return f"p{100 * self.share:g}"

    def __str__(self) -> str:
        return f"{self.name} <= {self.milliseconds:g} ms"

    def kept(self, over: int, answers: int) -> bool:
        """Whether no more answers than are allowed were over the limit."""
        return over <= (1 - self.share) * answers


def parse_slo(text: str) -> Slo:
    """The promise in `p99=200ms`.

    Raises:
        UsageError: if it is none, or of a percentile that no run is long enough for.
    """
    found = re.fullmatch(rf"p{_NUMBER} ?(?:=|<=|<) ?{_NUMBER} ?(ms|s)", text.strip())
    if found is None or not 50 <= float(found[1]) < 100 or float(found[2]) <= 0:
        raise UsageError(f"--slo {text!r} is no promise: wants a percentile from p50 and a time, such as p99=200ms")
    if float(found[1]) > _HIGHEST:
        queries = least_queries(_HIGHEST / 100)
        raise UsageError(
            f"--slo {text!r} cannot be tested: p{_HIGHEST:g} is the highest, with {queries:,} queries a run"
        )
    return Slo(round(float(found[1]) / 100, 9), float(found[2]) * (1000 if found[3] == "s" else 1))


def parse_rates(text: str) -> list[float]:
    """The rates in `20`, `5:100` or `5:100:8`, clips/s; a range is walked in steps of one ratio, its ends included.

    Raises:
        UsageError: if they are none.
    """
    parts = text.split(":")
    numbers = [float(one) for one in parts if re.fullmatch(_NUMBER, one)]
    wants = f"--rate {text!r} cannot be right: wants clips/s, as FROM:TO, FROM:TO:STEPS or one number: 5:100:8"
    if len(numbers) != len(parts) or len(parts) > 3 or min(numbers) <= 0:
        raise UsageError(wants)
    if len(parts) == 1:
        return numbers
    steps = numbers[2] if len(parts) == 3 else DEFAULT_STEPS
    if numbers[0] >= numbers[1] or steps != int(steps) or not 2 <= steps <= _MOST_STEPS:
        raise UsageError(f"{wants}; TO is above FROM, and there are 2 to {_MOST_STEPS} steps")
    ratio = (numbers[1] / numbers[0]) ** (1 / (steps - 1))
    return [numbers[0] * ratio**step for step in range(int(steps))]


def least_queries(share: float, late: int = 0) -> int:
    """Queries below which LoadGen's early stopping passes no run at a percentile, with none or one that is late.

    The least n at which so few late ones would come by chance in 1 of 100 runs whose percentile is not kept: at p99
    459, and 662 with one.
    """
    queries = 1
    while share**queries + late * queries * (1 - share) * share ** (queries - 1) > 1 - _CONFIDENCE:
        queries += 1
    return queries


@dataclass(frozen=True)
class LoadRequest:
    """What is asked for.

    Attributes:
        scenario: of LoadGen.
        slo: the promise; None where latencies are measured only.
        rates: clips/s of the curve; empty searches the highest.
        min_duration_s: the least length of a run.
        min_queries: the fewest queries of a run.
        samples_per_query: clips of a query, multi-stream only; None for `DEFAULT_SAMPLES`.
        clips: of the dataset that are sent, again and again.
        repeats: rounds of three runs around the rate that the search has found; None for `DEFAULT_REPEATS`.
        seed: of the arrivals and of the clips.
        transport: how the audio goes to the servers, and to the one that the client's ceiling is measured against.
        hop_s: seconds between two clips of a stream, for the answer in words; None for clips that follow one another.
        workers: processes that send together.
    """

    scenario: Scenario = "server"
    slo: Slo | None = None
    rates: tuple[float, ...] = ()
    min_duration_s: float = DEFAULT_DURATION_S
    min_queries: int = 100
    samples_per_query: int | None = None
    clips: int = 256
    repeats: int | None = None
    seed: int = 0
    transport: Transport = "grpc"
    hop_s: float | None = None
    workers: int = 1

    def __post_init__(self) -> None:
        if self.scenario != "server" and self.rates:
            raise UsageError(f"--rate is of the scenario server: LoadGen sends {self.scenario} as fast as answers come")
        if self.scenario == "server" and self.slo is None:
            raise UsageError("--slo is missing: the scenario server holds a rate to a promise, such as p99=200ms")
        self._check_used()
        if self.workers > 1 and self.scenario not in ("server", "offline"):
            raise UsageError(
                f"--workers is of the scenarios server and offline: in {self.scenario} one process waits for answers"
            )
        for name, value, least in (
            ("--min-duration", self.min_duration_s, 0.1),
            ("--min-queries", self.min_queries, 1),
            ("--clips", self.clips, 1),
            ("--samples-per-query", self.samples_per_query, 1),
            ("--repeats", self.repeats, 1),
            ("--workers", self.workers, 1),
            ("--hop", self.hop_s, 0.001),
        ):
            if value is not None and not least <= value < 1e9:
                raise UsageError(f"{name} cannot be {value:g}: wants {least:g} or more")

    def _check_used(self) -> None:
        """Refuse what the scenario has no use for: it would be left out without a word.

        Raises:
            UsageError: if there is any.
        """
        if self.scenario == "offline" and self.slo is not None:
            raise UsageError("--slo is of the other scenarios: offline sends all clips at once and judges no latency")
        if self.scenario != "multi-stream" and self.samples_per_query is not None:
            raise UsageError(f"--samples-per-query is of the scenario multi-stream: in {self.scenario} it has no use")
        if self.scenario != "server" and self.hop_s is not None:
            raise UsageError(f"--hop is of the scenario server: in {self.scenario} no streams are counted")
        if self.repeats is not None and (self.scenario != "server" or self.rates):
            why = "with --rate" if self.rates else f"in {self.scenario}"
            raise UsageError(f"--repeats is of the search for the highest rate: {why} there is none")

    @property
    def share(self) -> float:
        """The percentile that LoadGen judges."""
        if self.slo is not None:
            return self.slo.share
        return 0.9 if self.scenario == "single-stream" else 0.99


def default_queries(scenario: Scenario, slo: Slo | None) -> int:
    """The fewest queries of a run unless told otherwise: with which LoadGen's early stopping can pass."""
    if scenario == "offline":
        return 1  # one query of all clips
    # In the streams LoadGen gives an estimate of the percentile, above which one query lies.
    return least_queries(LoadRequest(scenario, slo).share, late=0 if scenario == "server" else 1)
