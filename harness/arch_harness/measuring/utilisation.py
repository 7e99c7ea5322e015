"""What is busy while clips go through the servers: a thread of the driver reads counters now and then."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

import psutil

from arch_harness.results.measurement import Utilisation

if TYPE_CHECKING:
    from arch_harness.measuring.consumption.log import ConsumptionLog

MOST_SAMPLES = 240
"""Samples kept. When there are more, every other one is dropped and the next come half as often, so that neither memory
nor `results.json` grows with the hours."""

_MOST_BETWEEN_S = 30.0  # two looks at the hardware, however few samples are kept: counters come round


class _Reading(NamedTuple):
    """Counters that only grow; a sample is the difference of two readings, so that dropping one loses no work."""

    seconds: float
    client: float  # core seconds
    machine: float  # core seconds
    gpu: float  # seconds that the GPUs computed, their mean
    gpu_known: float  # seconds for which that is known
    clips: int


class UtilisationSampler:
    """Samples the use of cores and GPUs from `start` to `stop`; a context manager that calls both.

    Args:
        pids: the processes of the client on this machine, driver and workers; asked for at every sample, since workers
            that die are replaced.
        clips: how many clips are done.
        log: of the servers' hardware; looked at with every sample, and closed at the end.
        interval_s: between two samples, at first.
    """

    def __init__(
        self,
        pids: Callable[[], Iterable[int]],
        clips: Callable[[], int],
        log: ConsumptionLog,
        interval_s: float = 0.5,
    ) -> None:
        self._pids = pids
        self._clips = clips
        self.log = log
        self._interval_s = interval_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="utilisation", daemon=True)
        self._processes: dict[int, tuple[psutil.Process, float]] = {}
        self._started = 0.0
        self._readings: list[_Reading] = []

    def __enter__(self) -> UtilisationSampler:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Take the first reading and sample from now on."""
        self._started = time.perf_counter()
        self._read()
        self._thread.start()

    def stop(self) -> None:
        """Take the last reading; nothing is sampled from now on."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        self._thread.join()
        self._read()
        if len(self._readings) > 2 and self._readings[-1].seconds - self._readings[-2].seconds < self._interval_s / 2:
            # A sample so short is mostly chance: a batch that came in it makes a peak.
            del self._readings[-2]
        self.log.close()

    def utilisation(self) -> Utilisation:
        """The samples so far; all of them after `stop`."""
        readings = list(self._readings)
        pairs = [(old, new) for old, new in itertools.pairwise(readings) if new.seconds > old.seconds]
        gpu: list[float | None] = [
            min(1.0, (new.gpu - old.gpu) / (new.gpu_known - old.gpu_known)) if new.gpu_known > old.gpu_known else None
            for old, new in pairs
        ]

        def rates(counter: Callable[[_Reading], float]) -> list[float]:
            return [
                max(0.0, round((counter(new) - counter(old)) / (new.seconds - old.seconds), 4)) for old, new in pairs
            ]

        return Utilisation(
            seconds=[round(new.seconds, 3) for _, new in pairs],
            client_cores=rates(lambda one: one.client),
            machine_cores=rates(lambda one: one.machine),
            gpu=gpu if any(share is not None for share in gpu) else None,
            clips_per_s=rates(lambda one: one.clips),
        )

    def _run(self) -> None:
        while not self._stopped.wait(min(self._interval_s, _MOST_BETWEEN_S)):
            if self._since_last() < 0.9 * self._interval_s:
                self.log.look()
                continue
            self._read()
            if len(self._readings) > MOST_SAMPLES:
                # The first stays: it is where the time starts.
                self._readings = self._readings[::2]
                self._interval_s *= 2

    def _since_last(self) -> float:
        return time.perf_counter() - self._started - self._readings[-1].seconds

    def _read(self) -> None:
        last = self._readings[-1] if self._readings else _Reading(0, 0, 0, 0, 0, 0)
        gpu = self.log.look()
        now = time.perf_counter() - self._started
        known = 0.0 if gpu is None else now - last.seconds
        self._readings.append(
            _Reading(
                seconds=now,
                client=last.client + self._client_seconds(),
                machine=_machine_seconds(),
                gpu=last.gpu + (gpu or 0.0) * known,
                gpu_known=last.gpu_known + known,
                clips=self._clips(),
            )
        )

    def _client_seconds(self) -> float:
        """Core seconds that the client's processes spent since they were last asked."""
        spent = 0.0
        before, self._processes = self._processes, {}
        for pid in self._pids():
            try:
                process = before[pid][0] if pid in before else psutil.Process(pid)
                if not process.is_running():  # another process has its number now
                    process = psutil.Process(pid)
                times = process.cpu_times()
            except psutil.Error:
                continue  # it has ended: what it did since the last sample is lost
            total = times.user + times.system
            known, previous = before.get(pid, (process, total))
            spent += total - previous if known == process else 0.0
            self._processes[pid] = (process, total)
        return spent


def _machine_seconds() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)
