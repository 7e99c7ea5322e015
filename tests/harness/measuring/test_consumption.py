"""Energy and memory of a made machine whose truth is known: Triton's metrics over HTTP, a tree of RAPL's counters."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from arch_harness.measuring.consumption import hardware, log, rapl
from arch_harness.measuring.consumption.curve import EnergyCurve
from arch_harness.measuring.consumption.hardware import ServerHardware
from arch_harness.measuring.consumption.log import ConsumptionLog
from arch_harness.measuring.consumption.rapl import RaplReader
from arch_harness.measuring.consumption.resident import ServerMemory
from arch_harness.measuring.gpu import GpuReader
from arch_harness.results.measurement import Consumption, PowerUse, SpeedRun
from arch_harness.triton.endpoint import Endpoint
from support.metrics_site import metrics_site

REFRESH_S = 2.0
"""Of what Triton tells of GPUs."""

METRICS = """\
# HELP nv_gpu_utilization GPU utilization rate [0.0 - 1.0)
# TYPE nv_gpu_utilization gauge
nv_gpu_utilization{{gpu_uuid="GPU-1a"}} 0.930000
nv_gpu_utilization{{gpu_uuid="GPU-2b"}} 0.000000
# HELP nv_gpu_memory_used_bytes GPU used memory, in bytes
# TYPE nv_gpu_memory_used_bytes gauge
nv_gpu_memory_used_bytes{{gpu_uuid="GPU-1a"}} {memory:.6f}
nv_gpu_memory_used_bytes{{gpu_uuid="GPU-2b"}} 1048576.000000
# HELP nv_gpu_power_usage GPU power usage in watts
# TYPE nv_gpu_power_usage gauge
nv_gpu_power_usage{{gpu_uuid="GPU-1a"}} {watts:.6f}
nv_gpu_power_usage{{gpu_uuid="GPU-2b"}} 50.000000
"""
ENERGY = """\
# HELP nv_energy_consumption GPU energy consumption in joules since the Triton Server started
# TYPE nv_energy_consumption counter
nv_energy_consumption{{gpu_uuid="GPU-1a"}} {joules:.6f}
nv_energy_consumption{{gpu_uuid="GPU-2b"}} {idle_joules:.6f}
"""


class Clock:
    """Time that goes on when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        for module in (log, hardware):
            monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: self.now, sleep=self.sleep))

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def power(moment: float) -> float:
    """Watts of the first GPU: idle at 70 until 20 s, 300 until 60 s, 200 from then on."""
    return 70.0 if moment < 20 else 300.0 if moment < 60 else 200.0


def energy(moment: float) -> float:
    """Joules of the first GPU since the clock's 1000 s."""
    return 70 * min(moment, 20) + 300 * min(max(moment - 20, 0), 40) + 200 * max(moment - 60, 0)


def triton(clock: Clock, *, counters: bool = True, restarted: float = math.inf) -> Callable[[], str]:
    """What the metrics endpoint of a server answers that was started 500 s before, as the clock has it."""

    def text() -> str:
        moment = math.floor((clock.now - 1000) / REFRESH_S) * REFRESH_S
        since = energy(moment) - (energy(restarted) if moment >= restarted else -12_345.0)
        told = METRICS + (ENERGY if counters else "")
        memory = (2048 if moment < 40 else 3072) * 1024**2
        idle = 50 * moment + (3.0 if moment < restarted else -50 * restarted)
        return told.format(memory=memory, watts=power(moment), joules=since, idle_joules=idle)

    return text


def followed(clock: Clock, found: ConsumptionLog, seconds: float, step_s: float = 0.5) -> ConsumptionLog:
    """The log after so many seconds of looks."""
    for _ in range(round(seconds / step_s)):
        found.look()
        clock.now += step_s
    found.look()
    return found


@pytest.mark.parametrize("counters", [True, False])
@pytest.mark.parametrize("step_s", [0.5, 0.2])
def test_joules_of_triton_s_gpus_are_the_truth(monkeypatch: pytest.MonkeyPatch, counters: bool, step_s: float) -> None:
    clock = Clock(monkeypatch)
    with metrics_site(triton(clock, counters=counters)) as address:
        found = followed(clock, ConsumptionLog(GpuReader([address], False), idle={"GPU, by Triton": 120.0}), 80, step_s)
    taken = found.consumption([(25, 40), (41, 55)])
    # Both GPUs together: 300 and 50 W while it is measured, 70 and 50 W before.
    (one,) = taken.power
    assert one.source == "GPU, by Triton"
    assert one.mean_w == pytest.approx(350, rel=0.02)
    assert found.watts([(5, 15)]) == {"GPU, by Triton": pytest.approx(120, rel=0.04)}
    # Where the power changes within the span, a refresh every 2 s blurs the edge.
    assert found.consumption([(30, 75)]).power[0].mean_w == pytest.approx((30 * 300 + 15 * 200) / 45 + 50, rel=0.03)
    assert taken.untold == ["CPU: a server is on another machine"]
    assert taken.source == "GPU, by Triton (not told: CPU: a server is on another machine)"
    assert taken.gpu_memory_mib == 3072 + 1
    assert found.consumption([(25, 35)]).gpu_memory_mib == 2048 + 1
    assert taken.server_memory_mib is None


def test_a_server_that_was_restarted_gives_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    with metrics_site(triton(clock, restarted=30)) as address:
        found = followed(clock, ConsumptionLog(GpuReader([address], False), idle={"GPU, by Triton": 120.0}), 50)
    taken = found.consumption([(25, 45)])
    assert taken.power == []
    assert taken.source.startswith(
        "not told: GPU, by Triton: its counter began anew, as it does where a server is resta"
    )


def test_a_part_of_the_time_is_not_taken_for_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    with metrics_site(triton(clock)) as address:
        found = followed(clock, ConsumptionLog(GpuReader([address], False), idle={"GPU, by Triton": 110.0}), 8)
    assert found.consumption([(2, 8)]).power[0].mean_w == pytest.approx(120)
    assert found.consumption([(2, 30)]).untold[0].startswith("GPU, by Triton: known for 5.")
    assert found.consumption([]).power == []


def test_without_idle_power_there_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    with metrics_site(triton(clock)) as address:
        found = followed(clock, ConsumptionLog(GpuReader([address], False)), 8)
    taken = found.consumption([(2, 8)])
    assert (taken.power, taken.untold[0]) == ([], "GPU, by Triton: its idle power is not known")


def test_a_gpu_that_tells_no_power_leaves_no_figure_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    with metrics_site('nv_gpu_utilization{gpu_uuid="GPU-1a"} 0.5\n') as address:
        found = followed(clock, ConsumptionLog(GpuReader([address], False)), 8)
    assert found.consumption([(2, 8)]).untold[0] == "GPU, by Triton: it tells no power"


def zones(folder: Path, **packages: float) -> Path:
    """A tree as the kernel makes it, with joules of each package; with parts, the platform, and the same by memory."""
    made = {f"intel-rapl:{number}": (name, joules) for number, (name, joules) in enumerate(packages.items())}
    made |= {"intel-rapl:0:0": ("core", 1e4), "intel-rapl:0:1": ("dram", 2e4), "intel-rapl:7": ("psys", 9e4)}
    made |= {"intel-rapl-mmio:0": ("package-0", 5e4)}
    for zone, (name, joules) in made.items():
        (folder / zone).mkdir(parents=True, exist_ok=True)
        (folder / zone / "name").write_text(f"{name.replace('_', '-')}\n")
        (folder / zone / "energy_uj").write_text(f"{round(joules * 1e6)}\n")
        (folder / zone / "max_energy_range_uj").write_text("262143328850\n")
    (folder / "intel-rapl").mkdir(exist_ok=True)  # the control type, which counts nothing
    return folder


def test_packages_are_counted_once_and_a_counter_that_comes_round_goes_on(tmp_path: Path) -> None:
    top = 262143.328851  # joules from one 0 to the next
    reader = RaplReader(zones(tmp_path, package_0=top - 10, package_1=500))
    assert reader.why_not == ""
    assert reader.read() == {"intel-rapl:0": 0, "intel-rapl:1": 0}
    zones(tmp_path, package_0=15, package_1=580)
    assert reader.read() == pytest.approx({"intel-rapl:0": 25, "intel-rapl:1": 80})
    zones(tmp_path, package_0=40, package_1=581)
    assert reader.read() == pytest.approx({"intel-rapl:0": 50, "intel-rapl:1": 81})
    assert reader.sure_s == pytest.approx(262.1, rel=1e-3)
    (tmp_path / "intel-rapl:1" / "energy_uj").unlink()
    assert reader.read() == {}


def test_why_there_is_no_rapl_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert RaplReader(tmp_path / "none").why_not == f"there is no {tmp_path / 'none'}"
    assert RaplReader(tmp_path).why_not == f"{tmp_path} names no CPU package"
    assert RaplReader(tmp_path).read() == {}
    zones(tmp_path, package_0=1)
    whole = Path.read_text

    def refusing(path: Path, *arguments: Any, **options: Any) -> str:
        if path.name == "energy_uj":  # as for anyone but root
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_text", refusing)
        assert RaplReader(tmp_path).why_not == f"{tmp_path / 'intel-rapl:0' / 'energy_uj'} may be read by root alone"
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("much\n")
    assert RaplReader(tmp_path).why_not.startswith(f"{tmp_path} cannot be read: invalid literal")


def servers(*endpoints: Endpoint) -> list[Any]:
    """Stand-ins of servers, of which only the endpoint is asked."""
    return [
        SimpleNamespace(endpoint=one, address=one.address, metrics_address=lambda one=one: one.metrics)
        for one in endpoints
    ]


def test_gpu_and_cpu_together_less_what_they_take_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle 70 + 50 W and 20 W, measured 300 + 50 W and 65 W."""
    clock = Clock(monkeypatch)
    monkeypatch.setattr(rapl, "POWERCAP", zones(tmp_path, package_0=100))

    def text() -> str:
        moment = clock.now - 1000
        zones(tmp_path, package_0=100 + 20 * min(moment, 20) + 65 * max(moment - 20, 0))
        return triton(clock)()

    told: list[float] = []
    with metrics_site(text) as address:
        found = ServerHardware(servers(Endpoint("127.0.0.1:9", metrics=address)))
        found.measure_idle(lambda: told.append(clock.now))
        assert 1008 <= clock.now < 1009
        assert len(told) > 5
        found.measure_idle(lambda: pytest.fail("it is measured once"))
        begun = found.log()
        clock.now = 1019.0
        assert begun.begin() == 1019
        taken = followed(clock, begun, 25).consumption([(3, 20)])
    assert taken.untold == []
    assert [one.source for one in taken.power] == ["GPU, by Triton", "CPU, by RAPL"]
    assert [one.mean_w for one in taken.power] == pytest.approx([350, 65])
    assert [one.idle_w for one in taken.power] == pytest.approx([120, 20], rel=0.06)


def test_where_nothing_tells_it_takes_no_time_and_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clock = Clock(monkeypatch)
    monkeypatch.setattr(rapl, "POWERCAP", tmp_path / "powercap")
    monkeypatch.setattr("ctypes.CDLL", lambda name: (_ for _ in ()).throw(OSError(name)))
    with metrics_site("nv_inference_count 3\n") as address:
        found = ServerHardware(servers(Endpoint("127.0.0.1:9", metrics=address)))
        found.measure_idle(lambda: pytest.fail("there is nothing to measure"))
        taken = followed(clock, found.log(), 8).consumption([(1, 8)])
        far = ServerHardware(servers(Endpoint("10.1.2.3:9"), Endpoint("127.0.0.1:9", metrics=address)))
        elsewhere = followed(clock, far.log(), 8).consumption([(1, 8)])
    assert clock.now == 1016
    assert taken == Consumption(
        untold=[
            "GPU: the servers' metrics name none, and this machine has no driver of NVIDIA's",
            f"CPU: there is no {tmp_path / 'powercap'}",
        ]
    )
    assert elsewhere.source == (
        "not told: GPU: the servers' metrics were not found; CPU: a server is on another machine"
    )


def test_a_counter_that_is_refreshed_faster_than_it_is_read_is_exact() -> None:
    curve = EnergyCurve()
    for step in range(21):
        moment = step / 2
        curve.count(moment, 5.0 * moment**2)  # the power grows by 10 W a second
    joules, known = curve.over([(2, 4), (6, 9)])
    assert known == pytest.approx(5)
    assert joules == pytest.approx(5 * (16 - 4 + 81 - 36))


@pytest.mark.parametrize("apart_s", [0.5, 1.0, 1.5, 1.9, 3.0])
def test_looks_that_are_not_regular_find_the_mean_power(apart_s: float) -> None:
    """Of a counter that is refreshed every 2 s, some of whose changes are seen by two looks in a row."""
    random = Random(3)
    curve, moment = EnergyCurve(), 0.0
    while moment < 400:
        curve.count(moment, 100 * REFRESH_S * math.floor(moment / REFRESH_S))
        moment += apart_s * random.uniform(1, 1.4)
    joules, known = curve.over([(20, 380)])
    assert joules / known == pytest.approx(100, rel=0.02)
    assert known == pytest.approx(360)


def test_a_gpu_that_answers_no_more_leaves_no_figure_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    other = METRICS.format(memory=0, watts=100).replace("GPU-", "GPU-of-another-")
    with metrics_site(triton(clock)) as address, metrics_site(lambda: other if clock.now < 1001 else "") as second:
        reader = GpuReader([address, second], False)
        clock.now += 1
        found = followed(clock, ConsumptionLog(reader, idle={"GPU, by Triton": 120.0}), 80)
    taken = found.consumption([(25, 40)])
    assert (taken.power, taken.untold[0]) == ([], "GPU, by Triton: it tells no power")


def test_no_more_than_idle_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    with metrics_site(triton(clock)) as address:
        found = followed(clock, ConsumptionLog(GpuReader([address], False), idle={"GPU, by Triton": 120.5}), 12)
    taken = found.consumption([(2, 10)])
    reason = "GPU, by Triton: under load it took no more than with nothing in flight"
    assert (taken.power, taken.untold[0]) == ([], reason)


def test_a_long_gap_is_not_known() -> None:
    drawn, counted = EnergyCurve(), EnergyCurve(sure_s=30)
    for moment in (0.0, 10.0, 20.0, 90.0, 100.0):
        drawn.draw(moment, 50.0)
        counted.count(moment, 50.0 * moment + 1)
    assert drawn.over([(0, 100)]) == pytest.approx((1500, 30))
    # Nothing is known before the first change, nor where the counter may have come round.
    assert counted.over([(0, 100)]) == pytest.approx((1000, 20))


def test_only_tritonservers_count_as_servers() -> None:
    with metrics_site("") as address:
        assert ServerMemory([int(address.rsplit(":", 1)[1])]).read() is None
    assert ServerMemory([1]).read() is None


def test_watts_become_joules_of_a_clip() -> None:
    def run(*power: PowerUse, speed: float = 50.0) -> SpeedRun:
        return SpeedRun(clips_per_s=speed, steadiness="steady", loads=[], consumption=Consumption(power=list(power)))

    both = run(
        PowerUse(source="GPU, by NVML", mean_w=350, idle_w=120), PowerUse(source="CPU, by RAPL", mean_w=65, idle_w=20)
    )
    assert (both.mean_power_w, both.idle_power_w) == (415, 140)
    assert both.joules_per_clip == pytest.approx(275 / 50)
    assert run(PowerUse(source="GPU, by NVML", mean_w=69.5, idle_w=70)).joules_per_clip is None
    assert run().joules_per_clip is run().mean_power_w is run().idle_power_w is None
    assert run(PowerUse(source="GPU, by NVML", mean_w=350, idle_w=120), speed=0).joules_per_clip is None
