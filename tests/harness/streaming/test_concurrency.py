"""The number in flight that is found, for servers whose throughput is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from arch_harness.measuring.windows import Progress
from arch_harness.streaming.loads.concurrency import ConcurrencySearch

_MANY = 10**6  # clips of a pass: no window is long enough before it is in time


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
    search = ConcurrencySearch(4, least, 256, _MANY)
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
def test_a_server_that_is_lost_begins_the_search_anew(windows: int) -> None:
    """Two servers are best with 16 in flight; the one that is left, of half the speed, with 8."""
    search, done, now, looks = ConcurrencySearch(4, 4, 256, _MANY), 0, 0.0, 0
    while not search.settled:
        lost = looks > 2 * windows
        speed = min(100.0, 12.5 * search.level) if lost else min(200.0, 12.5 * search.level)
        done, now = done + 600, now + 600 / speed
        search.observe([Progress(done, now)])
        looks += 1
        if looks == 2 * windows + 1:
            search.restart()
            assert (search.level, search.comparing) == (4, False)
    assert looks > 2 * windows
    assert (search.level, search.found) == (8, True)


@pytest.mark.parametrize("windows", range(8))
def test_a_window_that_is_disturbed_is_measured_again(windows: int) -> None:
    """What it shows is nonsense, and changes nothing."""
    search, done, now, looks = ConcurrencySearch(4, 4, 256, _MANY), 0, 0.0, 0
    while not search.settled:
        looks += 1
        disturbed = looks == 2 * windows + 2
        done, now = done + 600, now + 600 / (1.0 if disturbed else min(200.0, 12.5 * search.level))
        if disturbed:
            search.restart_window()
        search.observe([Progress(done, now)])
    assert (search.level, search.found) == (16, True)


def test_a_window_begins_when_what_was_in_flight_before_is_answered() -> None:
    search, done, now = ConcurrencySearch(4, 4, 256, _MANY), 0, 0.0
    while search.level < 64:
        done, now = done + 400, now + 400 / search.level
        search.observe([Progress(done, now)])
    assert search.in_flight in (32, 64)
    search.restart()
    search.observe([Progress(done, now)])
    for more in (5, 31):
        search.observe([Progress(done + more, now + more)])
        assert search.in_flight >= 32
    search.observe([Progress(done + 64, now + 64)])
    assert search.in_flight == search.level == 4


def test_levels_are_compared_no_further_once_it_is_told_to_settle() -> None:
    """What the way up and one look more at 32 in flight have shown is what is gone by."""
    search = ConcurrencySearch(4, 4, 256, _MANY)
    done, now, levels = 0, 0.0, []
    while not search.settled:
        levels.append(search.level)
        done, now = done + 100, now + 100 / (100 if search.level < 8 else 110)
        search.observe([Progress(done, now)])
        if search.comparing and search.level == 32:
            search.settle()
    assert sorted(set(levels)) == [4, 8, 16, 32, 64]
    assert (search.level, search.found, search.comparing, search.in_flight) == (8, True, False, 64)


def test_one_that_is_told_to_settle_on_its_way_up_takes_what_it_knows_and_says_so() -> None:
    search = ConcurrencySearch(4, 4, 256, _MANY)
    done, now = 0, 0.0
    while search.level < 64:
        done, now = done + 400, now + 400 / min(16, search.level)
        search.observe([Progress(done, now)])
    search.settle()
    assert (search.level, search.settled, search.found) == (16, True, False)
    nothing = ConcurrencySearch(4, 4, 256, _MANY)
    nothing.settle()
    assert (nothing.level, nothing.settled, nothing.found) == (4, True, False)


def test_windows_of_a_short_pass_are_short() -> None:
    """4 % of the clips are enough, if these are several batches."""
    search = ConcurrencySearch(4, 16, 256, 2000)
    done, now = 0, 0.0
    while not search.settled:
        now += 0.05
        done += round(0.05 * 40 * min(search.level, 16))
        search.observe([Progress(done, now)])
        if search.comparing:
            break
    assert search.comparing
    assert done < 1400
