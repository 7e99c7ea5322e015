"""What Triton's counters say of a pass."""

from __future__ import annotations

from arch_harness.triton.statistics import Statistics


def test_counters_that_fell_give_no_times() -> None:
    before = Statistics(100, 100, 5, 50, 40, {8: 12, 4: 1}, 1)
    assert Statistics(160, 160, 9, 90, 80, {8: 19, 4: 2}, 1).since(before, 60) == Statistics(
        60, 60, 4, 40, 40, {8: 7, 4: 1}, 1
    )
    assert Statistics(30, 30, 1, 10, 8, {8: 3}, 1).since(before, 60) is None
    # A restart that the counters have caught up with: fewer than the answers that we had.
    fresh = Statistics(0, 0, 0, 0, 0, {}, 1)
    assert Statistics(90, 90, 1, 10, 8, {8: 11}, 1).since(fresh, 100) is None
