"""The model to deploy: the rule, the means and intervals that it goes by, and the warnings."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from arch_common.errors import UsageError
from arch_harness.report.choice.caveats import caveats
from arch_harness.report.choice.choose import choose
from arch_harness.report.choice.estimates import Estimate, ScoreChange, mean_of_estimates
from arch_harness.report.choice.summary import front
from arch_harness.report.choice.verdict import alternatives, choice_table, details, headline
from arch_harness.report.text.speed.timing import limits_line
from arch_harness.results.price import parse_price
from arch_harness.results.rows import rows
from arch_harness.results.run import Footprint, Run
from support.measurements import load_point
from support.runs import RUNS, dataset, folds, interval, probe, run_of


def made_run(
    models: dict[str, tuple[list[float], list[float | None]]],
    *,
    half: float = 0.01,
    clips: int = 900,
    facts: dict[str, dict[str, Any]] | None = None,
) -> Run:
    """A run of models with (a score, clips/s) on each dataset, whose differences are known to `half`."""
    datasets = tuple(f"d{index}" for index in range(max(len(scores) for scores, _ in models.values())))
    run = run_of(tuple(models), datasets)
    document = run.model_dump()
    for result in document["results"]:
        place = datasets.index(result["dataset"])
        scores, speeds = models[result["model"]]
        score, speed = scores[place], speeds[place]
        result |= {"score": score, "interval": interval(score), "folds": folds(score)}
        result["probes"] = [probe("linear", score, 0.004)]
        if speed is None:
            result["measurement"] = None
        else:
            result["measurement"]["clips_per_s"] = speed
    for model in document["models"]:
        model |= (facts or {}).get(model["name"], {})
    document["comparisons"] = [
        {
            "dataset": name,
            "probe": "linear",
            "metric": "accuracy",
            "model": one,
            "other": other,
            "clips": clips,
            "difference": (difference := models[one][0][place] - models[other][0][place]),
            "low": difference - half,
            "high": difference + half,
            "more_than_noise": abs(difference) > half,
        }
        for place, name in enumerate(datasets)
        for one, other in itertools.combinations(models, 2)
    ]
    return Run.model_validate(document)


ONE_CHECKPOINT: dict[str, Any] = {"source": "example/encoder", "revision": "1"}
VARIANTS: dict[str, dict[str, Any]] = {
    "enc-fp32": ONE_CHECKPOINT,
    "enc-int8": ONE_CHECKPOINT | {"precision": "int8"},
    "enc-cut": ONE_CHECKPOINT | {"cut_after_layer": 4},
}


def variants(**options: Any) -> Run:
    return made_run(
        {
            "enc-cut": ([0.70, 0.80], [80.0, 20.0]),
            "enc-fp32": ([0.80, 0.90], [20.0, 5.0]),
            "enc-int8": ([0.796, 0.900], [60.0, 15.0]),
            "other": ([0.81, 0.894], [10.0, 4.0]),
        },
        facts=VARIANTS,
        **options,
    )


def test_the_mean_of_intervals_holds_the_truth_as_often_as_its_parts() -> None:
    random = np.random.default_rng(0)
    errors, hits = np.array([0.02, 0.05, 0.01]), 0
    for _ in range(2000):
        drawn = random.normal([0.5, 0.7, 0.1], errors)
        found = mean_of_estimates([Estimate(x, x - 1.96 * e, x + 1.96 * e) for x, e in zip(drawn, errors, strict=True)])
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 1.3 / 3 <= found.high
    assert 0.935 < hits / 2000 < 0.965


def test_so_many_clips_make_a_difference_more_than_noise() -> None:
    """The normal interval of a difference of paired answers, of which the standard deviation a clip is 0.6."""
    clips, difference = 400, 0.02
    half = 1.96 * 0.6 / clips**0.5
    needed = ScoreChange("x", Estimate(difference, difference - half, difference + half), clips).clips_needed
    assert needed is not None
    assert 1.96 * 0.6 / needed**0.5 == pytest.approx(difference, rel=0.02)
    assert needed in range(3400, 3601)
    assert ScoreChange("x", Estimate(0.1, 0.1 - half, 0.1 + half), clips).clips_needed is None


def test_the_front_has_what_nothing_beats() -> None:
    points = {"best": (0.9, 10.0), "beaten": (0.8, 9.0), "fast": (0.7, 50.0), "twin": (0.7, 50.0), "slow": (0.9, 8.0)}
    assert front(points) == {"best", "fast", "twin"}


def test_the_fastest_within_a_point_is_chosen_and_set_against_its_fp32() -> None:
    found = choose(variants())
    assert [row.name for row in found.rows] == ["other", "enc-fp32", "enc-int8", "enc-cut"]
    row = found.row("enc-int8")
    assert found.deploy == row
    assert (found.best, found.fastest) == (found.row("other"), found.row("enc-cut"))
    assert row.baseline == "enc-fp32"
    assert row.times_baseline == pytest.approx(3.0)
    assert row.clips_per_s == pytest.approx(30.0)
    assert row.change is not None
    assert row.change.difference == pytest.approx(-0.002)
    assert row.change.estimate.low == pytest.approx(-0.002 - 0.01 * 2**0.5 / 2)
    assert row.change.is_real is False
    cut = found.row("enc-cut").change
    assert cut is not None
    assert (cut.other, cut.is_real) == ("enc-fp32", True)
    assert [row.name for row in found.rows if row.on_front] == ["other", "enc-fp32", "enc-int8", "enc-cut"]
    assert headline(found).startswith("Deploy enc-int8 (")
    assert "3.0 × the speed of its fp32 enc-fp32 (30.0 against 10.0 clips/s), and 0.2 points" in headline(found)
    assert "points lower in mean score (no more than noise: 95 % interval -0.9 to +0.5)." in headline(found)
    latency = next(line for line in details(found) if "p99" in line)
    assert latency.startswith("At 5.00 clips/s")
    assert "(its fp32: " in latency
    assert [condition for condition, _ in alternatives(found)] == ["If accuracy is all", "If speed is all"]


def test_two_points_less_are_too_many_however_noisy() -> None:
    run = made_run({"good": ([0.82], [10.0]), "fast": ([0.80], [90.0])}, half=0.3)
    found = choose(run)
    assert found.deploy == found.row("good")
    assert "no model that is clearly faster comes within 1 point" in headline(found)
    noise = next(line for line in caveats(found) if "noise" in line)
    # 900 clips tell 30 points, so 2 points take 15 squared times as many.
    assert "Differences below about 30.0 points" in noise
    assert "about 210,000 could" in noise


def test_nearly_equal_speeds_leave_it_to_the_score() -> None:
    found = choose(made_run({"a": ([0.80], [100.0]), "b": ([0.805], [97.0]), "c": ([0.81], [50.0])}))
    assert found.deploy == found.row("b")


def test_without_speeds_the_best_is_chosen_and_the_reader_told() -> None:
    found = choose(made_run({"a": ([0.80], [None]), "b": ([0.805], [None])}))
    assert found.deploy == found.row("b")
    assert (found.fastest, found.deploy.clips_per_s, found.deploy.p99_ms) == (None, None, None)
    assert "speed not measured" in headline(found)
    assert any("No model's speed was measured" in line for line in caveats(found))


def test_one_model_is_no_choice_but_has_its_figures() -> None:
    found = choose(RUNS["small"]())
    assert headline(found).startswith("wav2vec2-base is the only model: mean score 91.3 %")
    assert alternatives(found) == []


def test_a_model_without_a_score_on_a_dataset_is_left_out_of_the_choice() -> None:
    run = RUNS["unscored"]()
    found = choose(run)
    assert [(row.name, row.is_complete) for row in found.rows][-1] == (run.unscored[0].model, False)
    assert found.deploy is not None
    assert found.deploy.name != run.unscored[0].model
    assert any(run.unscored[0].model in line and "left out of the choice" in line for line in caveats(found))


def test_of_models_on_different_data_none_is_chosen() -> None:
    run = RUNS["unscored"]()
    run.results = [one for one in run.results if (one.model, one.dataset) != (run.models[0].name, "gtzan")]
    found = choose(run)
    assert (found.deploy, found.why_not) == (None, "not comparable")
    assert headline(found).startswith("No model to deploy: no model has a score on every dataset")
    assert choose(Run.model_validate(run.model_dump() | {"results": []})).why_not == "no results"


def test_what_does_no_better_than_chance_is_not_deployed() -> None:
    run = made_run({"a": ([0.23], [10.0]), "b": ([0.22], [90.0])})
    for one in run.results:
        one.chance = 0.22
    found = choose(run)
    assert (found.deploy, found.why_not) == (None, "chance")
    assert caveats(found)[0] == "No model does better than chance (22.0 %) on d0."


def test_without_predictions_nothing_is_called_noise() -> None:
    run = variants()
    run.comparisons = []
    found = choose(run)
    assert found.deploy == found.row("enc-int8")
    assert found.deploy.change is not None
    assert found.deploy.change.difference == pytest.approx(-0.002)
    assert found.deploy.change.is_real is None
    assert "noise" not in headline(found)
    assert any("Whether enc-int8 differs by more than noise is not known" in line for line in caveats(found))


def test_latencies_at_another_rate_do_not_stand_beside_the_others() -> None:
    run = variants()
    measured = next(one for one in run.results if one.model == "enc-cut").measurement
    assert measured is not None
    measured.loads = [
        type(measured.loads[0]).model_validate(load_point("equal rate", 3.0, 200, 9.0, rate=9.0))
        if point.load == "equal rate"
        else point
        for point in measured.loads
    ]
    found = choose(run)
    assert found.row("enc-cut").p99_ms is None
    assert found.row("enc-int8").p99_ms is not None


def test_failures_are_counted_by_file_and_stalls_over_all() -> None:
    run = RUNS["usual"]()
    for one in run.results:
        assert one.measurement is not None
        one.measurement.loads[0].stalls = 2
    run.results[1].failures = run.results[0].failures
    run.results[1].failed = len(run.results[0].failures)
    found = "\n".join(caveats(choose(run)))
    assert "53 of 2,000 in esc50, with 2 of 3 models; 53 of 2,000 in gtzan" in found
    assert "12 requests took half a second more" in found
    assert "esc50 is incomplete" in found


@pytest.mark.parametrize("name", RUNS)
def test_every_run_has_a_verdict_and_a_table(name: str) -> None:
    run = RUNS[name]()
    run.footprints = [Footprint(model=run.models[0].name, memory_mib=812.0)]
    found = choose(run)
    table = choice_table(found)
    assert headline(found)
    assert len(table.rows) == len(run.models)
    assert {len(row) for row in table.rows} == {len(table.columns)}
    assert sum("812" in row for row in table.rows) == 1
    assert all("\n" not in line and "\x1b" not in line for line in [*caveats(found), *details(found)])


def test_a_dataset_that_no_model_scored_does_not_make_all_incomplete() -> None:
    run = variants()
    document = run.model_dump()
    document["datasets"].append(dataset("lost"))
    assert choose(Run.model_validate(document)).deploy is not None


def test_limits_are_grouped() -> None:
    run = RUNS["usual"]()
    assert run.results[0].measurement is not None
    run.results[0].measurement.bottleneck = "decoding"
    run.results[1].measurement = None
    assert limits_line(run.results) == "Limit of the throughput: 4 of 5: server compute, 1 of 5: decoding."
    assert limits_line(run.results[1:2]) == ""


def test_a_price_an_hour_becomes_one_of_clips_and_of_audio() -> None:
    run = made_run({"a": ([0.80], [100.0]), "b": ([0.70], [25.0])})
    run.settings.price = parse_price("3.60/h")
    found = choose(run)
    # 100 clips/s are 360,000 an hour, so a million take 2.78 hours.
    assert found.row("a").price_per_million_clips == pytest.approx(3.6 * 1e6 / 360_000)
    assert found.row("b").price_per_million_clips == pytest.approx(40.0)
    measured = found.row("a").results[found.scores.datasets[0]].measurement
    assert measured is not None
    assert found.row("a").price_per_1000_hours == pytest.approx(3.6 * 1000 / measured.rtfx)
    assert any("a million clips cost 10.0" in line for line in details(found))
    assert [row["price_per_million_clips"] for row in rows(run)] == [pytest.approx(10.0), pytest.approx(40.0)]
    assert choice_table(found).columns[-1].title == "Price per 1M clips"
    assert [row[-1] for row in choice_table(found).rows] == ["10.0", "40.0"]


@pytest.mark.parametrize("text", ["", "cheap", "-1/h", "0", "$2", "2.49/day", "nan", "1e400"])
def test_a_price_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"a price of an hour is a number over 0 such as 2\.49/h"):
        parse_price(text)
