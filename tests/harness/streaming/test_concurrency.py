"""The number in flight that is found, for servers whose throughput is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from arch_harness.measuring.windows import Progress
from arch_harness.streaming.loads.concurrency import ConcurrencySearch


def find(
    throughput: Callable[[int], float],
    batch: int = 1,
    workers: int = 2,
    noise: float = 0.0,
    least: int = 4,
    seed: int = 0,
) -> ConcurrencySearch:
    """Look every quarter of a second at workers that get answers in batches, until the search is over."""
    random = np.random.default_rng(seed)
    search = ConcurrencySearch(4, least, 256)
    done, batches, now = [0.0] * workers, [Progress(0, 0.0)] * workers, 0.0
    while not search.settled:
        now += 0.25
        assert now < 3600
        rate = throughput(search.level) * (1 + noise * random.standard_normal()) / workers
        for worker in range(workers):
            done[worker] += 0.25 * rate
            whole = int(done[worker]) // batch * batch
            if whole > batches[worker].done:
                batches[worker] = Progress(whole, now - (done[worker] - whole) / rate)
        search.observe(batches)
    return search


@pytest.mark.parametrize("scale", [0.1, 1.0, 100.0])
@pytest.mark.parametrize(("limit", "expected"), [(4, 4), (16, 16), (20, 32), (1000, 256)])
def test_the_smallest_level_at_the_limit_is_found(scale: float, limit: int, expected: int) -> None:
    assert find(lambda level: scale * min(level, limit)).level == expected


def test_answers_in_batches_do_not_mislead() -> None:
    # 12 clips/s in batches of 8, whatever is in flight: a window cut at the wrong moment would be off by a half.
    assert find(lambda _level: 12.0, batch=8).level == 4


def test_a_gain_that_only_full_batches_bring_is_found() -> None:
    def throughput(level: int) -> float:
        return 10.0 if level < 64 else 14.0

    assert find(throughput, least=64).level == 64
    assert find(throughput).level == 4  # what three levels without gain would make one think


def test_a_throughput_that_grows_little_from_level_to_level_is_followed_to_its_end() -> None:
    """As that of a small encoder on two cores: 4 in flight give 10 % less than 32, and no step gives 7 %."""
    rates = {4: 152.0, 8: 155.0, 16: 160.0, 32: 170.0}
    found = [find(lambda level: rates.get(level, 168.0), noise=0.1, seed=seed).level for seed in range(20)]
    assert found.count(16) + found.count(32) >= 18, found


def test_more_than_helps_is_taken_back() -> None:
    assert find(lambda level: 100 * min(level, 8) / (1 + level / 100)).level == 8


def test_noise_does_not_end_the_search_early() -> None:
    assert find(lambda level: 10.0 * min(level, 32), noise=0.2).level in (32, 64)


@pytest.mark.parametrize("enough", [4, 8, 32])
def test_noise_does_not_choose_among_levels_that_are_alike(enough: int) -> None:
    """Windows of 2 s scatter by 5 % here, the gain that counts."""
    found = [find(lambda level: 100.0 * min(level, enough), noise=0.14, seed=seed).level for seed in range(20)]
    assert found.count(enough) >= 18, found


def test_a_machine_that_grows_slower_favours_no_level() -> None:
    """A third slower within 40 s, with which each further level seems worse than the one before."""
    now = 0.0

    def throughput(level: int) -> float:
        nonlocal now
        now += 0.25
        return 10.0 * min(level, 32) * max(0.67, 1 - now / 120)

    assert find(throughput).level == 32


@pytest.mark.parametrize("windows", range(8))
def test_a_loss_while_levels_are_compared_begins_the_round_anew(windows: int) -> None:
    """From then on everything takes twice as long; 16 in flight are 15 % better than 8 before and after."""
    search, done, now, looks, lost = ConcurrencySearch(4, 4, 256), 0, 0.0, 0, False
    while not search.settled:
        speed = {4: 100.0, 8: 174.0}.get(search.level, 200.0) / (2 if lost else 1)
        done, now = done + 600, now + 600 / speed
        search.observe([Progress(done, now)])
        looks += search.comparing
        if looks > 2 * windows and not lost:
            lost = True
            search.restart_window()
            assert search.level in (8, 128)  # the first of a round, which goes up or down
    assert lost
    assert search.level == 16


def test_levels_are_compared_no_further_once_it_is_told_to_settle() -> None:
    """What the way up and one look more at 32 in flight have shown is what is gone by."""
    search = ConcurrencySearch(4, 4, 256)
    done, now, levels = 0, 0.0, []
    while not search.settled:
        levels.append(search.level)
        done, now = done + 100, now + 100 / (100 if search.level < 8 else 110)
        search.observe([Progress(done, now)])
        if search.comparing and search.level == 32:
            search.settle()
    assert sorted(set(levels)) == [4, 8, 16, 32, 64]
    assert (search.level, search.comparing) == (8, False)
