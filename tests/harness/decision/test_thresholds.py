"""Thresholds as options and YAML files write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from arch_common.errors import UsageError
from arch_harness.decision.thresholds import LatencyLimit, Thresholds, read_thresholds


def test_options_are_read() -> None:
    found = read_thresholds(
        {
            "max-drop": "1pt",
            "min-speed": "0.95",
            "max-p99": ["200ms@16/s", "0.05s@alone"],
            "max-failed": "1%",
            "min-cosine": 0.999,
        }
    )
    limits = (LatencyLimit(200, 16), LatencyLimit(50, None))
    assert found == Thresholds(max_drop=0.01, min_speed=0.95, max_p99=limits, max_failed=0.01, min_cosine=0.999)
    assert [str(one) for one in limits] == ["200ms@16/s", "50ms@alone"]


def test_options_take_the_place_of_what_a_file_says(tmp_path: Path) -> None:
    file = tmp_path / "gate.yaml"
    file.write_text("max-drop: 2 points\nmin-speed: 0.9\nmax-p99:\n  - 200ms@16/s\n  - 50ms@alone\nmax-failed: 0\n")
    found = read_thresholds({"min-speed": "95%", "max-drop": None, "max_p99": None}, file)
    limits = (LatencyLimit(200, 16), LatencyLimit(50, None))
    assert found == Thresholds(max_drop=0.02, min_speed=0.95, max_p99=limits, max_failed=0.0)
    file.write_text("max-p99: 200ms@16/s\n")
    assert read_thresholds({}, file).max_p99 == limits[:1]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("max-drop", "1", "--max-drop cannot be '1': wants percentage points, such as 1pt"),
        ("max-drop", "1%", "wants percentage points"),
        ("max-drop", "101pt", "out of its range"),
        ("max-drop", "-1pt", "wants percentage points"),
        ("min-speed", "1.05", "wants a ratio to the baseline's clips/s, above 0 and up to 1"),
        ("min-speed", "0", "wants a ratio"),
        ("min-speed", "fast", "wants a ratio"),
        ("max-p99", "200ms", "wants a latency and its load, such as 200ms@16/s"),
        ("max-p99", "200@16/s", "wants a latency and its load"),
        ("max-p99", "200ms@saturated", "wants a latency and its load"),
        ("max-p99", "200ms@0/s", "no clip is sent at a rate of 0"),
        ("max-failed", "1", "wants a share of a dataset's files, such as 1%"),
        ("max-failed", "101%", "out of its range"),
        ("min-cosine", "nan", "wants a cosine similarity"),
        ("min-cosine", "1.1", "out of its range"),
    ],
)
def test_what_cannot_be_meant_is_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        read_thresholds({name: value})
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max-dorp: 1pt", "{file}: max-dorp: unknown threshold 'max-dorp'; did you mean max-drop?"),
        ("colour: red", "{file}: colour: unknown threshold 'colour'; known are max-drop, min-speed, max-p99"),
        ("max-drop: 1", "{file}: max-drop cannot be '1': wants percentage points"),
        ("max-drop: [1pt]", "{file}: max-drop cannot be"),
        ("- max-drop", "{file} is no YAML file of thresholds: it wants lines such as 'max-drop: 1pt'"),
        ("max-drop: [", "{file} is no YAML file of thresholds: while parsing"),
        ("", "{file} is no YAML file of thresholds"),
        ("{}", "no threshold is given: use one or more of --max-drop, --min-speed"),
        ("[" * 5000, "{file} is no YAML file of thresholds"),
    ],
)
def test_a_file_that_says_something_else_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "gate.yaml"
    file.write_text(text)
    with pytest.raises(UsageError) as raised:
        read_thresholds({}, file)
    assert str(raised.value).startswith(message.format(file=file))
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the thresholds in .*none\.yaml: No such file or directory"):
        read_thresholds({}, tmp_path / "none.yaml")
