"""What the system lets this process have: files, processes, memory, cores."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator

from arch_bench.health.finding import Finding
from arch_bench.health.space import GIB
from arch_bench.health.surroundings import Surroundings

# A run of one model by one worker fails with 64 and goes well with 128; more of both take more.
_LEAST_FILES = 128
_ENOUGH_FILES = 1024
_LEAST_PROCESSES = 200
_ENOUGH_PROCESSES = 1000
_LEAST_MEMORY = 1 * GIB
_ENOUGH_MEMORY = 3 * GIB
# Of a control group of version 1 without a limit: the largest number of pages.
_UNLIMITED = 2**60


def check_files(_: Surroundings) -> Iterator[Finding]:
    """How many files a process may have open: a connection is one, and Ray has hundreds."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Ray raises the lower limit to the upper one.
    words = f"{_limit(soft)} at a time" + ("" if soft == hard else f", at most {_limit(hard)}")
    advice = "ulimit -n 65536; docker run --ulimit nofile=65536; LimitNOFILE= of a systemd service"
    if _below(soft, _LEAST_FILES):
        yield Finding("open files", "fault", words, advice)
    elif _below(hard, _ENOUGH_FILES):
        yield Finding("open files", "warning", words, advice)
    else:
        yield Finding("open files", "ok", words)


def check_processes(around: Surroundings) -> Iterator[Finding]:
    """How many more processes and threads there may be: Ray and Triton start hundreds."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    left: float = float("inf")
    if soft != resource.RLIM_INFINITY and os.geteuid() != 0:  # root is not bound by it
        left = soft - _threads(around)
    advice = "ulimit -u 16384"
    for limit, now in _levels(around, "pids", "pids.max", "pids.current"):
        if limit - now < left:
            left, advice = limit - now, "docker run --pids-limit 4096; TasksMax= of a systemd service; podPidsLimit"
    if left == float("inf"):
        yield Finding("processes", "ok", "no limit")
    elif left < _LEAST_PROCESSES:
        yield Finding("processes", "fault", f"{left:.0f} more processes and threads are allowed", advice)
    elif left < _ENOUGH_PROCESSES:
        yield Finding("processes", "warning", f"{left:.0f} more processes and threads are allowed", advice)
    else:
        yield Finding("processes", "ok", f"{left:,.0f} more are allowed")


def check_memory(around: Surroundings) -> Iterator[Finding]:
    """Memory that is free, of the machine and of the container."""
    free = _available(around)
    where, advice = "of the machine", "end other work, or bench a server on another machine with --server"
    names = ("memory.max", "memory.current") if _is_unified(around) else _V1_MEMORY
    for limit, now in _levels(around, "memory", *names):
        # What the group holds in the cache of files is given back where it is wanted.
        left = limit - now + _cached(around)
        if limit < _UNLIMITED and (free is None or left < free):
            free, where, advice = left, "of the container", "give it more: docker run --memory; resources.limits.memory"
    space, _ = resource.getrlimit(resource.RLIMIT_AS)
    if space != resource.RLIM_INFINITY:
        words = f"a process may have {space / GIB:.1f} GiB of addresses (ulimit -v), of which Ray and Triton take many"
        yield Finding("memory", "fault" if space < 16 * GIB else "warning", words, "ulimit -v unlimited")
        return
    if free is None:
        yield Finding("memory", "warning", "the system does not tell what is free")
        return
    words = f"{max(0.0, free) / GIB:.1f} GiB free {where}"
    if free < _LEAST_MEMORY:
        yield Finding("memory", "fault", words, advice)
    elif free < _ENOUGH_MEMORY:
        yield Finding("memory", "warning", f"{words}: Ray takes 1, a large encoder 2", advice)
    else:
        yield Finding("memory", "ok", words)


_V1_MEMORY = ("memory.limit_in_bytes", "memory.usage_in_bytes")


def check_cores(around: Surroundings) -> Iterator[Finding]:
    """Cores that this process may use, against those that it sees."""
    cores, quota = len(os.sched_getaffinity(0)), _quota(around)
    if quota is not None and quota < cores - 0.5:
        yield Finding(
            *("cores", "warning", f"{cores}, of which the container may use {quota:g}: work for {cores} is started"),
            f"arch bench --workers {max(1, int(quota) // 2)}, or give it whole cores: docker run --cpuset-cpus",
        )
    else:
        yield Finding("cores", "ok", str(cores))


def _quota(around: Surroundings) -> float | None:
    """Cores that the control groups allow; None without a limit."""
    found = []
    for text in _texts(around, "cpu", "cpu.max"):
        limit, _, period = text.partition(" ")
        if limit.isdecimal() and period.strip().isdecimal():
            found.append(int(limit) / int(period))
    quotas, periods = (list(_texts(around, "cpu", f"cpu.cfs_{one}_us")) for one in ("quota", "period"))
    for limit, period in zip(quotas, periods, strict=False):
        if limit.isdecimal() and period.isdecimal() and int(period):
            found.append(int(limit) / int(period))
    return min(found, default=None)


def _is_unified(around: Surroundings) -> bool:
    """Whether control groups are of version 2."""
    return bool(around.read("sys/fs/cgroup/cgroup.controllers"))


def _levels(around: Surroundings, controller: str, most: str, now: str) -> Iterator[tuple[int, int]]:
    """Limit and use of this process's control group, and of those above it that have a limit."""
    for folder in _folders(around, controller):
        limit, used = around.read(f"{folder}/{most}").strip(), around.read(f"{folder}/{now}").strip()
        if limit.isdecimal() and used.isdecimal():
            yield int(limit), int(used)


def _texts(around: Surroundings, controller: str, name: str) -> Iterator[str]:
    for folder in _folders(around, controller):
        if text := around.read(f"{folder}/{name}").strip():
            yield text


def _folders(around: Surroundings, controller: str) -> Iterator[str]:
    """The folders of this process's control group and those above it, below the root."""
    unified = _is_unified(around)
    top = "sys/fs/cgroup" if unified else f"sys/fs/cgroup/{controller}"
    path = ""
    for line in around.read("proc/self/cgroup").splitlines():
        _, controllers, own = line.split(":", 2)
        if (unified and not controllers) or (not unified and controller in controllers.split(",")):
            path = own.strip("/")
    # In a container the path may be the host's, of which only the end is seen here: then the top is its own.
    parts = path.split("/") if path else []
    for count in range(len(parts), 0, -1):
        yield f"{top}/{'/'.join(parts[:count])}"
    yield top


def _available(around: Surroundings) -> float | None:
    for line in around.read("proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return 1024.0 * int(line.split()[1])
    return None


def _cached(around: Surroundings) -> int:
    """Bytes of files that this process's control group has in memory and that nothing uses now."""
    for text in _texts(around, "memory", "memory.stat"):
        for line in text.splitlines():
            name, _, value = line.partition(" ")
            if name in ("inactive_file", "total_inactive_file"):
                return int(value)
    return 0


def _threads(around: Surroundings) -> int:
    """Threads of this user."""
    count = 0
    for status in (around.root / "proc").glob("[0-9]*/status"):
        text = around.read(str(status.relative_to(around.root)))
        fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        if fields.get("Uid", "").split()[:1] == [str(os.getuid())]:
            count += int(fields.get("Threads", "0"))
    return count


def _below(limit: int, least: int) -> bool:
    return limit != resource.RLIM_INFINITY and limit < least


def _limit(number: int) -> str:
    return "any number" if number == resource.RLIM_INFINITY else f"{number:,}"
