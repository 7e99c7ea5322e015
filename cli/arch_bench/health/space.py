"""Room: on disks, in shared memory, and whether it can be written to."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from arch_common.errors import UsageError
from arch_common.files import can_be_written

from arch_bench import cache as store
from arch_bench.health.finding import Finding
from arch_bench.health.surroundings import Surroundings

SHARED = "/dev/shm"  # noqa: S108 - POSIX shared memory, not a temporary file
MIB, GIB = 2**20, 2**30
# A run's own files and its log; below, the next one of them is not written.
_LEAST_DISK = 200 * MIB
# A large encoder takes 1.3 GB in fp32, and as much again while it is exported.
_ENOUGH_DISK = 3 * GIB
# Above, Ray keeps nothing on a disk any more.
_RAY_SHARE = 0.95
# Triton takes 4 MiB for a model as it is loaded, and 18 once it has had a batch of 8 clips of 30 s.
_LEAST_SHARED = 32 * MIB
# Ray's object store beside it, which is 256 MiB large and lies in /tmp where there is less: slowly.
_ENOUGH_SHARED = 320 * MIB


def check_disk(around: Surroundings) -> Iterator[Finding]:
    """Free space and free names, once for each file system that is written to."""
    seen: dict[int, list[str]] = {}
    paths: dict[int, Path] = {}
    for what, path in _places(around):
        there = _nearest(path)
        try:
            device = there.stat().st_dev
        except OSError as error:
            yield Finding("disk", "fault", f"{what}: {path}: {error.strerror}", "name another folder")
            continue
        seen.setdefault(device, []).append(what)
        paths.setdefault(device, there)
    for device, names in seen.items():
        yield from _disk(around, ", ".join(names), paths[device])


def _disk(around: Surroundings, what: str, path: Path) -> Iterator[Finding]:
    topic = "disk"
    try:
        disk = around.statvfs(path)
    except OSError as error:
        yield Finding(topic, "fault", f"{what}: {path}: {error.strerror}", "name another folder")
        return
    free, total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    words = f"{_shown(free)} free of {_shown(total)} for {what}"
    if disk.f_files and not disk.f_favail:
        yield Finding(topic, "fault", f"{words}, but room for no more files (inodes)", "delete files there")
    elif free < _LEAST_DISK:
        advice = "make room (arch cache prune), or name folders elsewhere (--output, --cache, --repository, TMPDIR)"
        yield Finding(topic, "fault", words, advice)
    elif free < _ENOUGH_DISK:
        advice = "make room for a large encoder (1.3 GB, twice that while it is exported): arch cache prune"
        yield Finding(topic, "warning", words, advice)
    elif "Ray" in what and total and 1 - free / total > _RAY_SHARE:
        advice = "make room, or set RAY_TMPDIR: above 95 % Ray writes nothing there"
        yield Finding(topic, "warning", f"{words}: {100 - 100 * free / total:.0f} % are taken", advice)
    else:
        yield Finding(topic, "ok", words)


def _places(around: Surroundings) -> Iterator[tuple[str, Path]]:
    from arch_harness.streaming.cluster.nodes import moved_ray_folder, usual_ray_place

    yield "models", around.repository
    yield "reports", around.output
    with suppress(UsageError):  # `check_folders` says it
        yield "embeddings", store.root(around.cache)
    try:
        temporary = Path(tempfile.gettempdir())
    except FileNotFoundError:
        return  # likewise
    yield "temporary files", temporary
    yield "Ray", Path(moved_ray_folder(around.environ) or usual_ray_place(around.environ))
    if hub := around.environ.get("HF_HOME"):
        yield "checkpoints", Path(hub)


def _nearest(path: Path) -> Path:
    """The path, or the last folder above it that is there."""
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def check_folders(around: Surroundings) -> Iterator[Finding]:
    """Whether reports, embeddings and temporary files can be written."""
    bad = 0
    if not can_be_written(around.output):
        bad += 1
        yield Finding("reports", "fault", f"{around.output.absolute()} cannot be written", "name another with --output")
    try:
        store.check(around.cache)
        note = store.makeshift_note(around.cache)
    except UsageError as error:
        bad += 1
        yield Finding("embeddings", "fault", str(error), "name a folder with --cache or ARCH_CACHE")
    else:
        if note:
            bad += 1
            yield Finding("embeddings", "warning", note)
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        bad += 1
        yield Finding("temporary files", "fault", "no folder for them can be written", "set TMPDIR to one that can")
    if not bad:
        yield Finding("folders", "ok", f"reports and embeddings ({store.root(around.cache)}) can be written")


def check_shared_memory(around: Surroundings) -> Iterator[Finding]:
    """Shared memory: Triton talks to each model through it, and Ray's object store lies there."""
    folder = around.root / "dev/shm"
    larger = "docker run --shm-size=1g; as root: mount -o remount,size=1g /dev/shm"
    try:
        disk = around.statvfs(folder)
    except OSError as error:
        yield Finding(SHARED, "fault", error.strerror or str(error), f"mount a tmpfs there ({larger})")
        return
    free, total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    words = f"{_shown(free)} free of {_shown(total)}"
    if not os.access(folder, os.W_OK | os.X_OK):
        yield Finding(SHARED, "fault", "cannot be written", "chmod 1777 /dev/shm, as root")
    elif free < _LEAST_SHARED:
        advice = f"{larger}; or remove what others left there"
        yield Finding(SHARED, "fault", f"{words}: a model takes 4 to 18 MiB of it", advice)
    elif free < _ENOUGH_SHARED:
        yield Finding(SHARED, "warning", f"{words}: several models, and Ray, take more", larger)
    else:
        yield Finding(SHARED, "ok", words)


def _shown(size: int) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / MIB:.0f} MiB"
