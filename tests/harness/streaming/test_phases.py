"""The loads of a pass, one after the other, on simulated workers whose servers have a known capacity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from arch_harness.measuring.windows import Load, Progress
from arch_harness.streaming.loads.concurrency import ConcurrencySearch
from arch_harness.streaming.loads.phases import (
    PACED_SHARE,
    Plan,
    Seen,
    embedding_plan,
    rate_plan,
    repeat_plan,
    settled_rate,
)

TICK = 0.25
WORKERS = 2


@dataclass
class Simulated:
    """What a plan led to: each window's load, its seconds and its clips."""

    windows: list[tuple[Load, float, float]] = field(default_factory=list)

    def phases(self) -> list[str]:
        """The phases, each once where it follows itself."""
        names = [load.phase for load, *_ in self.windows]
        return [name for place, name in enumerate(names) if place == 0 or names[place - 1] != name]

    def seconds(self, phase: str) -> float:
        return sum(seconds for load, seconds, _ in self.windows if load.phase == phase)

    def clips(self, phase: str) -> float:
        return sum(clips for load, _, clips in self.windows if load.phase == phase)


def simulate(
    plan: Plan, capacity: Callable[[float, float], float], clips: int | None, most_s: float = 600
) -> Simulated:
    """Follow a plan; `capacity` gives clips/s by the places in flight and the time since the start."""
    found = Simulated()
    load, now, done, started, begun = next(plan), 0.0, 0.0, 0.0, 0.0
    while now < most_s:
        now += TICK
        rate = capacity(load.concurrency, now)
        done += TICK * (rate if load.rate is None else min(load.rate, rate))
        over = clips is not None and done >= clips
        done = done if clips is None else min(done, clips)

        def at(count: float, moment: float) -> list[Progress]:
            return [Progress(int(count / WORKERS), moment)] * WORKERS

        left = None if clips is None else clips - int(done)
        starving = left is not None and left < 32
        seen = Seen(at(begun, started), at(done, now), now - started, left, starving)
        try:
            wanted = load if over else plan.send(seen)
        except StopIteration:
            wanted = Load("rest", 1)
            over = True
        if wanted is not load or over:
            found.windows.append((load, now - started, done - begun))
            load, started, begun = wanted, now, done
        if over:
            return found
    raise AssertionError("the plan does not end")


def limited(most: float) -> Callable[[float, float], float]:
    """Throughput that grows with what is in flight, up to a bound."""
    return lambda in_flight, _: min(most, 10 * in_flight)


def embedding(clips: int, capacity: Callable[[float, float], float], search: bool = True) -> Simulated:
    found = ConcurrencySearch(4, 16, 256, clips) if search else None
    return simulate(embedding_plan(clips, 4 if search else 16, found, 256, lambda _: 32), capacity, clips)


def test_a_long_pass_has_every_phase_and_most_of_it_is_measured() -> None:
    found = embedding(20_000, limited(160))
    assert found.phases() == ["warm", "alone", "ramp", "warm", "measured", "warm", "paced", "rest"]
    assert found.clips("measured") > 0.55 * 20_000
    assert 90 <= found.clips("alone") <= 310
    assert found.seconds("paced") == pytest.approx(10, abs=TICK)
    assert found.clips("paced") == pytest.approx(PACED_SHARE * 160 * 10, rel=0.05)


def test_what_waited_at_another_load_is_answered_before_a_phase_begins() -> None:
    """After the search, of which the last level may have been the highest; and after full speed."""
    found = embedding(20_000, limited(160))
    phases = [(load, clips) for load, _, clips in found.windows]
    names = [load.phase for load, _ in phases]
    last = len(names) - 1 - names[::-1].index("ramp")
    (ramp, _), (warm, clips) = phases[last : last + 2]
    assert (warm.phase, warm.concurrency) == ("warm", 16)
    assert clips >= ramp.concurrency > 16
    (before, drained), (settling, _), (paced, _) = phases[-4:-1]
    assert [one.phase for one in (before, settling, paced)] == ["warm", "warm", "paced"]
    assert (before.concurrency, before.rate) == (1, None)
    assert drained >= 16 - 1  # what both workers tell is cut to whole clips
    assert settling.rate == paced.rate


def test_a_search_leaves_most_clips_to_be_measured() -> None:
    """ESC-50 through a small encoder: the windows of the search alone would take all of it."""
    found = embedding(2000, limited(160))
    assert "measured" in found.phases()
    assert found.clips("ramp") < 0.45 * 2000


def test_the_loads_are_those_they_say() -> None:
    found = embedding(20_000, limited(160))
    levels = {load.phase: load.concurrency for load, *_ in found.windows if load.rate is None}
    assert levels["alone"] == 1
    assert levels["measured"] == 16
    rates = [load.rate for load, *_ in found.windows if load.rate is not None]
    assert rates == [pytest.approx(PACED_SHARE * 160, rel=0.02)] * 2


def test_each_window_is_long_enough_and_a_long_pass_has_few() -> None:
    found = embedding(90_000, limited(160))
    windows = [(seconds, clips) for load, seconds, clips in found.windows if load.phase == "measured"]
    assert min(seconds for seconds, _ in windows) >= 2
    assert min(clips for _, clips in windows) >= 32
    assert len(windows) < 150


def test_a_slow_model_gets_windows_of_whole_rounds() -> None:
    found = embedding(1000, limited(2), search=False)
    assert all(clips >= 32 for load, _, clips in found.windows if load.phase == "measured")


def test_a_short_dataset_leaves_out_what_there_are_too_few_clips_for() -> None:
    assert "paced" not in embedding(60, limited(160)).phases()
    assert embedding(60, limited(160)).clips("alone") <= 8
    assert "measured" not in embedding(150, limited(160)).phases()
    # Where three windows fit, but hardly more, they come before the paced load.
    names = [load.phase for load, *_ in embedding(1100, limited(100), search=False).windows]
    assert names.count("measured") >= 3


def test_a_pass_whose_number_in_flight_is_known_has_no_ramp() -> None:
    found = embedding(5000, limited(160), search=False)
    assert "ramp" not in found.phases()
    assert {load.concurrency for load, *_ in found.windows if load.phase == "measured"} == {16}


def test_a_repeat_has_the_loads_of_the_first_and_lasts_until_it_is_steady() -> None:
    found = simulate(repeat_plan(16, 100.0, 256), limited(160), None)
    assert found.phases() == ["warm", "alone", "warm", "measured", "warm", "paced"]
    assert found.seconds("measured") == pytest.approx(10, abs=2)
    # Three times as fast after 20 s: it goes on until three windows agree.
    found = simulate(repeat_plan(16, None, 256), lambda _, now: 50 if now < 20 else 150, None)
    assert found.phases()[-1] == "measured"
    rates = [clips / seconds for load, seconds, clips in found.windows if load.phase == "measured"]
    assert max(rates[-3:]) <= 1.1 * min(rates[-3:])


def test_a_repeat_that_never_settles_ends() -> None:
    found = simulate(repeat_plan(16, None, 256), lambda _, now: 10 * 1.2 ** int(now / 2), None)
    assert 30 <= found.seconds("measured") < 60


def test_one_rate_is_measured_by_itself() -> None:
    found = simulate(rate_plan(25.0, 256), limited(160), None)
    assert found.phases() == ["warm", "paced"]
    assert found.clips("paced") == pytest.approx(250, rel=0.05)
    slow = simulate(rate_plan(2.0, 256), limited(160), None)
    assert slow.seconds("paced") == pytest.approx(30, abs=TICK)  # a hundred clips would take 50 s


def test_the_settled_rate_leaves_out_what_came_before() -> None:
    assert settled_rate([10, 20, 20.5, 21]) == pytest.approx(20.5)
    assert settled_rate([10, 20, 40]) == pytest.approx(70 / 3)


def test_a_repeat_after_a_pass_that_was_too_short_is_paced_by_what_it_finds_itself() -> None:
    found = simulate(repeat_plan(16, "own", 256), limited(160), None)
    rates = [load.rate for load, *_ in found.windows if load.rate is not None]
    assert rates == [pytest.approx(PACED_SHARE * 160, rel=0.02)] * 2
