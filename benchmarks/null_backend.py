"""The ceiling of the harness: a model that answers at once with zeros, in a real Triton, and 5 s clips from files.

Beside it stand plain loops over tritonclient, as one would write them: read a file with soundfile, `infer`, next; in
one thread and in several of one process. All of them take turns, on the same files.

    python benchmarks/null_backend.py
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import soundfile
import tritonclient.grpc as grpcclient
from arch_harness.streaming.pool import WorkerPool
from arch_harness.triton.endpoint import Endpoint
from rich.console import Console
from rich.table import Table
from streaming import SAMPLES, embed, measure, triton, write_clips


@dataclass(frozen=True)
class Passed:
    """One pass over the files: clips per second of wall time, and core seconds of the client.

    Attributes:
        driver_ms: processor time of the driver for a clip, the embedding store left out; None where there is none.
    """

    clips_per_s: float
    client_cores: float
    limit: str
    driver_ms: float | None = None


def plain(endpoint: Endpoint, folder: Path, clips: list[tuple[int, str]], threads: int) -> Passed:
    """The loop, in so many threads with a share of the files each."""
    client = grpcclient.InferenceServerClient(endpoint.address)

    def one(share: list[tuple[int, str]]) -> None:
        for _, name in share:
            clip = np.zeros((1, SAMPLES), dtype=np.float32)
            audio, _ = soundfile.read(folder / name, dtype="float32")
            clip[0, : len(audio)] = audio
            waveform = grpcclient.InferInput("waveform", clip.shape, "FP32")
            waveform.set_data_from_numpy(clip)
            length = grpcclient.InferInput("num_samples", [1, 1], "INT64")
            length.set_data_from_numpy(np.array([[len(audio)]], dtype=np.int64))
            answer = client.infer("null", [waveform, length]).as_numpy("embedding")
            if answer is None or answer.shape != (1, 768):
                raise SystemExit("the null model answered nothing")

    used = psutil.Process().cpu_times()
    started = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, [clips[rank::threads] for rank in range(threads)]))
    seconds = time.perf_counter() - started
    now = psutil.Process().cpu_times()
    client.close()
    cores = (now.user + now.system - used.user - used.system) / seconds
    return Passed(len(clips) / seconds, cores, "")


def harness(pool: WorkerPool, folder: Path, clips: list[tuple[int, str]], level: int) -> Passed:
    """One measurement of the harness."""
    before = psutil.Process().cpu_times()
    found = measure(pool, "null", folder, clips, level)
    after = psutil.Process().cpu_times()
    driver_ms = 1e3 * (after.user + after.system - before.user - before.system) / found.clips
    cores, machine = found.use()["client_cores"] or 0.0, found.use()["machine_cores"] or 0.0
    limit = f"{found.bottleneck}, {machine:.1f} cores busy, {found.concurrency} in flight, {found.transport}"
    return Passed(found.clips_per_s, cores, limit, driver_ms)


def main() -> None:
    """Print clips/s, and clips/s for each core that the client kept busy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=8, help="of the plain loop")
    parser.add_argument("--transport", choices=("grpc", "shared-memory"), default="grpc", help="of the harness")
    parser.add_argument("--workers", type=int, default=max(1, len(os.sched_getaffinity(0)) // 2))
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as name,
        triton("null") as endpoint,
        WorkerPool([endpoint], options.workers, transport=options.transport) as pool,
    ):
        folder = Path(name)
        clips = write_clips(folder, options.clips)
        level = embed(pool, "null", folder, clips).concurrency  # and reads the files once
        sides: dict[str, Callable[[], Passed]] = {
            f"harness, {options.workers} workers, {options.transport}": lambda: harness(pool, folder, clips, level),
            "tritonclient, 1 thread": lambda: plain(endpoint, folder, clips, 1),
            f"tritonclient, {options.threads} threads": lambda: plain(endpoint, folder, clips, options.threads),
        }
        rounds: dict[str, list[Passed]] = {side: [] for side in sides}
        for _ in range(options.rounds):
            for side, run in sides.items():
                rounds[side].append(run())
    table = Table("client", "clips/s", "rounds", "client cores", "clips/s/core", "driver, ms/clip", "ratio")
    reference = statistics.median(one.clips_per_s for one in next(iter(rounds.values())))
    for side, passed in rounds.items():
        speed = statistics.median(one.clips_per_s for one in passed)
        cores = statistics.median(one.client_cores for one in passed)
        spent = [one.driver_ms for one in passed if one.driver_ms is not None]
        driver = f"{statistics.median(spent):.2f}" if spent else ""
        each = " ".join(f"{one.clips_per_s:.0f}" for one in passed)
        table.add_row(
            side, f"{speed:.0f}", each, f"{cores:.2f}", f"{speed / cores:.0f}", driver, f"{reference / speed:.2f}"
        )
    console = Console()
    console.print(table)
    console.print(f"the harness's limit: {next(iter(rounds.values()))[-1].limit}")


if __name__ == "__main__":
    main()
