"""Searches the highest rate of simulated queues whose limit is known: how far off, and whether the interval holds it.

`python benchmarks/load_search.py`. One server works at a clip 0.3 to 1.7 times as long as in the mean; clips come at
random moments (Poisson); every run begins with an empty queue, as LoadGen's do. The limit is the rate at which 1 % of
the answers of a run without an end are later than the promise of 200 ms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from arch_harness.load.search import Found, Observation, find_highest
from numpy.typing import NDArray

PROMISE_S, ALLOWED = 0.2, 0.01
SEARCHES = 60
_ENDLESS = 4_000_000  # arrivals of a run that stands for one without an end


@dataclass(frozen=True)
class Row:
    """A queue and the runs that it is searched by.

    Attributes:
        work_s: mean time of a clip.
        run_s: length of a run.
        below: utilisations between which the limit is.
    """

    work_s: float
    run_s: float
    below: tuple[float, float]

    @property
    def times(self) -> float:
        """The promise, in times the work of a clip."""
        return PROMISE_S / self.work_s


ROWS = (Row(0.002, 30, (0.94, 0.995)), Row(0.010, 60, (0.8, 0.92)), Row(0.010, 10, (0.8, 0.92)))


def waits(rate: float, work_s: float, arrivals: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Seconds from arrival to answer at one server whose queue is empty at first; Lindley's recursion."""
    times = np.cumsum(random.exponential(1 / rate, arrivals))
    work = np.cumsum(work_s * random.uniform(0.3, 1.7, arrivals))
    waited: NDArray[np.float64] = np.maximum.accumulate(times - np.concatenate(([0.0], work[:-1]))) + work - times
    return waited


@cache
def _limit(work_s: float, below: tuple[float, float], arrivals: int) -> float:
    rates = np.linspace(*below, 12) / work_s
    random = np.random.default_rng(99)
    shares = [float((waits(rate, work_s, arrivals, random) > PROMISE_S).mean()) for rate in rates]
    return math.exp(np.interp(math.log(ALLOWED), np.log(np.maximum(shares, 1e-9)), np.log(rates)))


def limit(row: Row, arrivals: int = _ENDLESS) -> float:
    """The rate at which the allowed share of answers is late, in clips/s, by twelve runs of so many arrivals."""
    return _limit(row.work_s, row.below, arrivals)


def search(row: Row, seed: int, start: float) -> Found:
    """One search, from a first rate in clips/s."""
    random = np.random.default_rng(seed)

    def measure(rate: float) -> Observation:
        arrivals = int(row.run_s * rate)
        late = int((waits(rate, row.work_s, arrivals, random) > PROMISE_S).sum())
        return Observation(rate, late, arrivals)

    return find_highest(measure, ALLOWED, start, 1e9, repeats=3)


def main() -> None:
    """Print the table of docs/load.md."""
    print("| the promise, in times the work of a clip | a run | mean error | worst | within 5 % | holds | width |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in ROWS:
        true = limit(row)
        found = [search(row, 1000 + number, true * (0.1 + 0.005 * number)) for number in range(SEARCHES)]
        errors = np.array([one.rate / true - 1 for one in found])
        width = float(np.median([one.high / one.low - 1 for one in found]))
        holds = sum(one.low <= true <= one.high for one in found)
        print(
            f"| {row.times:g} | {row.run_s:g} s | {errors.mean():+.1%} | {abs(errors).max():.1%} | "
            f"{(abs(errors) <= 0.05).sum()} of {SEARCHES} | {holds} of {SEARCHES} | {width:.1%} |"
        )


if __name__ == "__main__":
    main()
