"""The share of the time that GPUs compute, from Triton's metrics or from the driver's library."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from typing import Any

from arch_harness.triton.prometheus import read_metrics

_TIMEOUT_S = 1
_UTILISATION = re.compile(r"^nv_gpu_utilization\{[^}]*\} (\S+)$", re.MULTILINE)


class GpuReader:
    """Reads the use of the servers' GPUs; chooses its source when it is made.

    Triton's metrics come first, since they tell of the servers' GPUs wherever those are. Where not every server has
    such metrics and all of them run on this machine, the driver's NVML tells of its GPUs. Otherwise nothing is known.

    Args:
        metrics: `host:port` of the metrics endpoint of each server.
        local: whether every server runs on this machine.
    """

    def __init__(self, metrics: Sequence[str], local: bool) -> None:
        self._metrics = list(metrics)
        self._nvml: _Nvml | None = None
        if not self._metrics or not all(_of_server(address) for address in self._metrics):
            self._metrics = []
            self._nvml = _Nvml.load() if local else None

    def read(self) -> float | None:
        """The share (0 to 1) of the recent time that the GPUs computed, their mean; None if it is not known now."""
        found = [share for address in self._metrics for share in _of_server(address)]
        if self._nvml is not None:
            found = self._nvml.utilisation()
        return sum(found) / len(found) if found else None

    def close(self) -> None:
        """Let go of the driver's library."""
        if self._nvml is not None:
            self._nvml.close()
            self._nvml = None


def _of_server(address: str) -> list[float]:
    """The utilisation of each GPU that a Triton tells of; empty if it does not answer or has none."""
    shares = [float(value) for value in _UTILISATION.findall(read_metrics(address, _TIMEOUT_S))]
    return [share for share in shares if 0 <= share <= 1]


class _Utilisation(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


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

    def utilisation(self) -> list[float]:
        """Of each GPU, the share of its last sampling period in which a kernel ran."""
        found = []
        for device in self._devices:
            rates = _Utilisation()
            if self._library.nvmlDeviceGetUtilizationRates(device, ctypes.byref(rates)) == 0:
                found.append(min(rates.gpu, 100) / 100)
        return found

    def close(self) -> None:
        self._library.nvmlShutdown()
