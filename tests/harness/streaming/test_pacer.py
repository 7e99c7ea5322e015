"""The moments at which clips are due."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from arch_harness.streaming.loads.pacer import Pace, Pacer


def moments(pacer: Pacer, count: int) -> list[float]:
    found = [pacer.take() for _ in range(count)]
    assert None not in found
    return [one.moment for one in found if one is not None]


def test_the_moments_are_those_of_a_poisson_process() -> None:
    pacer = Pacer()
    pacer.set(Pace(50.0, 1))
    gaps = np.diff(moments(pacer, 20_001))
    assert gaps.mean() == pytest.approx(1 / 50, rel=0.03)
    assert gaps.std() == pytest.approx(1 / 50, rel=0.05)  # of exponential gaps, deviation and mean are the same
    assert np.corrcoef(gaps[:-1], gaps[1:])[0, 1] == pytest.approx(0, abs=0.03)


def test_they_begin_when_the_pace_is_set_and_never_go_back() -> None:
    pacer = Pacer()
    before = time.perf_counter()
    pacer.set(Pace(1000.0, 0))
    found = moments(pacer, 100)
    assert found[0] > before
    assert all(second > first for first, second in itertools.pairwise(found))


def test_two_senders_do_not_send_at_the_same_moments() -> None:
    pacers = [Pacer(), Pacer()]
    for seed, pacer in enumerate(pacers):
        pacer.set(Pace(10.0, seed))
    first, second = (np.diff(moments(pacer, 100)) for pacer in pacers)
    assert np.abs(first - second).min() > 0


def test_without_a_pace_nothing_is_due() -> None:
    pacer = Pacer()
    assert pacer.take() is None
    pacer.set(Pace(5.0, 0))
    due = pacer.take()
    assert due is not None
    assert due.pace == pacer.pace == Pace(5.0, 0)
    pacer.set(None)
    assert pacer.take() is None


def test_the_same_pace_goes_on() -> None:
    pacer = Pacer()
    pacer.set(Pace(5.0, 0))
    first = moments(pacer, 3)
    pacer.set(Pace(5.0, 0))
    assert moments(pacer, 1)[0] > first[-1]
