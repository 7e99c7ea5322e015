"""Two runs compared: what is real, what is noise, and what cannot be compared at all."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from arch_common.errors import UsageError
from arch_harness.decision.compare import COMPARED_FIGURES, FigureDifference, RunComparison, RunFolder, compare_runs
from arch_harness.decision.document import comparison_text
from arch_harness.results.measurement import Consumption
from arch_harness.results.metric_definitions import METRICS
from arch_harness.results.predictions import predictions_path
from arch_harness.results.run import Run
from numpy.typing import NDArray
from support.decisions import right, write_folder
from support.measurements import consumption
from support.runs import origin

PAIR = ("hubert", "esc50")


def fallen(values: NDArray[np.float32], clips: int) -> NDArray[np.float32]:
    """The same, with so many more clips labelled wrongly."""
    found = values.copy()
    found[np.flatnonzero(found == 1)[:clips]] = 0
    return found


def folder_of(path: Path, values: NDArray[np.float32], *arguments: Any, **options: Any) -> RunFolder:
    return RunFolder(path, write_folder(path, {PAIR: values}, *arguments, **options), path / "store")


def figures(comparison: RunComparison) -> dict[str, FigureDifference]:
    return {one.figure: one for one in comparison.pairs[0].figures}


@pytest.fixture
def base(tmp_path: Path) -> RunFolder:
    return folder_of(tmp_path / "base", right(1000, 0.9))


def test_a_drop_on_the_same_clips_is_found(tmp_path: Path, base: RunFolder) -> None:
    found = compare_runs(folder_of(tmp_path / "new", fallen(right(1000, 0.9), 30)), base).pairs[0]
    (score,) = found.scores
    assert (found.name, score.probe, score.clips, score.differing) == ("hubert on esc50", "linear", 1000, 30)
    assert score.difference == pytest.approx(-0.03)
    assert (score.score, score.baseline_score) == pytest.approx((0.87, 0.9))
    assert score.low < -0.03 < score.high < 0
    assert score.verdict == "real"


def test_changes_both_ways_are_noise(tmp_path: Path, base: RunFolder) -> None:
    values = right(1000, 0.9)
    ours = fallen(values, 10)
    ours[np.flatnonzero(values == 0)[:9]] = 1
    (score,) = compare_runs(folder_of(tmp_path / "new", ours), base).pairs[0].scores
    assert score.difference == pytest.approx(-0.001)
    assert (score.differing, score.verdict) == (19, "noise")


def test_a_run_against_itself_differs_in_nothing(base: RunFolder) -> None:
    found = compare_runs(base, base)
    assert [one.difference for one in found.pairs[0].scores] == [0]
    assert {one.verdict for one in found.pairs[0].figures} == {"noise"}
    assert found.warnings == found.problems == []
    assert found.is_whole


def test_speeds_are_compared_over_the_repeats(tmp_path: Path, base: RunFolder) -> None:
    found = figures(compare_runs(folder_of(tmp_path / "new", right(1000, 0.9), (90.0, 91.0, 89.0)), base))
    speed = found["clips_per_s"]
    assert (speed.value, speed.baseline_value, speed.runs) == (90.0, 100.0, (3, 3))
    assert speed.ratio == pytest.approx(math.exp(np.mean(np.log([90, 91, 89])) - np.mean(np.log([100, 101, 99]))))
    assert speed.low is not None
    assert speed.high is not None
    assert speed.low < speed.ratio < speed.high < 1
    assert speed.verdict == "real"
    assert found["alone_p99_ms"].verdict == "noise"
    assert set(found) == {"clips_per_s", "alone_p50_ms", "alone_p99_ms", "equal_p50_ms", "equal_p99_ms", "p99_ms"}


def test_what_was_measured_once_has_no_verdict(tmp_path: Path, base: RunFolder) -> None:
    speed = figures(compare_runs(folder_of(tmp_path / "new", right(1000, 0.9), (50.0,)), base))["clips_per_s"]
    assert (speed.ratio, speed.low, speed.high, speed.verdict) == (0.5, None, None, "measured once")


@pytest.mark.parametrize(("rate", "compared"), [(5.04, True), (5.2, False)])
def test_latencies_at_a_rate_are_compared_within_one_percent_of_it(
    tmp_path: Path, base: RunFolder, rate: float, compared: bool
) -> None:
    found = compare_runs(folder_of(tmp_path / "new", right(1000, 0.9), rate=rate), base)
    assert ("equal_p99_ms" in figures(found)) == compared
    assert any("loads[equal rate].rate is 5.2, and 5 in the baseline" in one for one in found.warnings) != compared
    assert found.is_whole  # the other latencies tell as much


def test_saturated_latencies_are_compared_at_the_same_places_in_flight(tmp_path: Path, base: RunFolder) -> None:
    ours = folder_of(tmp_path / "new", right(1000, 0.9))
    measurement = ours.run.results[0].measurement
    assert measurement is not None
    point = measurement.at("saturated")
    assert point is not None
    point.in_flight = 32
    found = compare_runs(ours, base)
    assert "p99_ms" not in figures(found)
    (warning,) = found.warnings
    assert "loads[saturated].in_flight is 32, and 16 in the baseline: latencies at that load" in warning


def set_power(run: Run, *watts: float, source: str = "GPU, by Triton") -> None:
    """The mean power of each measurement of the run's first result, 20 W idle."""
    measured = run.results[0].measurement
    assert measured is not None
    for one, mean in zip((measured, *measured.repeats), watts, strict=True):
        one.consumption = Consumption.model_validate(consumption(mean, 20.0, source))


def test_energies_are_compared_over_the_repeats_where_they_are_of_the_same_hardware(
    tmp_path: Path, base: RunFolder
) -> None:
    ours = folder_of(tmp_path / "new", right(1000, 0.9))
    set_power(base.run, 120.0, 121.0, 119.0)
    set_power(ours.run, 170.0, 171.0, 169.0)
    comparison = compare_runs(ours, base)
    found = figures(comparison)["joules_per_clip"]
    assert (found.value, found.baseline_value) == pytest.approx((1.5, 1.0), rel=1e-2)
    assert found.ratio == pytest.approx(1.5, rel=1e-2)
    assert found.verdict == "real"
    assert comparison.warnings == []
    (section,) = [one for one in comparison_text(comparison).sections if one.title == "Speed and latency"]
    assert ["energy per clip, J" in row for row in section.table.rows].count(True) == 1
    assert {name: METRICS[name].better for name in COMPARED_FIGURES if METRICS[name].better != "lower"} == {
        "clips_per_s": "higher"
    }
    assert "Higher is better of clips/s, lower of all others." in section.text

    set_power(ours.run, 170.0, 171.0, 169.0, source="CPU, by RAPL")
    comparison = compare_runs(ours, base)
    assert "joules_per_clip" not in figures(comparison)
    (warning,) = comparison.warnings
    assert warning == (
        "hubert on esc50: measurement.consumption.power[].source is CPU, by RAPL, and GPU, by Triton in the baseline: "
        "energies are not compared"
    )
    assert comparison.is_whole


def set_machine(run: Run, **values: object) -> None:
    run.machine = run.machine.model_copy(update=values)


def set_server(run: Run, **values: object) -> None:
    run.servers = [one.model_copy(update=values) for one in run.servers]


def set_model(run: Run, **values: object) -> None:
    run.models = [one.model_copy(update=values) for one in run.models]


def set_transport(run: Run) -> None:
    measurement = run.results[0].measurement
    assert measurement is not None
    measurement.transport = "shared-memory"


@pytest.mark.parametrize(
    ("change", "field", "touched"),
    [
        (lambda run: set_machine(run, cpu="Intel Xeon"), "machine.cpu is Intel Xeon, and AMD EPYC 7B13", "speed"),
        (lambda run: set_machine(run, gpus=[]), "machine.gpus is none, and NVIDIA H100 80GB HBM3", "speed"),
        (lambda run: set_machine(run, cores=8), "machine.cores is 8, and 16", "speed"),
        (
            lambda run: set_machine(run, packages={"numpy": "1.26.4", "ray": "2.41.0"}),
            "machine.packages is ray 2.41.0, and ray 2.40.0",
            "scores, speed",
        ),
        (lambda run: set_server(run, version="2.60.0"), "servers[].version is 2.60.0, and 2.51.0", "speed"),
        (lambda run: set_server(run, same_machine=False), "servers[].same_machine is False, and True", "speed"),
        (lambda run: set_model(run, executed_by="fp16"), "models[].executed_by is fp16, and not known", "scores"),
        (lambda run: set_model(run, instances=2), "models[].instances is 2, and 1", "speed"),
        (set_transport, "measurement.transport is shared-memory, and grpc", "speed"),
        (lambda run: setattr(run, "arch_version", "0.2.0"), "arch_version is 0.2.0, and 0.1.0", "scores"),
        (lambda run: setattr(run.settings, "seeds", 5), "settings.seeds is 5, and 3", "scores"),
        (lambda run: setattr(run.settings, "concurrency", None), "settings.concurrency is not set, and 16", "speed"),
    ],
)  # fmt: skip
def test_what_differs_beside_the_figures_is_named(
    tmp_path: Path, base: RunFolder, change: Callable[[Run], None], field: str, touched: str
) -> None:
    ours = folder_of(tmp_path / "new", right(1000, 0.9))
    change(ours.run)
    found = compare_runs(ours, base)
    (warning,) = [one for one in found.warnings if field in one]
    assert f"in the baseline: {touched}" in warning
    assert warning.endswith("may differ by that alone")
    assert found.pairs[0].scores
    assert found.pairs[0].figures


def test_other_data_are_not_compared(tmp_path: Path, base: RunFolder) -> None:
    ours = folder_of(tmp_path / "new", right(1000, 0.9))
    ours.run.datasets[0].listing = "1" * 64
    found = compare_runs(ours, base)
    assert found.pairs[0].scores == []
    assert found.pairs[0].figures == []
    assert found.warnings == [
        "hubert on esc50: datasets[].listing (clips, labels and folds) is 111111111111, and 000000000000 in the "
        "baseline: scores, speed and latency are not compared"
    ]
    assert not found.is_whole


@pytest.mark.parametrize("field", ["metric", "epochs"])
def test_another_protocol_leaves_the_speed_to_be_compared(tmp_path: Path, base: RunFolder, field: str) -> None:
    ours = folder_of(tmp_path / "new", right(1000, 0.9))
    if field == "metric":
        ours.run.results[0].metric = "map_macro"
    else:
        ours.run.settings.epochs = 50
    found = compare_runs(ours, base)
    assert found.pairs[0].scores == []
    assert figures(found)["clips_per_s"].verdict == "noise"
    assert "scores are not compared" in found.warnings[0]
    assert not found.is_whole


def test_predictions_that_are_not_kept_are_missed(tmp_path: Path, base: RunFolder) -> None:
    ours = folder_of(tmp_path / "new", right(1000, 0.9))
    predictions_path(ours.folder, *PAIR, "linear").unlink()
    found = compare_runs(ours, base)
    assert found.pairs[0].scores == []
    assert "what the probe linear made of the test clips is not kept in both folders" in found.problems[0]
    assert not found.is_whole


def test_models_of_two_names_are_paired_by_hand(tmp_path: Path, base: RunFolder) -> None:
    values = right(1000, 0.9)
    path = tmp_path / "new"
    run = write_folder(path, {("hubert-int8", "esc50"): fallen(values, 30), ("other", "esc50"): values})
    ours = RunFolder(path, run, path)
    with pytest.raises(UsageError, match=r"have no model and dataset in common.*--pair MODEL=MODEL"):
        compare_runs(ours, base)
    found = compare_runs(ours, base, {"hubert-int8": "hubert"})
    assert [pair.name for pair in found.pairs] == ["hubert-int8 against hubert on esc50"]
    assert found.pairs[0].scores[0].difference == pytest.approx(-0.03)
    assert found.only_in_run == ["other on esc50"]
    assert found.only_in_baseline == []
    with pytest.raises(UsageError, match="has no model 'huber'; it has hubert"):
        compare_runs(ours, base, {"hubert-int8": "huber"})


def test_a_pair_by_hand_that_the_run_lost_is_named(tmp_path: Path) -> None:
    values = right(1000, 0.9)
    ours, theirs = tmp_path / "new", tmp_path / "base"
    run = RunFolder(ours, write_folder(ours, {("hubert-int8", "esc50"): values}), ours)
    baseline = {(model, data): values for model in ("hubert", "hubert-int8") for data in ("esc50", "gtzan")}
    base = RunFolder(theirs, write_folder(theirs, baseline), theirs)
    # The baseline's own hubert-int8 is compared with nothing, and so not missed.
    found = compare_runs(run, base, {"hubert-int8": "hubert"})
    assert found.only_in_baseline == ["hubert on gtzan"]
    # Of two that are exchanged, each is also what the other is compared with.
    both = {("hubert-int8", "esc50"): values, ("hubert", "esc50"): values}
    run = RunFolder(ours, write_folder(ours, both), ours)
    found = compare_runs(run, base, {"hubert-int8": "hubert", "hubert": "hubert-int8"})
    assert found.only_in_baseline == ["hubert on gtzan", "hubert-int8 on gtzan"]


def test_what_one_of_the_two_lacks_is_named(tmp_path: Path, base: RunFolder) -> None:
    path = tmp_path / "more"
    more = RunFolder(path, write_folder(path, {PAIR: right(1000, 0.9), ("hubert", "gtzan"): right(500, 0.5)}), path)
    assert compare_runs(more, base).only_in_run == ["hubert on gtzan"]
    found = compare_runs(base, more)
    assert found.only_in_baseline == ["hubert on gtzan"]
    assert found.warnings == [f"not in the run {base.folder}, and so not compared: hubert on gtzan"]


def test_a_speed_that_was_taken_over_is_told_and_compared_by_where_it_was_measured(
    tmp_path: Path, base: RunFolder
) -> None:
    ours = folder_of(tmp_path / "new", right(1000, 0.9))
    ours.run.results[0].carried = origin()
    found = compare_runs(ours, base)
    assert found.pairs[0].figures
    (warning,) = found.warnings
    assert warning == (
        "hubert on esc50: results[].carried is measured in an earlier run of 2026-02-27 09:05, and measured in the run "
        "in the baseline: speed and latency may differ by that alone"
    )
    # Hardware counts as it does between runs.
    ours.run.results[0].carried = origin(cpu="Intel Xeon")
    found = compare_runs(ours, base)
    (warning,) = [one for one in found.warnings if "machine.cpu" in one]
    assert warning.startswith("hubert on esc50: machine.cpu is Intel Xeon, and AMD EPYC 7B13 in the baseline")
    assert [one.decides for one in found.pairs[0].mismatches if one.field == "machine.cpu"] == [True]
