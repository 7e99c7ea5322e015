"""The search on surfaces of speed that are known, measured with noise as LoadGen's short runs have it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from arch_common.errors import UsageError
from arch_harness.load.asked import Slo
from arch_harness.load.search import Observation, Staircase
from arch_harness.tuning.choosing import finished, front_of, nothing_fits
from arch_harness.tuning.halving import RUNGS, Speed, halve, next_rung, speed_of, staircase_of
from arch_harness.tuning.report import exhaustive_seconds, fits_memory
from arch_harness.tuning.results import TuneRun
from arch_harness.tuning.space import Configuration, Form, Space, delay_text, workers_of

ALLOWED = 0.01
SLO = Slo(0.99, 100)
FORMS = (Form("fp32"), Form("int8"))
GRID = Space(FORMS, (4, 16), [(1, 1), (1, 2), (2, 1), (2, 2)], (0, 2000, 5000)).configurations()


def surface(seed: int) -> dict[Configuration, float]:
    """True rates: threads and instances act on one another, precisions and batches differ in their gains."""
    random = np.random.default_rng(seed)
    gains = {key: random.uniform(0.75, 1.3) for key in ("int8", "batch", "delay", "both", "over")}
    found = {}
    for one in GRID:
        rate = 100.0
        rate *= gains["int8"] * 1.3 if one.form.precision == "int8" else 1
        rate *= gains["batch"] if one.max_batch > 4 else 1
        rate *= gains["delay"] ** (one.queue_delay_us / 5000)
        side = one.instances * one.threads
        rate *= {1: 1.0, 2: 1.7 * (gains["both"] if one.instances == 2 else 1), 4: 1.6 * gains["over"]}[side]
        found[one] = rate * random.uniform(0.97, 1.03)
    return found


class Simulated:
    """Measures as LoadGen does at a server with a true limit: late answers come in clusters, and grow beyond it."""

    def __init__(
        self,
        truth: dict[Configuration, float],
        seed: int = 0,
        memory: Callable[[Configuration], float] = lambda one: 100.0 * one.instances,
        stop_after: int | None = None,
        faults: dict[Configuration, str] | None = None,
    ) -> None:
        self.truth, self.memory, self.faults = truth, memory, faults or {}
        self.random = np.random.default_rng(seed)
        self.journal: dict[Configuration, list[TuneRun]] = {}
        self.made = 0
        self.stop_after = stop_after

    def run(self, one: Configuration, rung: int, rate: float) -> TuneRun:
        if self.made == self.stop_after:
            raise KeyboardInterrupt
        self.made += 1
        seconds = RUNGS[rung].length
        # The limit of a run scatters by 6 % in the shortest, and less in longer ones.
        limit = self.truth[one] * self.random.normal(1, 0.06 / math.sqrt(seconds))
        answers = max(1, int(rate * seconds))
        share = 0.01 * math.exp(25 * (rate / limit - 1)) if limit > 0 else 1.0
        answered = min(rate, 1.02 * self.truth[one])
        return TuneRun(
            configuration=one.key,
            content_hash="sha256:0",
            rung=rung,
            rate=rate,
            answers=answers,
            over=min(answers, int(share * answers)),
            answered=answered,
            judged_ms=100 * rate / limit if limit > 0 else 900.0,
            late_ms=0.1,
            seconds=seconds * max(1.0, rate / answered if answered else 1.0),
            memory_mib=self.memory(one),
        )

    def __call__(self, one: Configuration, rung: int) -> Speed:
        if one in self.faults:
            return Speed(fault=self.faults[one])
        every = self.journal.setdefault(one, [])
        runs = [run for run in every if run.rung <= rung]
        stairs = staircase_of(runs, ALLOWED, 60.0 * one.instances, 10_000)
        while (place := next_rung(runs, rung, stairs.is_open)) is not None:
            run = self.run(one, place, stairs.rate)
            runs.append(run)
            every.append(run)
            stairs.add(Observation(run.rate, run.over, run.answers), run.answered)
        return speed_of(runs, ALLOWED)


def alike(_: Form) -> float:
    return 0.0


@pytest.mark.parametrize("seed", range(4))
def test_the_winner_is_near_the_best_in_a_quarter_of_the_runs(seed: int) -> None:
    truth = surface(seed)
    simulated = Simulated(truth, seed)
    found = halve(GRID, simulated, fits_memory(None), alike, seed)
    assert len(GRID) == 48
    won = finished(found, fits_memory(None))[0]
    best = max(truth.values())
    assert truth[won] >= 0.95 * best
    assert found[won].rate == pytest.approx(truth[won], rel=0.06)
    assert found[won].low <= found[won].rate <= found[won].high
    # Every configuration to the end, in seconds of load: a run that is four times as long counts four.
    whole = Simulated(truth, seed + 100)
    for one in GRID:
        whole(one, len(RUNGS) - 1)
    exhaustive = sum(run.seconds for runs in whole.journal.values() for run in runs)
    halved = sum(one.seconds for one in found.values())
    assert halved <= 0.25 * exhaustive
    assert exhaustive_seconds(found) == pytest.approx(exhaustive, rel=0.1)
    assert halved == pytest.approx(sum(run.seconds for runs in simulated.journal.values() for run in runs))


def test_what_was_interrupted_goes_on_without_a_run_again() -> None:
    truth = surface(1)
    whole = Simulated(truth, seed=5)
    expected = halve(GRID, whole, fits_memory(None), alike)
    broken = Simulated(truth, seed=5, stop_after=150)
    with pytest.raises(KeyboardInterrupt):
        halve(GRID, broken, fits_memory(None), alike)
    assert broken.made == 150 < whole.made
    broken.stop_after = None
    found = halve(GRID, broken, fits_memory(None), alike)
    assert broken.made == whole.made
    # The same chances in the same order, and so the same of everything.
    assert found == expected


def test_memory_bounds_the_choice() -> None:
    truth = surface(2)
    fits = fits_memory(150)
    won = finished(halve(GRID, Simulated(truth), fits, alike), fits)[0]
    assert won.instances == 1
    assert truth[won] >= 0.95 * max(rate for one, rate in truth.items() if one.instances == 1)
    fits = fits_memory(50)
    found = halve(GRID, Simulated(truth), fits, alike)
    assert finished(found, fits) == []
    # None goes on to a second rung.
    assert {one.rung for one in found.values()} == {0}
    said = nothing_fits(found, SLO, 50)
    assert said.startswith("no configuration keeps --max-memory 50.0 MiB: the smallest is ")
    assert "-i1-" in said
    assert said.endswith("with 100 MiB")


def test_memory_that_grows_in_the_last_rung_does_not_leave_nothing() -> None:
    truth = surface(3)
    best = sorted(truth, key=lambda one: truth[one], reverse=True)[:6]

    class Growing(Simulated):
        def run(self, one: Configuration, rung: int, rate: float) -> TuneRun:
            run = super().run(one, rung, rate)
            large = one in best and rung == len(RUNGS) - 1
            return run.model_copy(update={"memory_mib": 900.0 if large else 100.0})

    fits = fits_memory(500)
    (won,) = finished(halve(GRID, Growing(truth), fits, alike), fits)
    assert won not in best


def test_a_promise_that_nothing_keeps_names_the_nearest() -> None:
    found = halve(GRID, Simulated(dict.fromkeys(GRID, 0.0)), fits_memory(None), alike)
    assert finished(found, fits_memory(None)) == []
    said = nothing_fits(found, SLO, None)
    assert said.startswith("no configuration keeps p99 <= 100 ms, not even at ")
    assert said.endswith("with p99 of 900 ms")
    # They are given up after the first rung, at a rate at which clips hardly meet.
    assert {one.rung for one in found.values()} == {0}
    assert min(run.rate for one in found.values() for run in one.runs) >= 60 / 16


def test_what_does_not_load_is_left_out_and_told() -> None:
    truth = surface(4)
    best = max(truth, key=lambda one: truth[one])
    found = halve(GRID, Simulated(truth, faults={best: "out of memory"}), fits_memory(None), alike)
    assert found[best].fault == "out of memory"
    assert finished(found, fits_memory(None))[0] != best
    every = halve(GRID, Simulated(truth, faults=dict.fromkeys(GRID, "no NumPy")), fits_memory(None), alike)
    assert nothing_fits(every, SLO, None).startswith("no configuration could be measured; ")
    assert nothing_fits(every, SLO, None).endswith(": no NumPy")


def test_the_front_keeps_the_form_that_scores_more_though_it_is_slower() -> None:
    truth = {one: (300.0 if one.form.precision == "int8" else 100.0) + one.queue_delay_us / 1000 for one in GRID}
    scores = {FORMS[0]: 0.9, FORMS[1]: 0.88}
    found = halve(GRID, Simulated(truth), fits_memory(None), scores.__getitem__)
    ranked = finished(found, fits_memory(None))
    front = front_of(ranked, found, scores.__getitem__)
    assert [one.form.precision for one in front] == ["int8", "fp32"]
    # With the scores the other way round, the slower form is beaten in both.
    assert {one.form for one in front_of(ranked, found, lambda form: -scores[form])} == {FORMS[1]}


def test_a_rung_goes_on_where_no_run_has_found_the_limit() -> None:
    one = GRID[0]
    simulated = Simulated({one: 700.0})
    simulated(one, 0)
    rates = [run.rate for run in simulated.journal[one]]
    assert rates[:4] == [60.0, 120.0, 240.0, 480.0]
    assert len(rates) > RUNGS[0].runs
    assert speed_of(simulated.journal[one], ALLOWED).rate == pytest.approx(700, rel=0.2)
    hopeless = Simulated({one: 0.0})
    hopeless(one, 0)
    assert [run.rate for run in hopeless.journal[one]] == [60.0, 3.75, 3.75]


@pytest.mark.parametrize("seed", range(3))
def test_few_short_runs_find_a_queues_limit(seed: int) -> None:
    """A single server that takes 2 ms in the mean, by Lindley's recursion: p99 within 0.2 s up to 487 clips/s."""
    random = np.random.default_rng(seed)
    stairs = Staircase(ALLOWED, 100, 1e9)
    for rung in (0, 0, 0, 1, 1, 1, *[2] * 5):
        seconds = 4 * RUNGS[rung].length
        arrivals = int(stairs.rate * seconds)
        times = np.cumsum(random.exponential(1 / stairs.rate, arrivals))
        work = np.cumsum(0.002 * random.uniform(0.3, 1.7, arrivals))
        done = np.maximum.accumulate(times - np.concatenate(([0.0], work[:-1]))) + work
        over = int((done - times > 0.2).sum())
        stairs.add(Observation(stairs.rate, over, arrivals), arrivals / float(done.max()))
    assert stairs.found.rate == pytest.approx(487, rel=0.07)


@pytest.mark.parametrize("start", [20, 100, 300, 1000])
def test_runs_of_few_clips_halve_the_rates_between(start: float) -> None:
    """20 clips in time say hardly more than 10: only a rate that was broken bounds another from above."""
    stairs = Staircase(ALLOWED, start, 1e9)
    for _ in range(9):
        rate = stairs.rate
        stairs.add(Observation(rate, 0 if rate <= 215 else 12, 20), min(rate, 215))
    assert stairs.place == pytest.approx(215, rel=0.05)
    assert stairs.found.low <= stairs.found.rate <= stairs.found.high


def test_the_space_is_all_combinations_but_those_that_are_alike() -> None:
    space = Space((Form("fp32"), Form("int8", 6, "exact")), (1, 8), [(1, 2)], (0, 5000))
    keys = [one.key for one in space.configurations([Form("int8", 6, "exact")])]
    # With one clip a batch, the delay is of no account; the form that is served one clip at a time has one way.
    assert keys == ["fp32-b1-i1-t2-d0", "fp32-b8-i1-t2-d0", "fp32-b8-i1-t2-d5ms", "int8-l6-exact-b1-i1-t2-d0"]
    assert [delay_text(one) for one in (0, 500, 2000)] == ["0", "500us", "2ms"]
    with pytest.raises(UsageError, match=r"are too many to be tried, at most 2,000: narrow them with --max-batch"):
        Space(FORMS, range(2, 60), [(1, 1), (2, 1)], range(20)).configurations()


def test_instances_and_threads_use_the_cores() -> None:
    assert workers_of(2) == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert workers_of(8) == [(1, 4), (1, 8), (2, 2), (2, 4), (2, 8), (4, 1), (4, 2), (4, 4), (8, 1), (8, 2)]
    assert workers_of(8, (1, 3), (1,)) == [(1, 1), (3, 1)]
    assert workers_of(8, (64,)) == [(64, 1), (64, 2), (64, 4), (64, 8)]
