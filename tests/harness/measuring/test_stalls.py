"""Requests that waited out the half second of Triton's batcher, among latencies that are drawn here."""

from __future__ import annotations

import numpy as np
import pytest
from arch_harness.measuring.stalls import count_stalls
from numpy.typing import NDArray


def usual(count: int = 276, centre: float = 18.0) -> NDArray[np.float64]:
    return np.random.default_rng(0).lognormal(np.log(centre), 0.2, count)


def test_a_second_mode_half_a_second_above_is_counted() -> None:
    # As measured: 24 of 300 requests over 400 ms, executions of 15 ms.
    stalled = np.random.default_rng(1).uniform(490, 530, 24)
    assert count_stalls(np.concatenate([usual(), stalled]), execution_ms=15.0) == 24


def test_two_are_enough_and_one_is_chance() -> None:
    assert count_stalls(np.append(usual(), [515.0, 512.0]), execution_ms=15.0) == 2
    assert count_stalls(np.append(usual(), 515.0), execution_ms=15.0) == 0


@pytest.mark.parametrize("seed", range(20))
def test_a_healthy_server_has_none(seed: int) -> None:
    random = np.random.default_rng(seed)
    busy = 18 + random.exponential(40, 300)  # a machine that others use too
    assert count_stalls(busy, execution_ms=15.0) == 0


def test_delays_that_are_spread_are_none() -> None:
    slow = np.random.default_rng(2).uniform(120, 900, 40)
    assert count_stalls(np.concatenate([usual(), slow]), execution_ms=15.0) == 0


def test_a_model_that_takes_as_long_itself_is_not_blamed() -> None:
    latencies = np.concatenate([np.full(200, 500.0), np.full(50, 1000.0)])  # one or two executions
    assert count_stalls(latencies, execution_ms=495.0) == 0
    assert count_stalls(np.append(usual(), [515.0, 512.0]), execution_ms=480.0) == 0


def test_nothing_is_said_where_nothing_is_known() -> None:
    assert count_stalls(np.append(usual(), [515.0, 512.0]), execution_ms=None) == 0
    assert count_stalls(np.zeros(0), execution_ms=1.0) == 0
