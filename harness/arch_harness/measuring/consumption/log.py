"""Readings of the servers' hardware over a pass, and what they say of parts of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from arch_harness.measuring.consumption.curve import EnergyCurve
from arch_harness.results.measurement import Consumption, PowerSource, PowerUse

if TYPE_CHECKING:
    from arch_harness.measuring.consumption.rapl import RaplReader
    from arch_harness.measuring.consumption.resident import ServerMemory
    from arch_harness.measuring.gpu import GpuReader

_CPU: PowerSource = "CPU, by RAPL"
_LEAST_KNOWN = 0.5
"""Share of the time from which on the mean of what is known of it is taken for the whole."""
_MIB = 1024**2

Spans = Sequence[tuple[float, float]]
"""(start, end) in seconds since the log began."""


class ConsumptionLog:
    """Reads GPUs, CPU packages and memory whenever it is told to look.

    Args:
        gpus: of the servers.
        rapl: of this machine; None where a server runs elsewhere.
        memory: of the servers; likewise.
        idle: watts of each source with nothing in flight, as far as they are known.
    """

    def __init__(
        self,
        gpus: GpuReader,
        rapl: RaplReader | None = None,
        memory: ServerMemory | None = None,
        idle: Mapping[PowerSource, float] | None = None,
    ) -> None:
        self._gpus = gpus
        self._rapl = rapl
        self._memory = memory
        self._started = time.perf_counter()
        self._idle = idle or {}
        self._curves: dict[PowerSource, dict[str, EnergyCurve]] = {}
        if gpus.source is not None:
            # One that does not answer from now on has a curve too: the others are not all of them.
            self._curves[gpus.source] = {name: EnergyCurve() for name in gpus.names}
        if rapl is not None and not rapl.why_not:
            self._curves[_CPU] = {}
        self._gpu_bytes: list[tuple[float, float]] = []
        self._server_bytes: list[tuple[float, float]] = []

    def begin(self) -> float:
        """Count time from now on, before the first look; gives the moment by `time.perf_counter`."""
        self._started = time.perf_counter()
        return self._started

    @property
    def now(self) -> float:
        """Seconds since it began."""
        return time.perf_counter() - self._started

    def look(self) -> float | None:
        """Take a reading of everything; the share of the recent time that GPUs computed, None if it is not known."""
        gpus = self._gpus.read()
        now = self.now
        if self._gpus.source is not None:
            for name, gpu in gpus.items():
                curve = self._curves[self._gpus.source].setdefault(name, EnergyCurve())
                if gpu.joules is not None:
                    curve.count(now, gpu.joules)
                elif gpu.watts is not None:
                    curve.draw(now, gpu.watts)
        taken = [gpu.memory_bytes for gpu in gpus.values() if gpu.memory_bytes is not None]
        if taken and len(taken) == len(gpus):
            self._gpu_bytes.append((now, sum(taken)))
        for name, joules in (self._rapl.read() if self._rapl else {}).items():
            sure_s = self._rapl.sure_s if self._rapl else 0.0
            self._curves[_CPU].setdefault(name, EnergyCurve(sure_s)).count(now, joules)
        if self._memory is not None and (resident := self._memory.read()) is not None:
            self._server_bytes.append((now, resident))
        busy = [gpu.busy for gpu in gpus.values() if gpu.busy is not None]
        return sum(busy) / len(busy) if busy else None

    def close(self) -> None:
        """Read no more; what was read stays."""
        self._gpus.close()

    @property
    def sources(self) -> set[PowerSource]:
        """Whose power can be read."""
        return set(self._curves)

    def watts(self, spans: Spans) -> dict[PowerSource, float]:
        """The mean power in spans of time, of each source of which that is known."""
        found = {source: self._power(source, spans) for source in self._curves}
        return {source: watts for source, (watts, _) in found.items() if watts is not None}

    def consumption(self, spans: Spans) -> Consumption:
        """What the hardware took in spans of time.

        A source that is there and gives no figure leaves no figure of the others: a part would look like the whole.
        """
        power, lost = [], []
        for source in self._curves:
            watts, why_not = self._power(source, spans)
            idle = self._idle.get(source)
            if watts is not None and idle is not None:
                power.append(PowerUse(source=source, mean_w=watts, idle_w=idle))
            else:
                lost.append(f"{source}: {why_not or 'its idle power is not known'}")
        above = sum(one.mean_w - one.idle_w for one in power)
        if power and not lost and above <= 0:
            sources = ", ".join(one.source for one in power)
            lost.append(f"{sources}: under load it took no more than with nothing in flight")
        return Consumption(
            power=[] if lost else power,
            untold=[*lost, *self._missing()],
            gpu_memory_mib=_peak(self._gpu_bytes, spans),
            server_memory_mib=_peak(self._server_bytes, spans),
        )

    def _missing(self) -> list[str]:
        """Why there is no source of GPUs, and none of CPUs."""
        gpu = [f"GPU: {self._gpus.why_not}"] if self._gpus.source is None else []
        if self._rapl is None:
            return [*gpu, "CPU: a server is on another machine"]
        return [*gpu, f"CPU: {self._rapl.why_not}"] if self._rapl.why_not else gpu

    def _power(self, source: PowerSource, spans: Spans) -> tuple[float | None, str]:
        """The mean power of a source, in watts, or why it is not known."""
        total = sum(end - start for start, end in spans)
        watts = 0.0
        for curve in self._curves[source].values():
            if curve.began_anew:
                return None, "its counter began anew, as it does where a server is restarted"
            joules, known = curve.over(spans)
            if not curve.is_known:
                return None, "it tells no power"
            if not known or known < _LEAST_KNOWN * total:
                return None, f"known for {known:.1f} of the {total:.1f} s that were measured only"
            watts += joules / known
        return (watts, "") if self._curves[source] else (None, "it did not answer")


def _peak(samples: Sequence[tuple[float, float]], spans: Spans) -> float | None:
    """The highest of samples (moment, bytes) in spans, each with the sample behind it, in MiB; None of none."""
    found = []
    for start, end in spans:
        found += [taken for moment, taken in samples if start <= moment <= end]
        found += [taken for moment, taken in samples if moment > end][:1]
    return max(found) / _MIB if found else None
