"""Load tests without a server and without LoadGen: what sends is a server's law, and answers at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from arch_harness.load.asked import LoadRequest
from arch_harness.load.logs import Log, Part, SampleTimes
from arch_harness.load.measure import LoadTest
from arch_harness.load.report import Ceiling
from arch_harness.load.reporting import LoadReporter
from arch_harness.load.sending.client import Clips
from arch_harness.load.sending.messages import Order
from arch_harness.results.run import ModelFacts, ServerFacts
from support.runs import model

QUERIES = 1000
FREE = Ceiling(clips_per_s=10_000, where="measured", allowed=0.7)


@dataclass
class Law:
    """What answers each clip in 10 ms up to a rate, and in 1 s above.

    Attributes:
        capacity: that rate, in clips/s.
        late_ms: by which LoadGen hands each clip over late.
        failed: samples of a run without an embedding.
        end: called before each run, with its number from 1; what it raises ends it.
        shut: called when no more is sent.
        orders: of all runs.
    """

    capacity: float = 100.0
    late_ms: float = 0.0
    failed: int = 0
    end: Callable[[int], None] = lambda _: None
    shut: Callable[[], None] = lambda: None
    orders: list[Order] = field(default_factory=list)

    @contextmanager
    def sending(self, *_: object) -> Iterator[Law]:
        """In the place of the process that sends."""
        yield self
        self.shut()

    def parts(self, order: Order) -> list[Part]:
        """One run."""
        self.orders.append(order)
        self.end(len(self.orders))
        rate = float(order.settings.get("server_target_qps", 50.0))
        late = rate > self.capacity
        done = np.full(QUERIES, 1000.0 if late else 10.0) + self.late_ms
        places = np.arange(QUERIES)
        samples = SampleTimes(1e3 * places / rate, places, places % 2, np.full(QUERIES, self.late_ms), done)
        met = {"result_perf_constraints_met": not late} if "server_target_qps" in order.settings else {}
        log = Log({"result_validity": "INVALID" if late and met else "VALID", **met}, [])
        failed = places < self.failed
        return [Part(log, samples, failed, {"full": self.failed} if self.failed else {}, 0.0)]


class OwnServer:
    """What is asked of a server beside clips, each once.

    Args:
        address: of another machine's, or of this one's.
        lost: what is raised instead of a round trip.
    """

    def __init__(self, address: str = "127.0.0.1:8001", lost: Exception | None = None) -> None:
        self.address, self._lost = address, lost
        self.endpoint = SimpleNamespace(loopback=address.startswith("127."))
        self.asked = 0

    def facts(self) -> ServerFacts:
        """As Triton tells them."""
        self.asked += 1
        return ServerFacts(
            address=self.address, name="triton", version="2.70.0", started_by_arch=True, same_machine=True
        )

    def round_trip_ms(self) -> float:
        """Of a call."""
        if self._lost:
            raise self._lost
        return 0.5

    def statistics(self, _: str) -> Any:
        """None that can be compared."""
        return SimpleNamespace(since=lambda *_: None)


def facts_of(name: str, sample_rate: int = 16000) -> ModelFacts:
    """A model's."""
    return ModelFacts(**model(name) | {"sample_rate": sample_rate})


def clips_of(seconds: float, sample_rate: int = 16000) -> Clips:
    """Two of one length."""
    return Clips(Path("clips"), [round(seconds * sample_rate)] * 2, sample_rate, 0)


def load_of(law: Law, asked: LoadRequest, clips: Clips | None = None, notes: list[str] | None = None) -> LoadTest:
    """A load test that `law` answers."""
    test = LoadTest(asked, clips or clips_of(2), Path("nowhere"), (notes if notes is not None else []).append)
    test._sending = law.sending  # type: ignore[method-assign,assignment]
    return test


def reporter_of(
    asked: LoadRequest, folder: Path, models: tuple[str, ...] = ("a",), server: OwnServer | None = None
) -> LoadReporter:
    """What writes its report."""
    dataset: Any = SimpleNamespace(id="demo", listing="0" * 64)
    servers: Any = [server or OwnServer()]
    return LoadReporter(asked, dataset, servers, models, "arch load", folder, lambda _: None)
