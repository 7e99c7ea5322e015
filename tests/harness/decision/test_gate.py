"""A run held to thresholds: what fails, what passes, what cannot be told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from arch_common.errors import ArchError, GateError, UsageError
from arch_harness.decision.compare import RunFolder
from arch_harness.decision.formats import to_junit
from arch_harness.decision.gate import GateCheck, GateResult, run_gate
from arch_harness.decision.thresholds import LatencyLimit, Thresholds
from arch_harness.results.run import Unscored
from arch_harness.results.scores import Failure
from numpy.typing import NDArray
from support.decisions import right, write_folder
from support.runs import origin

MODELS, DATASETS = ("hubert", "wavlm"), ("esc50", "gtzan")


def flipped(values: NDArray[np.float32], down: int, up: int = 0) -> NDArray[np.float32]:
    """So many clips more labelled wrongly, and so many rightly, all over the folds."""
    found = values.copy()
    found[np.flatnonzero(values == 1)[:down]] = 0
    found[np.flatnonzero(values == 0)[:up]] = 1
    return found


def folder_of(path: Path, first: NDArray[np.float32] | None = None, *arguments: Any, **options: Any) -> RunFolder:
    """Two models on two datasets of 2,000 clips; `first` is of the first pair."""
    values = {(model, data): right(2000, 0.9) for data in DATASETS for model in MODELS}
    if first is not None:
        values["hubert", "esc50"] = first
    return RunFolder(path, write_folder(path, values, *arguments, **options), path / "store")


@pytest.fixture
def base(tmp_path: Path) -> RunFolder:
    return folder_of(tmp_path / "base")


def verdicts(result: GateResult) -> list[str]:
    return [check.verdict for check in result.checks]


def first(result: GateResult) -> GateCheck:
    return next(check for check in result.checks if check.pair in ("hubert on esc50", "esc50"))


@pytest.mark.parametrize(
    ("down", "up", "verdict", "evidence"),
    [
        (0, 0, "PASS", "90.0 % against 90.0 %: all 2,000 test clips are labelled alike"),
        (40, 0, "FAIL", "88.0 % against 90.0 %: -2.0 points ("),
        (15, 0, "PASS", "89.2 % against 90.0 %: -0.8 points ("),  # real, and allowed
        (0, 60, "PASS", "93.0 % against 90.0 %: +3.0 points ("),
        (190, 160, "UNSURE", "88.5 % against 90.0 %: -1.5 points ("),
    ],
)
def test_a_drop_fails_where_it_is_more_than_allowed_and_real(
    tmp_path: Path, base: RunFolder, down: int, up: int, verdict: str, evidence: str
) -> None:
    ours = folder_of(tmp_path / "new", flipped(right(2000, 0.9), down, up))
    result = run_gate(ours, base, Thresholds(max_drop=0.01))
    assert verdicts(result) == [verdict, "PASS", "PASS", "PASS"]
    assert first(result).rule == "max-drop 1pt"
    assert first(result).evidence.startswith(evidence)
    assert result.passed == (verdict != "FAIL")


def test_what_cannot_be_told_says_how_many_clips_would_tell(tmp_path: Path, base: RunFolder) -> None:
    ours = folder_of(tmp_path / "new", flipped(right(2000, 0.9), 190, 160))
    result = run_gate(ours, base, Thresholds(max_drop=0.01))
    assert "may be noise; about " in first(result).evidence
    assert first(result).evidence.endswith(" test clips would tell")
    result.enforce()
    strict = run_gate(ours, base, Thresholds(max_drop=0.01), strict=True)
    with pytest.raises(GateError, match="gate failed: 1 UNSURE, 3 PASS"):
        strict.enforce()


def test_the_more_is_compared_the_surer_a_drop_must_be(tmp_path: Path, base: RunFolder) -> None:
    """A drop of 25 clips of 185 that changed: z is about 1.84 before the folds are drawn."""
    ours = folder_of(tmp_path / "new", flipped(right(2000, 0.9), 80, 42))
    everything = run_gate(ours, base, Thresholds(max_drop=0.01))
    alone = run_gate(ours, base, Thresholds(max_drop=0.01), models=["hubert"], datasets=["esc50"])
    bounds = [first(one).evidence.split("(")[1].split(" to ")[0] for one in (everything, alone)]
    assert float(bounds[0]) < float(bounds[1]) < -1.9


@pytest.mark.parametrize(
    ("speeds", "verdict", "evidence"),
    [
        ((90.0, 91.0, 89.0), "FAIL", "90.0 against 100 clips/s: 0.900 times ("),
        ((100.0, 99.0, 101.0), "PASS", "100 against 100 clips/s: 1.000 times ("),
        ((130.0, 131.0), "PASS", "130 against 100 clips/s: 1.305 times ("),
        ((80.0, 120.0, 70.0), "UNSURE", "90.0 against 100 clips/s: 0.876 times ("),
        ((50.0,), "MISSING", "50.0 against 100 clips/s, measured once in the run: no interval, no verdict; arch bench"),
    ],
)
def test_a_slowdown_fails_where_it_is_more_than_allowed_and_real(
    tmp_path: Path, base: RunFolder, speeds: Sequence[float], verdict: str, evidence: str
) -> None:
    result = run_gate(folder_of(tmp_path / "new", None, speeds), base, Thresholds(min_speed=0.95))
    assert verdicts(result) == [verdict] * 4
    assert first(result).rule == "min-speed 0.95"
    assert first(result).evidence.startswith(evidence)


def test_speeds_of_two_machines_are_not_judged(tmp_path: Path, base: RunFolder) -> None:
    ours = folder_of(tmp_path / "new")
    ours.run.machine = ours.run.machine.model_copy(update={"cpu": "Intel Xeon"})
    result = run_gate(ours, base, Thresholds(min_speed=0.95, max_drop=0.01))
    assert verdicts(result) == ["PASS"] * 4 + ["MISSING"] * 4
    assert result.checks[-1].evidence.startswith("machine.cpu is Intel Xeon, and AMD EPYC 7B13 in the baseline")
    with pytest.raises(ArchError, match="gate could not be made whole: 4 MISSING, 4 PASS") as raised:
        result.enforce()
    assert raised.value.exit_code == 1


@pytest.mark.parametrize(
    ("limit", "speeds", "verdict", "evidence"),
    [
        (LatencyLimit(80, 5.0), (100, 101, 99), "PASS", "p99 74.8 ms ("),
        (LatencyLimit(70, 5.0), (100, 101, 99), "FAIL", "p99 74.8 ms ("),
        (LatencyLimit(70, None), (100, 101, 99), "FAIL", "p99 74.8 ms ("),
        (LatencyLimit(74, 5.0), (100, 101, 99), "UNSURE", "p99 74.8 ms ("),
        (LatencyLimit(80, 5.0), (100,), "MISSING", "p99 74.8 ms, measured once: "),
        (LatencyLimit(80, 16.0), (100, 101, 99), "MISSING", "measured at 5.00 clips/s: arch bench --rate 16"),
    ],
)
def test_a_latency_is_judged_at_its_load(
    tmp_path: Path, base: RunFolder, limit: LatencyLimit, speeds: Sequence[float], verdict: str, evidence: str
) -> None:
    ours = folder_of(tmp_path / "new", None, speeds)
    result = run_gate(ours, base, Thresholds(max_p99=(limit,)))
    assert verdicts(result) == [verdict] * 4
    assert first(result).evidence.startswith(evidence)


def test_failures_are_counted_by_file(tmp_path: Path, base: RunFolder) -> None:
    """Two broken files, which no model could be given: 2 of 2,000, not 4."""
    ours = folder_of(tmp_path / "new", failed={"esc50": ["audio/a.wav", "audio/b.wav"]})
    result = run_gate(ours, base, Thresholds(max_failed=0.001))
    assert [(one.pair, one.verdict, one.evidence) for one in result.checks] == [
        ("esc50", "PASS", "2 of 2,000 files failed (0.1 %): audio/a.wav, audio/b.wav"),
        ("gtzan", "PASS", "0 of 2,000 files failed (0 %)"),
    ]
    assert verdicts(run_gate(ours, base, Thresholds(max_failed=0.0005))) == ["FAIL", "PASS"]


def test_a_dataset_whose_clips_all_failed_is_no_passed_one(tmp_path: Path, base: RunFolder) -> None:
    def lose(ours: RunFolder, models: Sequence[str]) -> None:
        lost = [one for one in ours.run.results if one.dataset == "gtzan" and one.model in models]
        ours.run.results = [one for one in ours.run.results if one not in lost]
        failures = [Failure(clip=f"audio/{clip:04}.wav", stage="infer", reason="refused") for clip in range(2000)]
        ours.run.unscored = [
            Unscored(model=one.model, dataset="gtzan", reason="none of its clips", clips=2000, failures=failures)
            for one in lost
        ]

    thresholds = Thresholds(max_failed=0.01)
    ours = folder_of(tmp_path / "new")
    lose(ours, ["hubert"])
    checks = {one.pair: one for one in run_gate(ours, base, thresholds).checks if one.rule == "max-failed 1%"}
    assert checks["esc50"].verdict == "PASS"
    assert checks["gtzan"].verdict == "FAIL"
    assert checks["gtzan"].evidence.startswith("2,000 of 2,000 files failed (100 %)")
    assert verdicts(run_gate(ours, base, thresholds, models=["wavlm"])) == ["PASS"] * 2
    assert verdicts(run_gate(ours, base, thresholds, datasets=["esc50"])) == ["PASS"]
    lose(ours, MODELS)
    # The baseline has no score there either: nothing but the failures tells of the dataset.
    lose(base, MODELS)
    found = run_gate(ours, base, thresholds, datasets=DATASETS)
    assert [(one.pair, one.verdict) for one in found.checks] == [("esc50", "PASS"), ("gtzan", "FAIL")]


def test_a_pair_that_the_run_lost_is_missing(tmp_path: Path, base: RunFolder) -> None:
    ours = folder_of(tmp_path / "new")
    ours.run.results = ours.run.results[1:]
    result = run_gate(ours, base, Thresholds(max_drop=0.01))
    assert (result.checks[0].pair, result.checks[0].verdict) == ("hubert on esc50", "MISSING")
    assert verdicts(result)[1:] == ["PASS"] * 3
    assert verdicts(run_gate(ours, base, Thresholds(max_drop=0.01), datasets=["gtzan"])) == ["PASS"] * 2
    with pytest.raises(UsageError, match="neither run has a dataset 'gtzan2'; they have esc50, gtzan"):
        run_gate(ours, base, Thresholds(max_drop=0.01), datasets=["gtzan2"])


def test_other_data_are_not_judged(tmp_path: Path, base: RunFolder) -> None:
    ours = folder_of(tmp_path / "new")
    ours.run.datasets[0].listing = "1" * 64
    result = run_gate(ours, base, Thresholds(max_drop=0.01, min_speed=0.95))
    assert verdicts(result) == ["MISSING", "MISSING", "PASS", "PASS"] * 2
    assert "datasets[].listing" in result.checks[0].evidence
    assert "datasets[].listing" in result.checks[4].evidence


def test_junit_has_a_test_for_each_check(tmp_path: Path, base: RunFolder) -> None:
    ours = folder_of(tmp_path / "new", flipped(right(2000, 0.9), 190, 160), (90.0, 91.0, 89.0))
    limit = LatencyLimit(200, 16.0)
    result = run_gate(ours, base, Thresholds(max_drop=0.01, min_speed=0.95, max_p99=(limit,)))
    root = ElementTree.fromstring(to_junit(result))  # noqa: S314 - our own
    counts = {name: root.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "12", "failures": "4", "errors": "4", "skipped": "1"}
    assert [suite.get("name") for suite in root] == ["max-drop 1pt", "min-speed 0.95", "max-p99 200ms@16/s"]
    cases = {(case.get("classname"), case.get("name")): [child.tag for child in case] for case in root.iter("testcase")}
    assert cases["arch gate.max-drop 1pt", "hubert on esc50"] == ["skipped"]
    assert cases["arch gate.min-speed 0.95", "hubert on esc50"] == ["failure"]
    assert cases["arch gate.max-p99 200ms@16/s", "hubert on esc50"] == ["error"]
    assert cases["arch gate.max-drop 1pt", "wavlm on gtzan"] == ["system-out"]
    strict = run_gate(ours, base, Thresholds(max_drop=0.01, max_p99=(limit,)), strict=True)
    root = ElementTree.fromstring(to_junit(strict))  # noqa: S314 - our own
    assert {name: root.get(name) for name in counts} == {
        "tests": "8", "failures": "5", "errors": "0", "skipped": "0",
    }  # fmt: skip


def test_a_gate_takes_no_earlier_speed_for_the_runs(tmp_path: Path, base: RunFolder) -> None:
    ours = folder_of(tmp_path / "new")
    thresholds = Thresholds(min_speed=0.95, max_p99=(LatencyLimit(200, 5.0),))
    assert {check.verdict for check in run_gate(ours, base, thresholds).checks} == {"PASS"}
    ours.run.results[0].carried = origin()
    missing = run_gate(ours, base, thresholds).of("MISSING")
    assert [check.rule for check in missing] == ["min-speed 0.95", "max-p99 200ms@5/s"]
    assert {check.evidence for check in missing} == {
        "the run measured no speed, but took over that of an earlier one; arch bench --recompute"
    }
    # A baseline may have it from earlier: it was measured there, if not then.
    ours.run.results[0].carried = None
    base.run.results[0].carried = origin()
    assert {check.verdict for check in run_gate(ours, base, thresholds).checks} == {"PASS"}
