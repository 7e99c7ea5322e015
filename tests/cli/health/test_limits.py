"""What `arch doctor` finds of limits, by those of this process and by files like those of the kernel."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from arch_bench.health.limits import check_cores, check_files, check_memory, check_processes
from arch_bench.health.surroundings import Surroundings
from support.faulty_machines import tree

GIB = 2**30
UNIFIED = {"sys__fs__cgroup__cgroup_dot_controllers": "cpu memory pids\n"}
FREE = {"proc__meminfo": f"MemTotal: 99999999 kB\nMemAvailable: {20 * GIB // 1024} kB\n"}


@pytest.fixture
def files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("files")
def test_open_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    (found,) = check_files(Surroundings())
    assert found.level == "ok"
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    (found,) = check_files(Surroundings())
    assert found.level == "fault"
    assert found.found.startswith("100 at a time, at most ")
    assert found.advice.startswith("ulimit -n 65536")


def test_cores_of_a_container(tmp_path: Path) -> None:
    (found,) = check_cores(tree(tmp_path / "free", **UNIFIED, sys__fs__cgroup__cpu_dot_max="max 100000\n"))
    cores = len(os.sched_getaffinity(0))
    assert (found.level, found.found) == ("ok", str(cores))
    (found,) = check_cores(tree(tmp_path / "bound", **UNIFIED, sys__fs__cgroup__cpu_dot_max="25000 100000\n"))
    assert found.level == "warning"
    assert found.found == f"{cores}, of which the container may use 0.25: work for {cores} is started"
    assert found.advice.startswith("arch bench --workers 1,")


def test_cores_of_a_container_of_the_old_kind(tmp_path: Path) -> None:
    quota = {"sys__fs__cgroup__cpu__cpu_dot_cfs_period_us": "100000\n"}
    (found,) = check_cores(tree(tmp_path / "free", **quota, sys__fs__cgroup__cpu__cpu_dot_cfs_quota_us="-1\n"))
    assert found.level == "ok"
    (found,) = check_cores(tree(tmp_path / "bound", **quota, sys__fs__cgroup__cpu__cpu_dot_cfs_quota_us="40000\n"))
    assert "may use 0.4" in found.found


@pytest.mark.parametrize(("free", "level"), [(20 * GIB, "ok"), (2 * GIB, "warning"), (GIB // 2, "fault")])
def test_memory_of_the_machine(tmp_path: Path, free: int, level: str) -> None:
    (found,) = check_memory(tree(tmp_path, proc__meminfo=f"MemAvailable: {free // 1024} kB\n"))
    assert found.level == level
    assert found.found.startswith(f"{free / GIB:.1f} GiB free of the machine")


def test_memory_of_a_container(tmp_path: Path) -> None:
    """What it holds of files counts as free; the limit of a group above it counts too."""
    group = {
        **UNIFIED,
        **FREE,
        "proc__self__cgroup": "0::/pod/box\n",
        "sys__fs__cgroup__pod__box__memory_dot_max": "max\n",
        "sys__fs__cgroup__pod__box__memory_dot_current": f"{3 * GIB}\n",
        "sys__fs__cgroup__pod__box__memory_dot_stat": f"anon 1\ninactive_file {GIB // 4}\n",
        "sys__fs__cgroup__pod__memory_dot_max": f"{4 * GIB}\n",
    }
    (found,) = check_memory(tree(tmp_path / "ok", **group, sys__fs__cgroup__pod__memory_dot_current=f"{GIB // 4}\n"))
    assert (found.level, found.found) == ("ok", "4.0 GiB free of the container")
    (found,) = check_memory(
        tree(tmp_path / "bad", **group, sys__fs__cgroup__pod__memory_dot_current=f"{7 * GIB // 2}\n")
    )
    assert (found.level, found.found) == ("fault", "0.8 GiB free of the container")
    assert found.advice.startswith("give it more: docker run --memory")


def test_memory_of_a_container_of_the_old_kind(tmp_path: Path) -> None:
    group = {**FREE, "proc__self__cgroup": "4:memory:/docker/box\n"}
    use = {"sys__fs__cgroup__memory__memory_dot_usage_in_bytes": f"{GIB}\n"}
    limit = "sys__fs__cgroup__memory__memory_dot_limit_in_bytes"
    (found,) = check_memory(tree(tmp_path / "free", **group, **use, **{limit: f"{2**63 - 4096}\n"}))
    assert (found.level, found.found) == ("ok", "20.0 GiB free of the machine")
    (found,) = check_memory(tree(tmp_path / "bound", **group, **use, **{limit: f"{3 * GIB}\n"}))
    assert (found.level, found.found) == ("warning", "2.0 GiB free of the container: Ray takes 1, a large encoder 2")


def test_a_limit_of_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = resource.getrlimit
    monkeypatch.setattr(
        resource, "getrlimit", lambda kind: (8 * GIB, 8 * GIB) if kind == resource.RLIMIT_AS else limits(kind)
    )
    (found,) = check_memory(tree(tmp_path, **FREE))
    assert (found.level, found.advice) == ("fault", "ulimit -v unlimited")


@pytest.mark.parametrize(("most", "level"), [("max", None), ("5000", "ok"), ("800", "warning"), ("150", "fault")])
def test_processes_of_a_container(tmp_path: Path, most: str, level: str | None) -> None:
    around = tree(tmp_path, **UNIFIED, sys__fs__cgroup__pids_dot_max=most, sys__fs__cgroup__pids_dot_current="100\n")
    (found,) = check_processes(around)
    if level is None:
        assert found.level == "ok"
    else:
        assert found.level == level
        assert found.found.startswith(f"{int(most) - 100:,} more")
        assert ("--pids-limit" in found.advice) == (level != "ok")
