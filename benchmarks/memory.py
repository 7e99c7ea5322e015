"""Peak memory of the harness at 1,000 and at 20,000 clips: it must not grow with the dataset.

Each count runs in a process of its own, through the null model of a real Triton. VmHWM is the most that a process ever
had resident, shared pages included; unlike ru_maxrss it does not start at what the parent process had.

    python benchmarks/memory.py
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
from arch_harness.stream import WorkerPool
from arch_harness.triton import Target
from rich.console import Console
from rich.table import Table
from streaming import embed, triton, write_clips

COUNTS = (1000, 20_000)
_WORKER = "ray::Worker"


def peak_mb(pid: int) -> float:
    """The most that a process had resident, in MB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def measure(address: str, folder: Path, count: int, workers: int) -> dict[str, object]:
    """One pass; peaks of the driver, which is this process, and of the workers, in MB."""
    clips = [(index, f"{index:06d}.wav") for index in range(count)]
    with WorkerPool([Target(address)], workers) as pool:
        passed = embed(pool, "null", folder, clips)
        children = psutil.Process().children(recursive=True)
        workers_mb = [peak_mb(child.pid) for child in children if child.name().startswith(_WORKER)]
        if len(workers_mb) != workers:
            raise SystemExit(f"found {len(workers_mb)} of {workers} workers among {[one.name() for one in children]}")
        raylet = max((peak_mb(child.pid) for child in children if child.name() == "raylet"), default=0.0)
    return {
        "driver": peak_mb(os.getpid()),
        "workers": max(workers_mb),
        "raylet": raylet,
        "clips_per_s": passed.clips_per_s,
    }


def main() -> None:
    """Print the peaks, and by how much they differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=max(1, len(os.sched_getaffinity(0)) // 2))
    parser.add_argument("--run", nargs=3, metavar=("ADDRESS", "FOLDER", "CLIPS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        address, folder, count = options.run
        print(json.dumps(measure(address, Path(folder), int(count), options.workers)))
        return
    peaks: dict[int, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name, triton("null") as target:
        write_clips(Path(name), max(COUNTS))
        for count in COUNTS:
            command = [sys.executable, __file__, "--workers", str(options.workers)]
            done = subprocess.run(
                [*command, "--run", target.address, name, str(count)], capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise SystemExit(done.stderr.strip().splitlines()[-1])
            peaks[count] = json.loads(done.stdout.splitlines()[-1])
    table = Table("peak resident, MB", *(f"{count:,} clips" for count in COUNTS), "difference")
    for who in ("driver", "workers", "raylet"):
        figures = [peaks[count][who] for count in COUNTS]
        table.add_row(who, *(f"{figure:.0f}" for figure in figures), f"{figures[-1] - figures[0]:+.0f}")
    table.add_row("clips/s", *(f"{peaks[count]['clips_per_s']:.0f}" for count in COUNTS), "")
    Console().print(table)


if __name__ == "__main__":
    main()
