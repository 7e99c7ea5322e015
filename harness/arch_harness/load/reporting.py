"""The report of a load test as it grows: written after each model, so that no later failure costs what was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from arch_common.errors import ArchError

from arch_harness.load.formats import write_load
from arch_harness.load.report import LoadReport, ModelLoad, SenderFacts, SloFacts
from arch_harness.measuring.machine import describe_machine

if TYPE_CHECKING:
    from arch_harness.datasets.dataset import Dataset
    from arch_harness.load.asked import LoadRequest
    from arch_harness.load.sending.fleet import Fleet, SenderHandle
    from arch_harness.triton.server import Server


class LoadReporter:
    """Writes the report of a load test, again with each model that is kept.

    What servers tell of themselves is asked here, in the beginning: one that is lost later costs nothing that was
    measured before.

    Args:
        asked: what is asked for.
        dataset: whose clips are sent.
        servers: that are measured.
        models: the names of those that are to be measured.
        command: what the report names as its origin.
        folder: for the report.
        note: told what could not be found out.
        fleet: of the processes that send; None for one, here.

    Attributes:
        report: of all that was kept until now.
        written: whether it was written yet.

    Raises:
        ArchError: if a server is lost.
    """

    def __init__(
        self,
        asked: LoadRequest,
        dataset: Dataset,
        servers: Sequence[Server],
        models: Sequence[str],
        command: str,
        folder: Path,
        note: Callable[[str], None],
        fleet: Fleet | None = None,
    ) -> None:
        self._folder = folder
        self.written = False
        slo = asked.slo
        self.report = LoadReport(
            arch_version=version("arch-bench"),
            loadgen_version=version("mlcommons-loadgen"),
            command=command,
            created=datetime.now(UTC),
            machine=describe_machine(),
            servers=[server.facts() for server in servers],
            transport=asked.transport,
            senders=[] if fleet is None else [_sender_facts(one) for one in fleet.senders],
            round_trips=_round_trips(servers, note) if fleet is None else _from_farthest(fleet),
            dataset=dataset.id,
            listing=dataset.listing,
            scenario=asked.scenario,
            slo=None if slo is None else SloFacts(share=slo.share, milliseconds=slo.milliseconds),
            hop_s=asked.hop_s,
            seed=asked.seed,
            models=[],
            unmeasured=list(models),
        )
        self._fleet = fleet

    def keep(self, one: ModelLoad) -> None:
        """Take a model in, and write the report; not where all that is to be told is why nothing was measured.

        Raises:
            ArchError: if it cannot be written.
        """
        report = self.report
        report.models.append(one)
        report.unmeasured.remove(one.model.name)
        report.created = datetime.now(UTC)
        if self._fleet is not None:  # clocks are compared before each run
            report.senders = [_sender_facts(sender) for sender in self._fleet.senders]
        if any(model.runs or model.unfinished is None for model in report.models):
            write_load(report, self._folder)
            self.written = True


def _round_trips(servers: Sequence[Server], note: Callable[[str], None]) -> dict[str, float | None]:
    """Of a process here, in ms; one that cannot be measured is no reason to measure nothing."""
    found: dict[str, float | None] = {}
    for one in servers:
        if not one.endpoint.loopback:
            try:
                found[one.address] = one.round_trip_ms()
            except ArchError as error:
                found[one.address] = None
                note(f"warning: the network round trip to {one.address} is not known: {error}")
    return found


def _from_farthest(fleet: Fleet) -> dict[str, float | None]:
    """Of the process from which it takes longest, in ms."""
    found: dict[str, float] = {}
    for one in fleet.senders:
        found |= {address: max(ms, found.get(address, 0.0)) for address, ms in one.round_trips.items()}
    return {**found}


def _sender_facts(one: SenderHandle) -> SenderFacts:
    return SenderFacts(
        host=one.machine.place.host,
        address=None if one.node is None else one.node.address,
        cpu=one.machine.cpu,
        cores=one.machine.cores,
        clock_ms=1e3 * one.clock.offset,
        clock_uncertain_ms=1e3 * one.clock.uncertain,
    )
