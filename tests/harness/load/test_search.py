"""The search on a queue whose capacity is known, and what is asked of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from arch_common.errors import UsageError
from arch_harness.load.asked import LoadRequest, Slo, default_queries, least_queries, parse_rates, parse_slo
from arch_harness.load.search import Found, Observation, crossing, find_highest, fitted
from load_search import ALLOWED, ROWS, Row, limit, search


@pytest.mark.parametrize(
    "runs",
    [
        [Observation(10, 0, 459), Observation(11, 0, 459), Observation(20, 200, 459)],
        [Observation(10, 0, 459), Observation(20, 0, 459), Observation(19, 40, 459), Observation(21, 40, 459)],
        [Observation(55, 0, 120), Observation(100, 0, 400), Observation(100, 40, 400)],
    ],
)
def test_a_place_between_runs_that_are_far_apart(runs: list[Observation]) -> None:
    rate, low, high = fitted(runs, ALLOWED)
    assert runs[0].rate <= rate <= runs[-1].rate
    assert low <= rate <= high


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.times:g} times the work, {row.run_s:g} s")
def test_the_interval_holds_a_queues_own_limit_and_the_rate_is_right_in_the_mean(row: Row) -> None:
    """The queues of docs/load.md, whose limit is that of a run without an end, by other searches than the table's."""
    true = limit(row, 1_000_000)
    found = [search(row, 5000 + number, true * (0.1 + 0.02 * number)) for number in range(20)]
    assert not any(one.at_least for one in found)
    assert all(one.low <= one.rate <= one.high for one in found)
    assert sum(one.low <= true <= one.high for one in found) >= 17
    errors = np.array([one.rate / true - 1 for one in found])
    # Twice the standard error of a mean of twenty, as the searches themselves scatter.
    assert abs(errors.mean()) <= max(0.01, 2 * errors.std() / np.sqrt(20))
    # An interval that holds everything would be none; ten seconds of such a queue say little.
    assert np.median([one.high / one.low for one in found]) < (1.3 if row.run_s >= 30 else 2.5)


def test_a_known_law_is_found_again() -> None:
    """Counts that are the expected ones, at a slope that is not one of those tried."""
    rates = 100 * np.exp(np.linspace(-0.05, 0.05, 9))
    runs = [Observation(rate, round(1e6 * ALLOWED * (rate / 100) ** 23.45), 1_000_000) for rate in rates]
    rate, low, high = fitted(runs, ALLOWED)
    assert rate == pytest.approx(100, rel=0.002)
    assert low <= 100 <= high
    assert high < 1.01 * low
    # A tenth as many answers say less, and so the interval is wider.
    fewer = [Observation(run.rate, run.over // 100, 10_000) for run in runs]
    assert np.diff(fitted(fewer, ALLOWED)[1:]) > 2 * np.diff([low, high])


def step(capacity: float) -> tuple[list[float], object]:
    """A server that answers all in time up to its capacity, and none above."""
    asked: list[float] = []

    def measure(rate: float) -> Observation:
        asked.append(rate)
        return Observation(rate, 0 if rate <= capacity else 1000, 1000)

    return asked, measure


def test_a_first_rate_that_is_too_high_is_halved() -> None:
    asked, measure = step(37)
    found = find_highest(measure, ALLOWED, start=100, most=1e9, repeats=2)  # type: ignore[arg-type]
    assert asked[:5] == [100, 100, 50, 50, 25]
    assert found.rate == pytest.approx(37, rel=0.06)


def test_what_the_client_can_send_bounds_the_answer() -> None:
    asked, measure = step(1000)
    found = find_highest(measure, ALLOWED, start=10, most=70, repeats=2)  # type: ignore[arg-type]
    assert found == Found(70, 70, 70, at_least=True)
    assert asked == [10, 20, 40, 70]


def test_a_promise_that_nothing_keeps() -> None:
    _, measure = step(0)
    assert find_highest(measure, ALLOWED, start=64, most=1e9, repeats=2).rate == 0  # type: ignore[arg-type]


def test_late_answers_of_all_runs_are_added_up() -> None:
    # Two of three runs at 20 have no late answer; together they have 2 %, which is more than at 30.
    runs = [Observation(10, 0, 1000), *[Observation(20, over, 1000) for over in (0, 0, 60)], Observation(30, 10, 1000)]
    # So 20 and 30 are one block of 4,000 answers and 70 late ones at 22.5; at 10 half an answer stands for none.
    place = np.log(0.01 / 0.0005) / np.log(0.0175 / 0.0005)
    assert crossing(runs, ALLOWED) == pytest.approx(10 + 12.5 * place)


def test_promises() -> None:
    assert parse_slo("p99=200ms") == Slo(0.99, 200)
    assert parse_slo("p99.9<=1.5s") == Slo(0.999, 1500)
    assert Slo(0.99, 200).kept(10, 1000)
    assert not Slo(0.99, 200).kept(11, 1000)
    for wrong in ("200ms", "p100=5ms", "p40=5ms", "p99=0ms", "p99=5", "p99=5 min"):
        with pytest.raises(UsageError, match="is no promise"):
            parse_slo(wrong)
    assert parse_slo("p99.999=1s") == Slo(0.99999, 1000)
    for wrong in ("p99.9991=1s", "p99.99999999=200ms", "p99.999999999=200ms"):
        with pytest.raises(UsageError, match=r"^--slo '.*' cannot be tested: p99\.999 is the highest, with 460,515 "):
            parse_slo(wrong)


def test_rates() -> None:
    assert parse_rates("20") == [20]
    assert parse_rates("5:80:5") == pytest.approx([5, 10, 20, 40, 80])
    assert len(parse_rates("5:100")) == 8
    for wrong in ("", "0", "5:", "100:5", "5:100:1", "5:100:2.5", "5:10:3:4", "-5", "x"):
        with pytest.raises(UsageError, match="--rate"):
            parse_rates(wrong)


def test_queries_that_early_stopping_wants() -> None:
    # LoadGen's own words: 459 for Server at p99, 662 for MultiStream, 64 for SingleStream at p90.
    assert (least_queries(0.99), least_queries(0.99, 1), least_queries(0.9, 1)) == (459, 662, 64)
    assert default_queries("server", Slo(0.99, 200)) == 459
    assert default_queries("single-stream", None) == 64
    assert default_queries("offline", None) == 1


def test_what_cannot_be_asked() -> None:
    with pytest.raises(UsageError, match="--slo is missing"):
        LoadRequest()
    with pytest.raises(UsageError, match="--rate is of the scenario server"):
        LoadRequest("offline", rates=(5.0,))
    with pytest.raises(UsageError, match="--min-duration"):
        LoadRequest("offline", min_duration_s=0)
    with pytest.raises(UsageError, match=r"^--samples-per-query cannot be 0"):
        LoadRequest("multi-stream", samples_per_query=0)


SLO = Slo(0.99, 200)


@pytest.mark.parametrize(
    ("option", "given"),
    [
        ("--slo", {"scenario": "offline", "slo": SLO}),
        ("--samples-per-query", {"slo": SLO, "samples_per_query": 8}),
        ("--samples-per-query", {"scenario": "single-stream", "samples_per_query": 2}),
        ("--hop", {"scenario": "single-stream", "hop_s": 0.3}),
        ("--hop", {"scenario": "offline", "hop_s": 0.3}),
        ("--repeats", {"slo": SLO, "rates": (5.0,), "repeats": 3}),
        ("--repeats", {"scenario": "multi-stream", "repeats": 3}),
    ],
)
def test_what_has_no_use_is_refused(option: str, given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"^{option} is of "):
        LoadRequest(**given)
