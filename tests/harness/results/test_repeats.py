"""The speed over several runs: mean, interval, and the verdict on two models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from arch_harness.results.measurement import Measurement
from arch_harness.results.repeats import (
    LATENCIES,
    SPEED_FIGURES,
    difference_of,
    mean_of,
    point_of,
    power_sources,
    powered_run,
    rtfx_of,
    same_power,
    spread_of,
    stalls_of,
    values_of,
)
from support.measurements import NO_POWER, consumption, load_point, measurement


def repeated(*speeds: float, first: str = "steady", **changes: Any) -> Measurement:
    """As many runs as there are speeds; every latency is 1000 / speed, at every load."""

    def loads(speed: float) -> list[dict[str, Any]]:
        return [load_point(load, 1000 / speed, 200, speed) for load in ("alone", "paced", "saturated", "equal rate")]

    found = measurement(speeds[0], 100, 1000) | {"loads": loads(speeds[0]), "steadiness": first}
    found["repeats"] = [
        {"started": "2026-03-01T12:00:00Z", "clips_per_s": speed, "steadiness": "steady", "loads": loads(speed)}
        for speed in speeds[1:]
    ]
    return Measurement.model_validate(found | changes)


def test_mean_and_interval_are_those_of_the_runs() -> None:
    spread = spread_of(repeated(9.0, 10.0, 11.0), "clips_per_s")
    assert spread is not None
    assert (spread.mean, spread.runs) == (10.0, 3)
    # Student's t with two degrees of freedom: 9.925 at 99 %; the standard error is 1 / sqrt(3).
    assert spread.half == pytest.approx(9.9248 / 3**0.5, rel=1e-4)


def test_one_run_has_no_interval_and_no_verdict() -> None:
    spread = spread_of(repeated(10.0), "clips_per_s")
    assert spread is not None
    assert spread.half is None
    assert difference_of(repeated(10.0), repeated(20.0), "clips_per_s") is None


def test_every_figure_is_known_and_its_mean_taken() -> None:
    found = repeated(8.0, 12.0)
    assert set(SPEED_FIGURES) == {"clips_per_s", *LATENCIES}
    assert mean_of(found, "p50_ms") == pytest.approx((1000 / 8 + 1000 / 12) / 2)
    assert mean_of(found, "equal_p99_ms") == pytest.approx(1.87 * (1000 / 8 + 1000 / 12) / 2)
    assert rtfx_of(found) == pytest.approx(5.0 * 10)


def test_a_first_run_that_was_too_short_gives_way() -> None:
    assert values_of(repeated(5.0, 10.0, 10.2, first="too short"), "clips_per_s") == [10.0, 10.2]
    assert values_of(repeated(5.0, first="too short"), "clips_per_s") == [5.0]


def test_a_difference_beyond_the_interval_is_real() -> None:
    found = difference_of(repeated(10.0, 10.1, 9.9), repeated(20.0, 20.2, 19.8), "clips_per_s")
    assert found is not None
    assert found.verdict == "real"
    assert found.ratio == pytest.approx(0.5, rel=1e-3)
    assert found.low < found.ratio < found.high < 1


def test_a_difference_that_is_sure_but_small_is_called_noise() -> None:
    found = difference_of(repeated(10.0, 10.001, 9.999), repeated(10.2, 10.201, 10.199), "clips_per_s")
    assert found is not None
    assert found.high < 1
    assert found.verdict == "noise"


def test_equal_models_hardly_ever_differ() -> None:
    random = np.random.default_rng(0)
    verdicts = []
    for _ in range(400):
        first, second = (repeated(*np.exp(random.normal(3, 0.1, 3))) for _ in range(2))
        found = difference_of(first, second, "clips_per_s")
        verdicts.append(found is not None and found.verdict == "real")
    assert sum(verdicts) <= 0.02 * len(verdicts)


def test_a_load_is_that_of_the_first_run_that_counts() -> None:
    found = repeated(5.0, 10.0, 10.2, first="too short")
    found.loads[0].stalls, found.repeats[1].loads[0].stalls = 2, 3
    point = point_of(found, "paced")
    assert point is not None
    assert point.latency_ms is not None
    assert point.latency_ms.p50 == 100.0
    assert stalls_of(found) == 5  # those of every run
    assert point_of(repeated(5.0, first="too short"), "equal rate") is not None


def powered(*watts: float | None, source: str = "GPU, by Triton") -> Measurement:
    """10 clips/s in each run, idle at 120 W; None is a run whose power is lost."""
    taken = [NO_POWER if mean is None else consumption(mean, source=source) for mean in watts]
    document = repeated(*[10.0] * len(watts)).model_dump() | {"consumption": taken[0]}
    document["repeats"] = [
        one | {"consumption": kept} for one, kept in zip(document["repeats"], taken[1:], strict=True)
    ]
    return Measurement.model_validate(document)


def test_energy_is_a_figure_of_each_run_whose_power_is_known() -> None:
    found = powered(None, 320.0, 420.0)
    assert values_of(found, "joules_per_clip") == pytest.approx([20.0, 30.0])
    spread = spread_of(found, "joules_per_clip")
    assert spread is not None
    assert spread.mean == pytest.approx(25.0)
    assert spread.runs == 2
    assert mean_of(found, "mean_power_w") == 370
    assert powered_run(found) is found.repeats[0]
    assert power_sources(found) == ["GPU, by Triton"]
    assert mean_of(powered(None, None), "joules_per_clip") is None
    assert mean_of(repeated(9.0, 10.0), "joules_per_clip") is None


def test_energies_compare_only_of_the_same_hardware() -> None:
    one, other = powered(320.0, 321.0), powered(520.0, 521.0)
    difference = difference_of(one, other, "joules_per_clip")
    assert difference is not None
    assert difference.ratio == pytest.approx(0.5, rel=0.01)
    assert difference.verdict == "real"
    assert same_power(one, other)
    assert not same_power(one, powered(320.0, source="GPU, by NVML"))
    assert not same_power(powered(None), powered(None))
