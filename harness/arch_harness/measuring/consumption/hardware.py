"""The hardware that servers run on, as far as it can be read from here."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from arch_common import interrupt

from arch_harness.measuring.consumption.log import ConsumptionLog
from arch_harness.measuring.consumption.rapl import RaplReader
from arch_harness.measuring.consumption.resident import ServerMemory
from arch_harness.measuring.gpu import GpuReader

if TYPE_CHECKING:
    from arch_harness.results.measurement import PowerSource
    from arch_harness.triton.server import Server

_SETTLE_S = 2.0  # workers have just started
_IDLE_S, _MOST_IDLE_S = 6.0, 15.0  # Triton refreshes what it tells of GPUs every 2 s
_LOOK_S = 0.2


class ServerHardware:
    """GPUs, CPU packages and memory of servers that share the load.

    Args:
        servers: all of them. Only where each tells of its GPUs, or all run on this machine, anything is known of GPUs.
    """

    def __init__(self, servers: Sequence[Server]) -> None:
        self._servers = list(servers)
        self._idle: dict[PowerSource, float] | None = None

    def log(self) -> ConsumptionLog:
        """A log for a pass that is about to begin."""
        metrics = [server.metrics_address() for server in self._servers]
        known = [address for address in metrics if address is not None]
        local = all(server.endpoint.loopback for server in self._servers)
        return ConsumptionLog(
            GpuReader(known if len(known) == len(metrics) else [], local),  # some servers' GPUs are not all servers'
            RaplReader() if local else None,
            ServerMemory([int(server.address.rsplit(":", 1)[1]) for server in self._servers]) if local else None,
            self._idle,
        )

    def measure_idle(self, tell: Callable[[], None]) -> None:
        """Measure the power with nothing in flight, once; takes no time where no power can be read.

        Args:
            tell: called now and then while it goes on.
        """
        if self._idle is not None:
            return
        self._idle = {}
        log = self.log()
        try:
            if not log.sources:
                return
            while log.now < _MOST_IDLE_S:
                interrupt.check()
                tell()
                log.look()
                self._idle = log.watts([(_SETTLE_S, log.now)])
                if log.now >= _SETTLE_S + _IDLE_S and log.sources == set(self._idle):
                    return
                time.sleep(_LOOK_S)
        finally:
            log.close()
