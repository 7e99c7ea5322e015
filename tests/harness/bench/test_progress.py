"""What is said of long work where no bar can be drawn: a line every ten seconds."""

from __future__ import annotations

import io

import pytest
from arch_harness.bench import progress
from arch_harness.bench.progress import Display
from rich.console import Console


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_a_pipe_gets_a_line_every_ten_seconds(clock: Clock) -> None:
    pipe = io.StringIO()
    with Display(Console(file=pipe)).embedding("[m]", "d", 3000) as advance:
        for second in range(1, 36):
            clock.now += 1
            advance(0 if second < 15 else 100 * (second - 14), 500.0 * max(0, second - 14), "ramp")
    assert pipe.getvalue().splitlines() == [
        "embed [m] on d: 0 of 3,000 clips, ramp",
        "embed [m] on d: 600 of 3,000 clips, ramp 100.0 clips/s 500 s/s, 0:00:24 left",
        "embed [m] on d: 1,600 of 3,000 clips, ramp 100.0 clips/s 500 s/s, 0:00:14 left",
    ]


def test_probes_and_measurements_say_how_far_they_are(clock: Clock) -> None:
    pipe = io.StringIO()
    display = Display(Console(file=pipe))
    with display.measuring("m", "d", "run 2 of 3") as told:
        clock.now += 10
        told(70, 350.0, "alone")
    with display.probing("m", "d", 30) as advance:
        for _ in range(30):
            clock.now += 1
            advance()
    assert pipe.getvalue().splitlines() == [
        "measure m on d, run 2 of 3: 70 requests, alone",
        "probe m on d: 10 of 30 epochs, 0:00:20 left",
        "probe m on d: 20 of 30 epochs, 0:00:10 left",
        "probe m on d: 30 of 30 epochs",
    ]


def test_short_stages_share_the_ten_seconds(clock: Clock) -> None:
    pipe = io.StringIO()
    display = Display(Console(file=pipe))
    for stage in range(7):
        with display.probing("m", f"d{stage}", 4) as advance:
            for _ in range(4):
                clock.now += 1
                advance()
    assert pipe.getvalue().splitlines() == [
        "probe m on d2: 2 of 4 epochs, 0:00:02 left",
        "probe m on d4: 4 of 4 epochs",
    ]


def test_a_terminal_and_a_program_get_no_such_line(clock: Clock) -> None:
    screen = io.StringIO()
    for display in (Display(Console(file=screen, force_terminal=True, width=120)), Display(None)):
        with display.embedding("m", "d", 3000) as advance:
            clock.now += 60
            advance(100, 500.0, "ramp")
    assert "of 3,000 clips" not in screen.getvalue()
    assert "100/3000" in screen.getvalue()
