"""A load test: the client's own ceiling, then each model's runs, each judged by LoadGen."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from arch_common.errors import ArchError, reason_of

from arch_harness.load.asked import DEFAULT_REPEATS, DEFAULT_SAMPLES
from arch_harness.load.judging import judged
from arch_harness.load.report import Ceiling, ClipMix, LoadRun, ModelLoad, Sustained
from arch_harness.load.search import Observation, find_highest
from arch_harness.load.sending.client import Clips, Driver
from arch_harness.load.sending.messages import Order
from arch_harness.streaming.wire import Job
from arch_harness.triton.endpoint import Endpoint

if TYPE_CHECKING:
    from arch_harness.load.asked import LoadRequest, Scenario
    from arch_harness.load.logs import Part
    from arch_harness.load.sending.fleet import Fleet
    from arch_harness.results.measurement import ServerTimes
    from arch_harness.results.run import ModelFacts
    from arch_harness.triton.server import Server

NullServer = Callable[[], AbstractContextManager[str]]
"""Starts a server of a model that answers at once, as long as the block lasts; gives its address."""

NULL = "null"
"""The model that the client's ceiling is measured against."""

ALLOWED = 0.7
"""Of the ceiling: beyond it a latency may be the client's own."""

_NAMES = {"server": "Server", "offline": "Offline", "single-stream": "SingleStream", "multi-stream": "MultiStream"}
_WARM_S, _WARM_QUERIES = 0.5, 5
_CEILING_S = 2.0
_GUESS_PER_S = 300.0
_START_SHARE = 0.25  # of what one client in a closed loop gets: the search begins below any limit
_MOST_WAITING_S = 10.0  # of arrivals that may wait: a run that is hopeless ends
_LEAST_WAITING = 256
_IN_FLIGHT_BATCHES = 4


class RunsParts(Protocol):
    """What sends: `Driver`, a process here, or `FleetDriver`, several by Ray."""

    def parts(self, order: Order) -> list[Part]:
        """Have LoadGen run once in each process."""


@dataclass(frozen=True)
class LoadTarget:
    """Servers that all serve the same model, with their counters; none for the null model."""

    driver: RunsParts
    servers: Sequence[Server]
    model: str
    most_in_flight: int


class LoadTest:
    """Runs of one set of clips against models.

    Args:
        asked: what is asked for.
        clips: decoded.
        folder: for LoadGen's logs.
        note: told of each run.
        fleet: of the processes that send; None for one, here.
    """

    def __init__(
        self,
        asked: LoadRequest,
        clips: Clips,
        folder: Path,
        note: Callable[[str], None],
        fleet: Fleet | None = None,
    ) -> None:
        self._fleet = fleet
        self._asked = asked
        self._clips = clips
        self.folder = folder
        self._note = note
        self._count = 0
        self._runs: list[LoadRun] = []

    def ceiling(self, null: NullServer, job: Job, where: str) -> Ceiling:
        """What this client can send to a model that answers at once, all clips at once (Offline), in clips/s.

        Args:
            null: starts a server of that model, and gives its address; in a fleet on every machine.
            job: that model.
            where: it is measured against, in words.
        """
        with ExitStack() as stack:
            if self._fleet is None:
                own = [Endpoint(stack.enter_context(null()), started_by_arch=True)]
            else:
                own = stack.enter_context(self._fleet.null_servers(null))
            driver = stack.enter_context(self._sending([[one] for one in own], job))
            target = LoadTarget(driver, [], NULL, _IN_FLIGHT_BATCHES * 8 * self._processes)
            guess = _GUESS_PER_S
            for _ in range(2):
                settings = {"offline_expected_qps": guess, "min_duration_ms": round(1e3 * _CEILING_S)}
                guess = self.run_once(target, "offline", settings, None, "measured").clips_per_s
        self._note(f"this client can send {guess:.0f} clips/s ({where})")
        return Ceiling(clips_per_s=guess, where=where, allowed=ALLOWED)

    @property
    def _processes(self) -> int:
        return 1 if self._fleet is None else len(self._fleet.senders)

    def _sending(self, endpoints: Sequence[Sequence[Endpoint]], job: Job) -> AbstractContextManager[RunsParts]:
        """What sends, each process to its own servers."""
        if self._fleet is None:
            (own,) = endpoints
            return Driver(own, job, self._clips, self._asked.transport)
        return self._fleet.sending(endpoints, job, self._clips, self._asked.transport)

    def model(
        self,
        facts: ModelFacts,
        endpoints: Sequence[Endpoint],
        servers: Sequence[Server],
        ceiling: Ceiling,
        keep: Callable[[ModelLoad], object] = lambda _: None,
    ) -> ModelLoad:
        """All runs of a model.

        Args:
            facts: of the model.
            endpoints: the servers.
            servers: likewise.
            ceiling: what the client may send.
            keep: takes what is returned; before an error is raised, what was measured until then.

        Raises:
            ArchError: if a server or a process that sends is lost.
        """
        most = ceiling.most or math.inf
        found = ModelLoad(
            model=facts,
            clips=mix_of(self._clips),
            ceiling=ceiling,
            runs=[],
            refused=[rate for rate in self._asked.rates if rate > most],
            sustained=None,
            unfinished=None,
        )
        self._runs = found.runs
        ended = False
        try:
            with self._sending([endpoints] * self._processes, job_of(facts)) as driver:
                found.sustained = self._measure(facts, servers, driver, most)
                ended = True
        except BaseException as error:
            if not ended:
                words = str(error) if isinstance(error, ArchError) else reason_of(error)
                found.unfinished = "interrupted" if isinstance(error, KeyboardInterrupt) else words
            try:
                keep(found)
            except ArchError as also:  # what failed first is what is raised
                self._note(f"warning: {also}")
            raise
        if found.refused:
            shown = ", ".join(f"{rate:.3g}" for rate in found.refused)
            self._note(
                f"warning: {facts.name}: {shown} clips/s are left out: above {ALLOWED:.0%} of what this client sends"
            )
        keep(found)
        return found

    def _measure(
        self, facts: ModelFacts, servers: Sequence[Server], driver: RunsParts, most: float
    ) -> Sustained | None:
        """The runs of a model at no more than so many clips/s; the highest rate where that is searched."""
        in_flight = _IN_FLIGHT_BATCHES * max(1, facts.max_batch_size) * facts.instances * len(servers)
        target = LoadTarget(driver, servers, facts.name, in_flight)
        alone_ms = self.warm(target)
        if self._asked.scenario != "server":
            self._once(target, alone_ms)
        elif self._asked.rates:
            for rate in self._asked.rates:
                if rate <= most:
                    self.at_rate(target, rate, "curve")
        else:
            return self._search(target, 1e3 / alone_ms, most)
        return None

    def warm(self, target: LoadTarget) -> float:
        """Let a model answer its first clips, which are slow; the mean latency of one in flight then, in ms."""
        settings = {
            "min_duration_ms": round(1e3 * _WARM_S),
            "min_query_count": _WARM_QUERIES,
            "single_stream_expected_latency_ns": 1_000_000,
        }
        self.run_once(target, "single-stream", settings, None, "measured")
        warm = self.run_once(target, "single-stream", settings, None, "measured")
        return max(0.01, 1e3 / warm.clips_per_s) if warm.clips_per_s else 1e3

    def _once(self, target: LoadTarget, alone_ms: float) -> None:
        scenario = self._asked.scenario
        settings: dict[str, float] = {}
        if scenario == "offline":
            # LoadGen makes its one query as long as this rate says; a short run tells which it is.
            short = {"offline_expected_qps": 2e3 / alone_ms, "min_duration_ms": 1000}
            rate = self.run_once(target, scenario, short, None, "measured").clips_per_s
            settings["offline_expected_qps"] = max(1.0, 1.2 * rate)
        else:
            # Half of what it was: LoadGen makes its queries beforehand, and must not run out of them.
            settings["single_stream_expected_latency_ns"] = round(alone_ms * 0.5e6)
            settings["multi_stream_expected_latency_ns"] = round(alone_ms * 0.5e6)
            settings["multi_stream_samples_per_query"] = self._asked.samples_per_query or DEFAULT_SAMPLES
            for stream in ("single_stream", "multi_stream"):
                settings[f"{stream}_target_latency_percentile"] = self._asked.share
        settings |= self._lengths()
        self._keep(target, self.run_once(target, scenario, settings, None, "measured"))

    def _lengths(self) -> dict[str, float]:
        asked = self._asked
        return {"min_duration_ms": round(1e3 * asked.min_duration_s), "min_query_count": asked.min_queries}

    def at_rate(self, target: LoadTarget, rate: float, purpose: Literal["curve", "search"]) -> LoadRun:
        """An open loop: clips at random moments of that rate in clips/s, whatever is answered; noted and kept."""
        slo = self._asked.slo
        assert slo is not None  # noqa: S101
        waiting = rate * (_MOST_WAITING_S + 10 * slo.milliseconds / 1e3)
        settings: dict[str, float] = {
            "server_target_qps": rate,
            "server_target_latency_ns": round(slo.milliseconds * 1e6),
            "server_target_latency_percentile": slo.share,
            "server_max_async_queries": max(_LEAST_WAITING, math.ceil(waiting)),
            **self._lengths(),
        }
        return self._keep(target, self.run_once(target, "server", settings, rate, purpose))

    def _search(self, target: LoadTarget, alone_rate: float, most: float) -> Sustained:
        slo = self._asked.slo
        assert slo is not None  # noqa: S101

        def measure(rate: float) -> Observation:
            run = self.at_rate(target, rate, "search")
            return Observation(rate, run.over, run.queries)

        repeats = self._asked.repeats or DEFAULT_REPEATS
        found = find_highest(measure, 1 - slo.share, _START_SHARE * alone_rate, most, repeats)
        valid = [run.rate for run in self._runs if run.valid and run.rate is not None]
        return Sustained(
            rate=found.rate,
            low=found.low,
            high=found.high,
            at_least=found.at_least,
            valid_up_to=max(valid, default=None),
        )

    def run_once(
        self,
        target: LoadTarget,
        scenario: Scenario,
        settings: Mapping[str, float],
        rate: float | None,
        purpose: Literal["curve", "search", "measured"],
    ) -> LoadRun:
        """One run of LoadGen with these of its settings, beside the seeds.

        Raises:
            ArchError: if a server is lost.
        """
        self._count += 1
        name = Path("loadgen") / f"{self._count:03d}-{target.model}-{scenario}"
        folder = self.folder / name
        seed = self._asked.seed + self._count
        numbered = {**settings, "schedule_rng_seed": seed, "sample_index_rng_seed": seed, "qsl_rng_seed": seed}
        before = [server.statistics(target.model) for server in target.servers]
        most = None if scenario == "server" else target.most_in_flight
        parts = target.driver.parts(Order(_NAMES[scenario], numbered, folder, most))
        answered = sum(int((~part.failed).sum()) for part in parts)
        return judged(parts, _times(target, before, answered), rate, purpose, str(name), self._asked)

    def _keep(self, target: LoadTarget, run: LoadRun) -> LoadRun:
        self._runs.append(run)
        self._note(_line(target.model, run, self._asked))
        return run


def job_of(facts: ModelFacts, name: str | None = None) -> Job:
    """A clip's request; clips are sent as long as they are, so that the length here does not count."""
    return Job(name or facts.name, Path(), facts.sample_rate, 1.0, facts.embedding_size, 0, facts.max_batch_size)


def mix_of(clips: Clips) -> ClipMix:
    """How long the clips are."""
    seconds = clips.seconds
    return ClipMix(
        count=len(seconds),
        mean_seconds=sum(seconds) / len(seconds),
        least_seconds=min(seconds),
        most_seconds=max(seconds),
        unreadable=clips.unreadable,
    )


def _times(target: LoadTarget, before: Sequence[object], answered: int) -> ServerTimes | None:
    """What Triton counted in a run; None where a server was restarted in it."""
    added = [
        server.statistics(target.model).since(start, 0)  # type: ignore[arg-type]
        for server, start in zip(target.servers, before, strict=True)
    ]
    known = [one for one in added if one is not None]
    if not known or len(known) < len(added):
        return None
    whole = known[0]
    for one in known[1:]:
        whole += one
    return whole.times(max(0, whole.requests - answered))


def _line(model: str, run: LoadRun, asked: LoadRequest) -> str:
    """A run, for who waits."""
    judged = "no answer in time" if run.judged_ms is None else f"{run.judged_ms:.3g} ms"
    name = f"p{100 * asked.share:g}"
    at = "" if run.rate is None else f" at {run.rate:.3g} clips/s"
    kept = "" if run.kept is None else ", kept" if run.kept else ", not kept"
    verdict = "VALID" if run.valid else "INVALID"
    return f"{model}{at}: {name} {judged}{kept}; {run.clips_per_s:.3g} clips/s answered; {verdict}"
