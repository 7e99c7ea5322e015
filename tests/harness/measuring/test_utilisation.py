"""The samples of what is busy: real processes, a real endpoint, and how many samples are kept."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

import pytest
from arch_harness.measuring import gpu
from arch_harness.measuring.consumption.log import ConsumptionLog
from arch_harness.measuring.utilisation import MOST_SAMPLES, UtilisationSampler
from support.metrics_site import metrics_site as endpoint
from support.waiting import until

METRICS = """\
# HELP nv_gpu_utilization GPU utilization rate [0.0 - 1.0)
# TYPE nv_gpu_utilization gauge
nv_gpu_utilization{gpu_uuid="GPU-a"} 0.25
nv_gpu_utilization{gpu_uuid="GPU-b"} 0.75
"""
SPIN = "import time\nend = time.monotonic() + 60\nwhile time.monotonic() < end: pass"


def no_hardware() -> ConsumptionLog:
    return ConsumptionLog(gpu.GpuReader([], local=False))


def busy_of(metrics: list[str], local: bool) -> list[float | None]:
    return [state.busy for state in gpu.GpuReader(metrics, local).read().values()]


def test_a_busy_process_is_seen_and_one_that_ends_is_no_error() -> None:
    pids = [os.getpid()]
    busy = subprocess.Popen([sys.executable, "-c", SPIN])
    try:
        with UtilisationSampler(lambda: [*pids, busy.pid], lambda: 0, no_hardware(), interval_s=0.05) as sampler:
            until(lambda: len(sampler.utilisation().seconds) >= 3 and max(sampler.utilisation().client_cores) > 0.1)
            busy.kill()
            busy.wait()
            seen = len(sampler.utilisation().seconds)
            until(lambda: len(sampler.utilisation().seconds) > seen)
        utilisation = sampler.utilisation()
    finally:
        busy.kill()
    assert len(utilisation.seconds) >= 3
    assert utilisation.seconds == sorted(utilisation.seconds)
    # Other work on the machine may leave the process only a part of a core.
    assert max(utilisation.client_cores) > 0.1
    assert max(utilisation.machine_cores) > 0.1


@pytest.mark.slow
def test_clips_add_up_however_few_samples_are_kept() -> None:
    clips = 0

    def count() -> int:
        nonlocal clips
        clips += 3
        return clips

    sampler = UtilisationSampler(lambda: [], count, no_hardware(), interval_s=0.0005)
    with sampler:
        until(lambda: clips >= 3 * 3 * MOST_SAMPLES)
    utilisation = sampler.utilisation()
    assert MOST_SAMPLES / 4 < len(utilisation.seconds) <= MOST_SAMPLES + 1
    spans = [new - old for old, new in zip([0.0, *utilisation.seconds], utilisation.seconds, strict=False)]
    total = sum(rate * span for rate, span in zip(utilisation.clips_per_s, spans, strict=True))
    assert total == pytest.approx(clips - 3, rel=0.1)
    assert set(utilisation.client_cores) == {0}


def test_a_sampler_stops_at_once_and_twice() -> None:
    sampler = UtilisationSampler(lambda: [], lambda: 0, no_hardware(), interval_s=60)
    sampler.start()
    started = time.monotonic()
    sampler.stop()
    sampler.stop()
    assert time.monotonic() - started < 10
    assert len(sampler.utilisation().seconds) == 1


def test_gpus_of_the_servers_come_from_their_metrics() -> None:
    others = METRICS.replace("0.25", "0.75").replace("GPU-", "GPU-other-")
    with endpoint(METRICS) as address, endpoint(others) as other:
        assert busy_of([address], local=True) == [0.25, 0.75]
        assert busy_of([address, other], local=False) == [0.25, 0.75, 0.75, 0.75]
        log = ConsumptionLog(gpu.GpuReader([address], local=False))
        with UtilisationSampler(lambda: [], lambda: 0, log, interval_s=0.05) as sampler:
            until(lambda: len(sampler.utilisation().seconds) >= 3)
        shares = sampler.utilisation().gpu
    assert shares is not None
    assert shares == pytest.approx([0.5] * len(shares))


def test_a_gpu_that_servers_share_is_one_of_them_s() -> None:
    with endpoint(METRICS) as address, endpoint(METRICS.replace("GPU-b", "GPU-c")) as other:
        assert list(gpu.GpuReader([address, other], local=False).read()) == ["GPU-a", "GPU-b", "GPU-c"]


@pytest.mark.parametrize(
    "metrics", ["", "nv_inference_count 3\n", 'nv_gpu_utilization{gpu_uuid="a"} nan\n', "nv_gpu_utilization{} 0.5\n"]
)
def test_a_server_without_gpus_leaves_them_out(metrics: str) -> None:
    with endpoint(metrics) as address:
        reader = gpu.GpuReader([address], local=False)
        assert reader.read() == {}
        assert reader.source is None
        assert reader.why_not == (
            "the servers' metrics name none" if metrics else "not every server answers with metrics"
        )
        sampler = UtilisationSampler(lambda: [], lambda: 0, ConsumptionLog(reader))
        with sampler:
            pass
    assert sampler.utilisation().gpu is None


def test_the_server_may_be_gone() -> None:
    with endpoint(METRICS) as address:
        reader = gpu.GpuReader([address], local=False)
    assert reader.read() == {}


class Library:
    """Stands in for NVIDIA's library, which only machines with their driver have: two GPUs, one of which is lost."""

    def __init__(self) -> None:
        self.open = False

    def nvmlInit_v2(self) -> int:  # noqa: N802
        self.open = True
        return 0

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:  # noqa: N802
        count._obj.value = 2
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: Any, device: Any) -> int:  # noqa: N802
        device._obj.value = 100 + index.value
        return 0

    def nvmlDeviceGetUtilizationRates(self, device: Any, rates: Any) -> int:  # noqa: N802
        rates._obj.gpu = 83
        return 0 if device.value == 100 else 15

    def nvmlDeviceGetTotalEnergyConsumption(self, device: Any, millijoules: Any) -> int:  # noqa: N802
        millijoules._obj.value = 7_654_321
        return 0 if device.value == 100 else 15

    def nvmlDeviceGetPowerUsage(self, device: Any, milliwatts: Any) -> int:  # noqa: N802
        milliwatts._obj.value = 71_500
        return 0 if device.value == 100 else 15

    def nvmlDeviceGetMemoryInfo(self, device: Any, memory: Any) -> int:  # noqa: N802
        memory._obj.used = 3 * 1024**3
        return 0 if device.value == 100 else 15

    def nvmlShutdown(self) -> int:  # noqa: N802
        self.open = False
        return 0


def test_gpus_of_this_machine_come_from_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library()
    monkeypatch.setattr("ctypes.CDLL", lambda _name: library)
    reader = gpu.GpuReader([], local=True)
    assert reader.source == "GPU, by NVML"
    assert reader.read() == {"0": gpu.GpuState(0.83, 7654.321, 71.5, 3 * 1024**3)}
    reader.close()
    assert not library.open
    assert reader.read() == {}
    assert gpu.GpuReader([], local=False).read() == {}
    assert gpu.GpuReader([], local=False).why_not == "the servers' metrics were not found"


def test_a_counter_that_triton_leaves_at_0_is_none() -> None:
    text = 'nv_energy_consumption{gpu_uuid="a"} 0.000000\nnv_gpu_power_usage{gpu_uuid="a"} 71.5\n'
    with endpoint(text) as address:
        assert gpu.GpuReader([address], local=False).read() == {"a": gpu.GpuState(watts=71.5)}
