"""Peak memory of the harness at 1,000 and at 20,000 clips: it must not grow with the dataset.

Each count runs in a process of its own: it lists the files, streams them through the null model of a real Triton and
puts the embeddings into the store. VmHWM is the most that a process ever had resident, shared pages included; unlike
ru_maxrss it does not start at what the parent process had. Probing comes after this and holds the embeddings of the
dataset, 3 KB for each clip of 768 dimensions: beside the peak stands that of the driver once it has read them.

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
from arch_harness.datasets.registry import open_dataset
from arch_harness.embeddings.store import EmbeddingStore
from arch_harness.results.run import ModelFacts
from arch_harness.streaming.pool import WorkerPool
from arch_harness.triton.endpoint import Endpoint
from rich.console import Console
from rich.table import Table
from streaming import RATE, job, triton, write_clips

COUNTS = [1000, 20_000]
_WORKER = "ray::Worker"


def peak_mb(pid: int) -> float:
    """The most that a process had resident, in MB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def measure(address: str, folder: Path, cache: Path, workers: int) -> dict[str, float]:
    """One pass; peaks of the driver, which is this process, and of the workers, in MB."""
    dataset = open_dataset(str(folder), Path("data"))
    model = ModelFacts(
        name="null",
        source="null",
        revision="",
        family="null",
        precision="fp32",
        sample_rate=RATE,
        embedding_size=768,
        parameter_count=0,
        opset=0,
        content_hash="null",
        parity_max_relative_error=0,
        parity_min_cosine=1,
        max_batch_size=8,
        max_queue_delay_us=0,
    )
    with WorkerPool([Endpoint(address)], workers) as pool, EmbeddingStore(cache).open(model, dataset, False) as entry:
        clips = entry.missing()
        passed = pool.embed(job("null", folder), clips, lambda chunk: entry.append(chunk.embeddings)).measurement
        entry.finish()
        if passed.clips != len(dataset.clips) or entry.missing():
            raise SystemExit(f"{len(dataset.clips) - passed.clips} of {len(dataset.clips)} clips are missing")
        children = psutil.Process().children(recursive=True)
        workers_mb = [peak_mb(child.pid) for child in children if child.name().startswith(_WORKER)]
        if len(workers_mb) != workers:
            raise SystemExit(f"found {len(workers_mb)} of {workers} workers among {[one.name() for one in children]}")
        peaks = {
            "driver": peak_mb(os.getpid()),
            "workers": max(workers_mb),
            "raylet": max((peak_mb(child.pid) for child in children if child.name() == "raylet"), default=0.0),
            "clips/s": passed.clips_per_s,
        }
        entry.read()
        return peaks | {"driver with embeddings": peak_mb(os.getpid())}


def main() -> None:
    """Print the peaks, and by how much they differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=max(1, len(os.sched_getaffinity(0)) // 2))
    parser.add_argument("--clips", type=int, nargs="+", default=COUNTS, help="compared are the first and the last")
    parser.add_argument("--run", nargs=3, metavar=("ADDRESS", "FOLDER", "CACHE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        address, folder, cache = options.run
        print(json.dumps(measure(address, Path(folder), Path(cache), options.workers)))
        return
    peaks: dict[int, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name, triton("null") as endpoint:
        for count in options.clips:
            for kind in ("a", "b"):  # a dataset has at least two classes
                write_clips(Path(name, str(count), kind), count // 2)
            command = [sys.executable, __file__, "--workers", str(options.workers)]
            command += ["--run", endpoint.address, f"{name}/{count}", f"{name}/cache"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stderr.strip().splitlines()[-1])
            peaks[count] = json.loads(done.stdout.splitlines()[-1])
    table = Table("peak resident, MB", *(f"{count:,} clips" for count in options.clips), "difference")
    for who in ("driver", "workers", "raylet", "driver with embeddings"):
        figures = [peaks[count][who] for count in options.clips]
        table.add_row(who, *(f"{figure:.0f}" for figure in figures), f"{figures[-1] - figures[0]:+.0f}")
    table.add_row("clips/s", *(f"{peaks[count]['clips/s']:.0f}" for count in options.clips), "")
    Console().print(table)


if __name__ == "__main__":
    main()
