"""The speed of a configuration: a Triton of its own on this machine, and LoadGen's runs against it."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from arch_common import interrupt
from arch_common.errors import ArchError, ExportError, UsageError
from arch_common.temporary import temporary_folder
from arch_harness.load.asked import LoadRequest
from arch_harness.load.measure import LoadTarget, LoadTest, job_of
from arch_harness.load.search import Observation, Staircase
from arch_harness.load.sending.client import Driver
from arch_harness.triton.endpoint import Endpoint
from arch_harness.triton.server import Server
from arch_harness.tuning.halving import RUNGS, Speed, next_rung, speed_of, staircase_of
from arch_harness.tuning.results import TuneRun

from arch_bench import api

if TYPE_CHECKING:
    from arch_harness.load.asked import Slo
    from arch_harness.load.sending.client import Clips
    from arch_harness.results.run import ModelFacts
    from arch_harness.tuning.journal import Journal
    from arch_harness.tuning.space import Configuration, Form

    from arch_bench.tuning.forms import FormModel

_FIRST = 1.25  # times what the latency of one clip lets expect: a first run that clips pile up in tells the most
_IN_FLIGHT = 8
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


@dataclass(frozen=True)
class Scene:
    """What is measured, and with what.

    Attributes:
        slo: the promise.
        clips: that are sent.
        models: exported, by form.
        served: a model repository of the tuning's own, where configurations lie while they are served.
        cores: of this machine.
        seed: of arrivals.
    """

    slo: Slo
    clips: Clips
    models: Mapping[Form, FormModel]
    served: Path
    cores: int
    seed: int


class SpeedMeter:
    """Measures configurations, as far as a journal does not hold it already.

    Args:
        scene: what is measured.
        journal: of all runs.
        run_seconds: length of the shortest runs.
        most: clips/s that the client may send.
        note: told of each measurement.
    """

    def __init__(
        self, scene: Scene, journal: Journal, run_seconds: float, most: float, note: Callable[[str], None]
    ) -> None:
        self._scene = scene
        self._journal = journal
        self._seconds = run_seconds
        self._most = most
        self._note = note
        self._faults: dict[Configuration, str] = {}

    def __call__(self, configuration: Configuration, rung: int) -> Speed:
        """All runs of a configuration up to a rung; those that the journal lacks are made.

        Raises:
            ArchError: if no configuration could be measured: there is no server, or nothing can be written.
        """
        scene, allowed = self._scene, 1 - self._scene.slo.share
        model = scene.models[configuration.form]
        # Without those of later rungs, which an earlier command may have made: all is decided as it was then.
        runs = [one for one in self._journal.runs(configuration.key, model.content_hash) if one.rung <= rung]
        if configuration in self._faults:
            return Speed(runs=tuple(runs), fault=self._faults[configuration])
        stairs = staircase_of(runs, allowed, 1, self._most)
        if next_rung(runs, rung, stairs.is_open) is not None:
            with closing(self._missing(configuration, rung, runs, stairs)) as made:
                for run in made:
                    self._journal.add(run)  # here, where its failure is not taken for one of the configuration
        if configuration in self._faults:
            return Speed(runs=tuple(runs), fault=self._faults[configuration])
        return speed_of(runs, allowed)

    def _missing(
        self, configuration: Configuration, rung: int, runs: list[TuneRun], stairs: Staircase
    ) -> Generator[TuneRun, None, None]:
        """Make the runs up to a rung that a configuration lacks, until one fails; each is put behind the others."""
        try:
            with ExitStack() as stack:
                live = stack.enter_context(_live(self._scene, configuration))
                if not runs:
                    start = live.first_rate(configuration)
                    stairs = staircase_of(runs, 1 - self._scene.slo.share, start, self._most)
                while (place := next_rung(runs, rung, stairs.is_open)) is not None:
                    seconds = RUNGS[place].length * self._seconds
                    run = live.run(configuration, place, seconds, stairs.rate, len(runs))
                    runs.append(run)
                    yield run
                    stairs.add(Observation(run.rate, run.over, run.answers), run.answered)
        except (UsageError, ExportError):
            raise  # no server at all, no model that could be tuned, or a configuration that cannot be written
        except OSError as error:
            interrupt.check()
            raise ArchError(f"{configuration.key} cannot be measured: {error.strerror or error}") from error
        except ArchError as error:
            interrupt.check()
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in _OF_THE_DISK:
                raise  # all others would fail likewise
            self._faults[configuration] = str(error)
            self._note(f"warning: {configuration.key}: {error}")


class _Live:
    """A configuration that is served, warmed."""

    def __init__(self, scene: Scene, facts: ModelFacts, server: Server, driver: Driver, folder: Path) -> None:
        self._scene, self.facts, self._server = scene, facts, server
        self._folder = folder
        self._target = LoadTarget(driver, [server], facts.name, _IN_FLIGHT)
        self._count = 0
        self.alone_ms = self._test(1.0, 0).warm(self._target)

    def _test(self, seconds: float, seed: int) -> LoadTest:
        self._count += 1
        asked = LoadRequest(slo=self._scene.slo, min_duration_s=seconds, min_queries=1, seed=self._scene.seed + seed)
        return LoadTest(asked, self._scene.clips, self._folder / str(self._count), lambda _: None)

    @property
    def memory_mib(self) -> float | None:
        """Peak of its processes until now; None where the server does not tell."""
        told = self._server.footprint(self.facts)
        return None if told is None else told.memory_mib

    def first_rate(self, configuration: Configuration) -> float:
        """What it may carry, by the latency of one clip without the time that it waits for others; clips/s."""
        waited = configuration.queue_delay_us / 1e3 if configuration.max_batch > 1 else 0.0
        working_ms = max(self.alone_ms - waited, 0.2 * self.alone_ms)
        side_by_side = max(1, min(configuration.instances, self._scene.cores // configuration.threads))
        return _FIRST * side_by_side * 1e3 / working_ms

    def run(self, configuration: Configuration, rung: int, seconds: float, rate: float, number: int) -> TuneRun:
        """One run at a rate; by its number it has arrivals of its own, the same for all configurations."""
        test = self._test(seconds, 10 * (number + 1))
        run = test.at_rate(self._target, rate, "search")
        return TuneRun(
            configuration=configuration.key,
            content_hash=self.facts.content_hash,
            rung=rung,
            rate=rate,
            answers=run.queries,
            over=run.over,
            answered=run.clips_per_s,
            judged_ms=run.judged_ms,
            late_ms=run.late_ms,
            seconds=run.seconds,
            memory_mib=self.memory_mib,
        )


@contextmanager
def _live(scene: Scene, configuration: Configuration) -> Iterator[_Live]:
    """Serve a configuration as long as the block lasts, in a Triton of its own.

    Raises:
        ArchError: if it does not load.
    """
    from arch_export.repository.variant import write_reconfigured
    from arch_export.serving import ServingOptions

    model = scene.models[configuration.form]
    options = ServingOptions(
        max_batch=configuration.max_batch,
        instances=configuration.instances,
        queue_delay_us=configuration.queue_delay_us,
        threads=configuration.threads,
        conv_search=configuration.conv_search,
    )
    name = f"{model.name}-{configuration.suffix}"
    folder = write_reconfigured(model.folder, scene.served, name, options)
    try:
        with ExitStack() as stack:
            address = stack.enter_context(_served(scene.served, name))
            server = stack.enter_context(Server(address))
            facts = server.models([name])[0]
            driver = stack.enter_context(Driver([address], job_of(facts), scene.clips))
            logs = stack.enter_context(temporary_folder("arch-tune-"))
            yield _Live(scene, facts, server, driver, logs)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _served(repository: Path, name: str) -> Iterator[Endpoint]:
    with api.serve(repository, name, grpc_port=0, http_port=0, metrics_port=0) as server:
        unready = [one for one in server.models if not one.ready]
        if unready:
            raise ArchError(f"it does not load: {unready[0].short_reason}")
        try:
            yield Endpoint(server.grpc_url, metrics=server.metrics_url, started_by_arch=True)
        finally:
            server.kill()  # nothing is in flight that anybody waits for


@contextmanager
def measured_alone(scene: Scene, configuration: Configuration) -> Iterator[tuple[ModelFacts, float, float | None]]:
    """A configuration's facts, the latency of one clip at a time in ms, and its memory in MiB, where that is told."""
    with _live(scene, configuration) as live:
        yield live.facts, live.alone_ms, live.memory_mib
