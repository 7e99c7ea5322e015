"""Which windows of a pass are spoilt by a server that is lost and comes back, and by clips that run out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from arch_harness.measuring.windows import Load, steady_windows
from arch_harness.streaming.actors import WorkerHandle
from arch_harness.streaming.loads.concurrency import ConcurrencySearch
from arch_harness.streaming.loads.phases import Plan
from arch_harness.streaming.pass_state import PassState
from arch_harness.streaming.steering import Steering
from arch_harness.streaming.wire import Job
from arch_harness.streaming.worker import WorkerStatus
from arch_harness.triton.server import Server

PER_TICK = 10  # clips of a worker, where its servers live


@dataclass
class Handle:
    """A worker, as far as steering looks at one."""

    last: WorkerStatus = field(default_factory=lambda: WorkerStatus(0, 0.0))
    drops: int = 0
    dead: int = 0
    waited: float = 0.0
    gone: bool = False
    asked: None = None

    @property
    def done(self) -> int:
        return self.last.done

    @property
    def last_done(self) -> float:
        return self.last.last_done

    def dropped(self, server: int) -> int:
        return self.drops if server == 0 else 0

    def begin(self) -> None:
        pass

    def tick(self) -> None:
        """A second passes."""
        done = self.last.done + (0 if self.waited else PER_TICK)
        self.last = WorkerStatus(done, self.last.last_done + 1, waited_s=self.waited, dead=self.dead)


class Offline(Steering):
    """Without Ray: what the workers tell is set by the test."""

    def exchange_status(self, state: PassState, window: int | None = None) -> None:
        pass


class Counterless:
    """A server without counters."""

    def statistics_if_up(self, _model: str) -> None:
        return None


def forever() -> Plan:
    """Windows of two looks."""
    while True:
        load = Load("measured", 8)
        for _ in range(2):
            seen = yield load
            if seen.starving:
                return


@dataclass
class Scene:
    handle: Handle
    state: PassState
    steering: Offline

    def ticks(self, count: int) -> None:
        for _ in range(count):
            self.handle.tick()
            self.steering.steer(self.state)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    job = Job("model", tmp_path, 16000, 1.0, 2, 0, 8)
    state = PassState(job, forever(), 8, ConcurrencySearch(4, 4, 256, 1000), 1000, iter([(0, "clip.wav")]))
    handle = Handle()
    steering = Offline([cast(WorkerHandle, handle)], cast("list[Server]", [Counterless()]))
    steering.begin(state)
    return Scene(handle, state, steering)


def usable(scene: Scene) -> list[float]:
    scene.state.close(scene.steering.progress(), [None], 1e3)
    return [one.rate for one in scene.state.windows if one.usable]


def test_the_time_without_a_server_is_in_no_window_that_counts(scene: Scene) -> None:
    """It is lost, and all wait; then it is back, and everything is as it was."""
    scene.ticks(6)
    scene.handle.drops, scene.handle.dead, scene.handle.waited = 1, 1, 1.0
    scene.ticks(7)
    scene.handle.dead, scene.handle.waited = 0, 0.0
    scene.ticks(7)
    assert usable(scene)
    assert set(usable(scene)) == {float(PER_TICK)}
    assert steady_windows(scene.state.windows)[1] == "steady"


def test_a_server_that_comes_back_begins_a_window_and_the_search(scene: Scene) -> None:
    """Another lives meanwhile: its windows count, but for those in which there were first two and then one."""
    search = cast(ConcurrencySearch, scene.state.search)
    scene.ticks(6)
    search.level = 64
    scene.handle.drops, scene.handle.dead = 1, 1
    scene.ticks(1)
    assert scene.state.windows[-2].disturbed
    assert search.level == 4
    scene.ticks(7)
    assert scene.state.windows[-1].number > 5
    assert not scene.state.windows[-1].disturbed
    search.level = 64
    windows = len(scene.state.windows)
    scene.handle.dead = 0
    scene.ticks(1)
    assert len(scene.state.windows) == windows + 1
    assert scene.state.windows[-2].disturbed
    assert search.level == 4


@pytest.mark.parametrize("rest", [0, 1])
def test_a_window_in_which_clips_run_out_does_not_count(scene: Scene, rest: int) -> None:
    scene.ticks(6 + rest)
    cast(Any, scene.state).exhausted = True
    scene.ticks(1)
    assert scene.state.over
    assert scene.state.windows[-2].cut_short
    assert not scene.state.windows[-2].usable
    assert scene.state.load.phase == "rest"
