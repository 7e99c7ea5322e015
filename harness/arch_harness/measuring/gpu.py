"""The servers' GPUs, from Triton's metrics or from the driver's library: how busy they are, power, memory."""

from __future__ import annotations

import ctypes
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from arch_harness.triton.prometheus import read_metrics

if TYPE_CHECKING:
    from arch_harness.results.measurement import PowerSource

_TIMEOUT_S = 1
_METRIC = re.compile(r"^nv_(\w+)\{([^}]*)\} (\S+)$", re.MULTILINE)
_UUID = re.compile(r'gpu_uuid="([^"]+)"')


@dataclass(frozen=True)
class GpuState:
    """One GPU at one moment; None of what is not told.

    Attributes:
        busy: the share (0 to 1) of the recent time that it computed.
        joules: used since some moment, the server's start or the driver's: a counter.
        watts: its power.
        memory_bytes: taken of its memory, by whatever program.
    """

    busy: float | None = None
    joules: float | None = None
    watts: float | None = None
    memory_bytes: float | None = None

    @property
    def is_known(self) -> bool:
        """Whether anything is told."""
        return any(getattr(self, one.name) is not None for one in fields(self))


_OF_TRITON = {
    "gpu_utilization": "busy",
    "energy_consumption": "joules",
    "gpu_power_usage": "watts",
    "gpu_memory_used_bytes": "memory_bytes",
}
# What Triton says of a GPU that does not tell it.
_ZERO_IF_UNKNOWN = {"energy_consumption", "gpu_power_usage"}


class GpuReader:
    """Reads the servers' GPUs; chooses its source when it is made.

    Triton's metrics come first, since they tell of the servers' GPUs wherever those are. Where not every server has
    such metrics and all of them run on this machine, the driver's NVML tells of its GPUs. Otherwise nothing is known.

    Args:
        metrics: `host:port` of the metrics endpoint of each server.
        local: whether every server runs on this machine.

    Attributes:
        source: who tells of their power; None where nothing is known.
        why_not: why nothing is known; empty where it is.
        names: of the GPUs that were told of when it was made.
    """

    def __init__(self, metrics: Sequence[str], local: bool) -> None:
        self.source: PowerSource | None = "GPU, by Triton"
        self.why_not = ""
        self.names: set[str] = set()
        self._nvml: _Nvml | None = None
        # Servers may share a GPU, and each counts from its own start: a GPU is one server's.
        self._owned: dict[str, set[str]] = {}
        texts = {address: read_metrics(address, _TIMEOUT_S) for address in metrics}
        told = {address: set(_states(text)) for address, text in texts.items()}
        if told and all(told.values()):
            seen: set[str] = set()
            for address, names in told.items():
                self._owned[address] = names - seen
                seen |= names
            self.names = seen
            return
        self._nvml = _Nvml.load() if local else None
        self.source = "GPU, by NVML" if self._nvml else None
        self.names = set(self._nvml.states()) if self._nvml else set()
        if self._nvml is None:
            self.why_not = _why_not(list(texts.values()), local)

    def read(self) -> dict[str, GpuState]:
        """Each GPU by its name; those are missing that are not told of now."""
        if self._nvml is not None:
            return self._nvml.states()
        found = {}
        for address, owned in self._owned.items():
            states = _states(read_metrics(address, _TIMEOUT_S)) if owned else {}
            found.update({name: state for name, state in states.items() if name in owned})
        return found

    def close(self) -> None:
        """Let go of the driver's library."""
        if self._nvml is not None:
            self._nvml.close()
        self._nvml, self._owned = None, {}


def _why_not(texts: Sequence[str], local: bool) -> str:
    """Why no GPU is known, given what the servers' metrics endpoints answered."""
    why = "the servers' metrics name none"
    if not texts:
        why = "the servers' metrics were not found"
    elif not all(texts):
        why = "not every server answers with metrics"
    return f"{why}, and this machine has no driver of NVIDIA's" if local else why


def _states(metrics: str) -> dict[str, GpuState]:
    """The GPUs that a Triton tells of, by uuid."""
    found: dict[str, dict[str, float]] = {}
    for name, labels, text in _METRIC.findall(metrics):
        uuid = _UUID.search(labels)
        if name not in _OF_TRITON or uuid is None:
            continue
        try:
            value = float(text)
        except ValueError:
            continue
        if name in _ZERO_IF_UNKNOWN and not value:
            continue
        if 0 <= value < math.inf and (name != "gpu_utilization" or value <= 1):
            found.setdefault(uuid[1], {})[_OF_TRITON[name]] = value
    return {uuid: GpuState(**values) for uuid, values in found.items()}


class _Utilisation(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class _Nvml:
    """The few calls of NVIDIA's management library that are needed here; its Python package would be one more."""

    def __init__(self, library: Any, devices: list[Any]) -> None:
        self._library = library
        self._devices = devices

    @classmethod
    def load(cls) -> _Nvml | None:
        """The library with this machine's GPUs; None if it has no driver or no GPU."""
        try:
            library = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            return None
        count = ctypes.c_uint()
        if library.nvmlInit_v2() or library.nvmlDeviceGetCount_v2(ctypes.byref(count)):
            return None
        devices = []
        for index in range(count.value):
            device = ctypes.c_void_p()
            if library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(device)) == 0:
                devices.append(device)
        return cls(library, devices) if devices else None

    def states(self) -> dict[str, GpuState]:
        """Each GPU by its number; busy is the share of its last sampling period in which a kernel ran."""
        found = {str(number): self._state(device) for number, device in enumerate(self._devices)}
        return {name: state for name, state in found.items() if state.is_known}

    def _state(self, device: Any) -> GpuState:
        rates, memory = _Utilisation(), _Memory()
        millijoules, milliwatts = ctypes.c_ulonglong(), ctypes.c_uint()

        def told(call: str, into: Any) -> bool:
            function = getattr(self._library, call, None)  # an old driver lacks some
            return function is not None and bool(function(device, ctypes.byref(into)) == 0)

        return GpuState(
            busy=min(rates.gpu, 100) / 100 if told("nvmlDeviceGetUtilizationRates", rates) else None,
            joules=millijoules.value / 1e3 if told("nvmlDeviceGetTotalEnergyConsumption", millijoules) else None,
            watts=milliwatts.value / 1e3 if told("nvmlDeviceGetPowerUsage", milliwatts) else None,
            memory_bytes=float(memory.used) if told("nvmlDeviceGetMemoryInfo", memory) else None,
        )

    def close(self) -> None:
        self._library.nvmlShutdown()
