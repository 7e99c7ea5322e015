"""A tuning's report, made of what was found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

from arch_common.errors import ArchError

from arch_harness.load.asked import Slo
from arch_harness.load.report import ClipMix
from arch_harness.measuring.machine import describe_machine
from arch_harness.tuning.choosing import NO_MEMORY, finished, front_of, keeps_memory, nothing_fits
from arch_harness.tuning.halving import RUNGS, Speed
from arch_harness.tuning.results import FormScore, TunedPoint, TuneReport, TuneSettings
from arch_harness.tuning.space import Configuration, Form


@dataclass(frozen=True)
class Tuning:
    """What was asked of a tuning, and what its search has found.

    Attributes:
        settings: that its measurements depend on.
        slo: the promise.
        forms: what each form scores, those too that were not tried.
        found: by configuration.
        max_loss: a share; None where only the speed was tuned.
        max_memory_mib: None is no limit.
        run_seconds: length of the shortest runs.
        ceiling: clips/s that the client may send; None where it is not known.
        baseline: the model that losses are against.
        clips: that were sent.
    """

    settings: TuneSettings
    slo: Slo
    forms: Mapping[Form, FormScore]
    found: Mapping[Configuration, Speed]
    max_loss: float | None
    max_memory_mib: float | None
    run_seconds: float
    ceiling: float | None
    baseline: str
    clips: ClipMix

    def fits(self, speed: Speed) -> bool:
        """Whether the memory is within what is allowed; one that is not told is."""
        return fits_memory(self.max_memory_mib)(speed)

    def score(self, form: Form) -> float:
        """Of a form; all alike where none was scored."""
        return self.forms[form].score or 0.0

    def winner(self) -> Configuration:
        """The fastest that keeps all that was asked for.

        Raises:
            ArchError: if none does; the message says which of it is not kept, and what comes nearest. Or if memory is
                bounded, and the server tells of no configuration that ran what it takes.
        """
        ran = [speed for speed in self.found.values() if speed.runs]
        if self.max_memory_mib is not None and ran and all(speed.memory_mib is None for speed in ran):
            raise ArchError(NO_MEMORY)
        ranked = finished(self.found, self.fits)
        if not ranked:
            raise ArchError(nothing_fits(self.found, self.slo, self.max_memory_mib))
        return ranked[0]

    def report(self, command: str, notes: Sequence[str], variant: str, commands: Sequence[str]) -> TuneReport:
        """All of it, as it is stored.

        Args:
            command: that this comes from.
            notes: what must be known.
            variant: the model that was written.
            commands: what makes the winner by hand.
        """
        won = self.winner()
        front = set(front_of(finished(self.found, self.fits), self.found, self.score))
        places = {form: place for place, form in enumerate(self.forms)}
        points = [_point(one, speed, places[one.form], one in front, one == won) for one, speed in self.found.items()]
        return TuneReport(
            arch_version=version("arch-bench"),
            command=command,
            created=datetime.now(UTC),
            machine=describe_machine(),
            settings=self.settings,
            max_loss=self.max_loss,
            max_memory_mib=self.max_memory_mib,
            run_seconds=self.run_seconds,
            ceiling=self.ceiling,
            baseline=self.baseline,
            clips=self.clips,
            forms=list(self.forms.values()),
            points=points,
            notes=list(notes),
            exhaustive_seconds=exhaustive_seconds(self.found),
            variant=variant,
            commands=list(commands),
        )


def fits_memory(most_mib: float | None) -> Callable[[Speed], bool]:
    """Whether the memory of a configuration, as far as it was told, is no more than so much."""

    def fits(speed: Speed) -> bool:
        return keeps_memory(speed.memory_mib, most_mib)

    return fits


def exhaustive_seconds(found: Mapping[Configuration, Speed]) -> float:
    """About what the runs of all configurations would take to the end: of each rung the mean, times all of them."""
    able = [speed for speed in found.values() if speed.runs]
    total = 0.0
    for rung in range(len(RUNGS)):
        here = [sum(run.seconds for run in one.runs if run.rung == rung) for one in able if one.rung >= rung]
        total += len(able) * sum(here) / len(here) if here else 0.0
    return total


def _point(one: Configuration, speed: Speed, place: int, on_front: bool, chosen: bool) -> TunedPoint:
    return TunedPoint(
        configuration=one.key,
        form=place,
        max_batch=one.max_batch,
        instances=one.instances,
        threads=one.threads,
        queue_delay_us=one.queue_delay_us,
        conv_search=one.conv_search,
        rung=speed.rung,
        rate=speed.rate,
        low=speed.low,
        high=speed.high,
        at_least=speed.at_least,
        nearest_ms=speed.nearest_ms,
        late_ms=speed.late_ms,
        memory_mib=speed.memory_mib,
        runs=len(speed.runs),
        seconds=speed.seconds,
        fault=speed.fault,
        on_front=on_front,
        chosen=chosen,
    )
