"""Which windows of a pass its throughput is taken from, and whether it was steady."""

from __future__ import annotations

from arch_harness.measuring.windows import Load, Progress, Window, rate_between, steady_windows
from arch_harness.results.measurement import PhaseName


def window(number: int, rate: float, phase: PhaseName = "measured", disturbed: bool = False) -> Window:
    """10 s of one worker."""
    before, after = [Progress(100, 5.0)], [Progress(100 + int(10 * rate), 15.0)]
    return Window(number, Load(phase, 8), 10.0 * number, before, [None], 10.0 * number + 10, after, [None], disturbed)


def numbered(*rates: float) -> list[Window]:
    return [window(number, rate) for number, rate in enumerate(rates)]


def test_the_rate_is_from_answer_to_answer_of_each_worker() -> None:
    before = [Progress(10, 1.0), Progress(20, 1.5)]
    after = [Progress(30, 3.0), Progress(50, 2.5)]
    assert rate_between(before, after) == 20 / 2.0 + 30 / 1.0
    assert rate_between(before, before) == 0


def test_it_counts_from_the_first_of_three_that_agree() -> None:
    windows = numbered(10, 20, 30, 31, 32, 25)
    counted, verdict = steady_windows(windows)
    assert verdict == "steady"
    assert [one.number for one in counted] == [2, 3, 4, 5]


def test_a_tenth_is_the_bound() -> None:
    assert steady_windows(numbered(10, 11, 10.5))[1] == "steady"
    assert steady_windows(numbered(10, 11.2, 10.5))[1] == "not steady"


def test_all_count_where_none_agree() -> None:
    counted, verdict = steady_windows(numbered(10, 20, 30, 40))
    assert (len(counted), verdict) == (4, "not steady")


def test_two_are_too_few() -> None:
    assert steady_windows(numbered(10, 10))[1] == "too short"
    assert steady_windows([]) == ([], "too short")


def test_what_was_cut_off_when_the_clips_ran_out_does_not_count() -> None:
    windows = numbered(10, 10.1, 5)
    windows[-1].cut_short = True
    assert steady_windows(windows) == (windows[:2], "too short")


def test_what_was_disturbed_and_other_phases_do_not_count() -> None:
    windows = [window(0, 10, "ramp"), *(window(number, 10) for number in (1, 2, 3)), window(4, 1, disturbed=True)]
    windows += [window(5, 7, "paced")]
    assert [one.number for one in steady_windows(windows)[0]] == [1, 2, 3]
