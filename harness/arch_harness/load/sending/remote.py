"""A process of a fleet: an actor of Ray's that has LoadGen send from its machine."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from arch_common.temporary import temporary_folder

from arch_harness.load.logs import DETAIL, SUMMARY, Part, read_part
from arch_harness.load.sending.client import Clips, Driver
from arch_harness.load.sending.messages import Order
from arch_harness.measuring.machine import describe_machine
from arch_harness.results.measurement import Transport
from arch_harness.streaming.cluster.nodes import Place, place_of_this_process
from arch_harness.streaming.cluster.reach import unreached
from arch_harness.streaming.wire import Job
from arch_harness.triton.endpoint import Endpoint
from arch_harness.triton.server import Server

_FIRST_MS, _FIRST_QUERIES = 100, 3


@dataclass(frozen=True)
class SenderMachine:
    """Where a process runs, and on what."""

    place: Place
    cpu: str
    cores: int

    @classmethod
    def unknown(cls) -> SenderMachine:
        """Before it has told."""
        return cls(Place(0, ""), "", 0)


class RemoteSender:
    """Holds clips, and sends them when it is told."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._folder = self._stack.enter_context(temporary_folder("arch-load-"))
        self._sending = ExitStack()
        self._null = ExitStack()

    def machine(self) -> SenderMachine:
        """Where it runs, and on what."""
        machine = describe_machine()
        return SenderMachine(place_of_this_process(), machine.cpu, machine.cores)

    def now(self) -> float:
        """Seconds since 1970 by the clock here."""
        return time.time()

    def unreached(self, endpoints: Sequence[Endpoint]) -> list[str]:
        """The addresses of servers to which no connection can be made from here."""
        return unreached(endpoints)

    def round_trips(self, endpoints: Sequence[Endpoint]) -> dict[str, float]:
        """Ms of a call for which a server does nothing, by the addresses of servers on other machines.

        Raises:
            ArchError: if one does not answer.
        """
        found = {}
        for endpoint in endpoints:
            if not endpoint.loopback:
                with Server(endpoint) as server:
                    found[endpoint.address] = server.round_trip_ms()
        return found

    def hold(self, lengths: Sequence[int], sample_rate: int, file: Path | None) -> Path:
        """Take clips: where they lie on this machine, or None where `append` brings them; where they lie then."""
        own = self._folder / "clips.f32"
        own.unlink(missing_ok=True)
        self._clips = Clips(file or own, lengths, sample_rate, 0)
        return self._clips.file

    def append(self, samples: bytes) -> None:
        """The next piece of the clips' samples."""
        with self._clips.file.open("ab") as file:
            file.write(samples)

    def open(self, endpoints: Sequence[Endpoint], job: Job, transport: Transport) -> None:
        """Be ready to send, and send a few clips, so that no measured one waits for a connection.

        Raises:
            ArchError: if a server is lost, or cannot read shared memory of this machine.
        """
        self.shut()
        self._driver = self._sending.enter_context(Driver(endpoints, job, self._clips, transport))
        first = {
            "min_duration_ms": _FIRST_MS,
            "min_query_count": _FIRST_QUERIES,
            "single_stream_expected_latency_ns": 1_000_000,
        }
        self.run(Order("SingleStream", dict(first), self._folder, 1))

    def shut(self) -> None:
        """End the process that sends, whatever it does."""
        self._sending.close()

    def run(self, order: Order) -> tuple[Part, dict[str, bytes]]:
        """Have LoadGen run once: what was sent, and LoadGen's logs by their names.

        Raises:
            ArchError: if a server is lost.
        """
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            folder = Path(name)
            part = read_part(folder, self._driver.run(replace(order, folder=folder)))
            return part, {log: (folder / log).read_bytes() for log in (DETAIL, SUMMARY)}

    def null(self, opener: Callable[[], AbstractContextManager[str]]) -> str:
        """Start a server here that answers at once; its address."""
        return self._null.enter_context(opener())

    def end_null(self) -> None:
        """End that server."""
        self._null.close()

    def close(self) -> None:
        """End all that was started here, and leave nothing behind."""
        self.shut()
        self.end_null()
        self._stack.close()
