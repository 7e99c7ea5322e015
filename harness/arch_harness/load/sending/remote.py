"""A process of a fleet: an actor of Ray's that has LoadGen send from its machine."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path

from arch_harness.load.logs import DETAIL, SUMMARY, Part, read_part
from arch_harness.load.sending.client import Clips, Driver
from arch_harness.load.sending.messages import Order
from arch_harness.results.measurement import Transport
from arch_harness.streaming.cluster.nodes import Place, place_of_this_process
from arch_harness.streaming.cluster.reach import unreached
from arch_harness.streaming.wire import Job
from arch_harness.triton.endpoint import Endpoint


class RemoteSender:
    """Holds clips, and sends them when it is told."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="arch-load-")))
        self._sending = ExitStack()
        self._null = ExitStack()

    def place(self) -> Place:
        """Where it runs."""
        return place_of_this_process()

    def now(self) -> float:
        """Seconds since 1970 by the clock here."""
        return time.time()

    def unreached(self, endpoints: Sequence[Endpoint]) -> list[str]:
        """The addresses of servers to which no connection can be made from here."""
        return unreached(endpoints)

    def hold(self, lengths: Sequence[int], sample_rate: int, file: Path | None) -> None:
        """Take clips: where they lie on this machine, or None where `append` brings them."""
        own = self._folder / "clips.f32"
        own.unlink(missing_ok=True)
        self._clips = Clips(file or own, lengths, sample_rate, 0)

    def append(self, samples: bytes) -> None:
        """The next piece of the clips' samples."""
        with self._clips.file.open("ab") as file:
            file.write(samples)

    def open(self, endpoints: Sequence[Endpoint], job: Job, transport: Transport) -> None:
        """Be ready to send.

        Raises:
            ArchError: if a server cannot read shared memory of this machine.
        """
        self.shut()
        self._driver = self._sending.enter_context(Driver(endpoints, job, self._clips, transport))

    def shut(self) -> None:
        """End the process that sends."""
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
