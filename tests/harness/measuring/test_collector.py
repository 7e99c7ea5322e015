"""Which part of a pass its throughput is taken from where the dataset is too short for windows."""

from __future__ import annotations

import numpy as np
import pytest
from arch_harness.measuring.chunk import Answer, Chunk
from arch_harness.measuring.collector import MeasurementCollector
from arch_harness.measuring.windows import Load, Progress, Window
from arch_harness.results.measurement import Consumption, Faults, Measurement, PhaseName, Utilisation


def passed(*windows: tuple[PhaseName, int, float, bool]) -> Measurement:
    """A pass of one worker: each window's phase, answers and seconds, and whether clips ran out in it."""
    collector = MeasurementCollector()
    made: list[Window] = []
    done, now = 0, 0.0
    for number, (phase, answers, seconds, cut_short) in enumerate(windows):
        before = [Progress(done, now)]
        for clip in range(done, done + answers):
            times = {"decode_ms": 1.0, "resample_ms": 1.0, "wait_ms": 1.0, "latency_ms": 9.0, "late_ms": 0.0}
            found = Answer(
                clip, np.zeros((1, 2), np.float32), 1.0, False, 0, **times, sent_in=number, answered_in=number
            )
            collector.add(Chunk([found]))
        done, start, now = done + answers, now, now + seconds
        made.append(
            Window(
                number, Load(phase, 8), start, before, [None], now, [Progress(done, now)], [None], cut_short=cut_short
            )
        )
    return collector.measurement(
        windows=made,
        seconds=now,
        concurrency_found=True,
        workers=1,
        nodes=[],
        servers=[],
        transport="grpc",
        faults=Faults(),
        utilisation=Utilisation(seconds=[], client_cores=[], machine_cores=[], gpu=None, clips_per_s=[]),
        consumption=lambda _: Consumption.model_construct(),
    )


@pytest.mark.parametrize(
    ("windows", "rate", "phases"),
    [
        # Two windows are measured, and what was left then is no third.
        (
            [("ramp", 10, 5.0, False), *[("measured", 40, 4.0, False)] * 2, ("measured", 1, 1.0, True)],
            10.0,
            ["ramp", "measured", "warm"],
        ),
        # None is: everything at full speed.
        ([("alone", 5, 5.0, False), ("ramp", 30, 2.0, False), ("measured", 20, 3.0, True)], 10.0, None),
        # Nothing was answered at full speed.
        ([("warm", 20, 2.0, False), ("alone", 2, 2.0, False), ("ramp", 0, 0.1, False)], 10.0, None),
    ],
)
def test_too_short(windows: list[tuple[PhaseName, int, float, bool]], rate: float, phases: list[str] | None) -> None:
    found = passed(*windows)
    assert found.steadiness == "too short"
    assert found.clips_per_s == pytest.approx(rate, rel=0.06)
    assert found.window_clips_per_s == ([10.0, 10.0] if phases else [])
    if phases:
        assert [phase.name for phase in found.phases] == phases
    else:
        assert "measured" not in [phase.name for phase in found.phases]
