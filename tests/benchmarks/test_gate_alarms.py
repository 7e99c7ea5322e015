"""The gate on simulated runs: silent where nothing has changed, and not where something was planted."""

from __future__ import annotations

import gate_alarms
import pytest
from gate_alarms import Scene

pytestmark = pytest.mark.slow

RUNS = 12
SMALL = Scene(models=2, datasets=1, clips=800)


def test_it_does_not_alarm_where_nothing_has_changed() -> None:
    assert gate_alarms.alarms(SMALL, RUNS) == {"any": 0, "max-drop": 0, "min-speed": 0}


def test_it_catches_what_was_planted() -> None:
    """4,000 clips tell two points, three measurements ten percent."""
    scene = Scene(models=2, datasets=1, clips=4000)
    assert gate_alarms.alarms(scene, 6, drop=0.02, slowdown=0.1) == {"any": 6, "max-drop": 6, "min-speed": 6}


def test_a_drop_beside_a_whole_speed_fails_its_own_rule_alone() -> None:
    found = gate_alarms.gated(SMALL, 1, drop=0.1)
    assert found[("max-drop", "FAIL")] == 1
    assert found[("max-drop", "PASS")] == 1
    assert found[("min-speed", "PASS")] == 2
