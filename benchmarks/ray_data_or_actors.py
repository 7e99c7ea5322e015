"""Ray Data against actors on the same work: read files, decode, send to the null model of a real Triton, gather.

- `actors`: the harness.
- `Ray Data, one stage`: the harness's own worker inside `map_batches`, so that only what drives it differs.
- `Ray Data, two stages`: decoding in `map`, sending in `map_batches` over tritonclient, as Ray's guides have it; the
  audio passes through the object store.

Each run has a process of its own, and they take turns. Clips/s count from the first result to the last, so that no side
pays for its start. Memory is the most that driver, workers and Ray's own processes held together, pages that several
of them share counted once. Ray Data needs pandas, which arch does not:

    pip install 'pandas<3'
    python benchmarks/ray_data_or_actors.py
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import psutil
from arch_harness.datasets.audio import load_clip
from arch_harness.measuring.chunk import Chunk
from arch_harness.streaming.pool import WorkerPool
from arch_harness.streaming.worker import Worker
from arch_harness.triton.endpoint import Endpoint
from rich.console import Console
from rich.table import Table
from streaming import RATE, SAMPLES, SECONDS, job, triton, write_clips

IN_FLIGHT = 16
BLOCK = 32
"""Clips that a stage is given at a time."""


class Memory:
    """The peak over time of what this process and its children hold, in MB, while the block runs."""

    def __init__(self) -> None:
        self.peak = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.3):
            held = 0.0
            for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
                try:
                    held += process.memory_full_info().pss / 1e6
                except psutil.Error:
                    continue
            self.peak = max(self.peak, held)


class Arrivals:
    """When how many results came."""

    def __init__(self) -> None:
        self._times: list[tuple[float, int]] = []

    def add(self, clips: int) -> None:
        """So many have come now."""
        self._times.append((time.perf_counter(), clips))

    def clips_per_s(self, expected: int) -> float:
        """From the first results to the last."""
        clips = sum(count for _, count in self._times)
        if clips != expected:
            raise SystemExit(f"{clips} of {expected} clips came back")
        return (clips - self._times[0][1]) / (self._times[-1][0] - self._times[0][0])


def actors(endpoint: Endpoint, folder: Path, clips: list[tuple[int, str]], workers: int, arrivals: Arrivals) -> None:
    """The harness."""
    with WorkerPool([endpoint], workers, IN_FLIGHT) as pool:

        def take(chunk: Chunk) -> None:
            arrivals.add(len(chunk.embeddings))

        pool.embed(job("null", folder), clips, take)


def start_ray_data(workers: int) -> Any:
    """Ray on this machine, as the harness starts it, but with room for blocks of audio."""
    import ray

    ray.init(
        address="local",
        num_cpus=workers + 1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        object_store_memory=1024**3,
    )
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    return ray


def one_stage(endpoint: Endpoint, folder: Path, clips: list[tuple[int, str]], workers: int, arrivals: Arrivals) -> None:
    """The harness's worker in Ray Data."""
    ray = start_ray_data(workers)

    class Stage:
        def __init__(self) -> None:
            self._worker = Worker([endpoint], IN_FLIGHT // workers)

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            pairs = [(int(index), str(path)) for index, path in zip(batch["index"], batch["path"], strict=True)]
            chunk = self._worker.embed(job("null", folder), pairs)
            return {
                "index": np.array([index for index, _ in chunk.embeddings]),
                "embedding": np.stack([rows[0] for _, rows in chunk.embeddings]),
            }

    data = ray.data.from_items([{"index": index, "path": path} for index, path in clips])
    gather(data.map_batches(Stage, batch_size=BLOCK, concurrency=workers, max_concurrency=3), arrivals)
    ray.shutdown()


def two_stages(
    endpoint: Endpoint, folder: Path, clips: list[tuple[int, str]], workers: int, arrivals: Arrivals
) -> None:
    """Decode in one stage, send in the next."""
    ray = start_ray_data(workers)

    def decode(row: dict[str, Any]) -> dict[str, Any]:
        clip = load_clip(folder / row["path"], RATE, SECONDS)
        return {"index": row["index"], "length": len(clip), "waveform": np.pad(clip, (0, SAMPLES - len(clip)))}

    class Send:
        def __init__(self) -> None:
            import tritonclient.grpc as grpcclient

            self._grpc = grpcclient
            self._client = grpcclient.InferenceServerClient(endpoint.address)

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            waiting = []
            for clip, length in zip(batch["waveform"], batch["length"], strict=True):
                waveform = self._grpc.InferInput("waveform", [1, SAMPLES], "FP32")
                waveform.set_data_from_numpy(np.ascontiguousarray(clip, dtype=np.float32)[None])
                samples = self._grpc.InferInput("num_samples", [1, 1], "INT64")
                samples.set_data_from_numpy(np.array([[length]], dtype=np.int64))
                answered = threading.Event()
                answer: dict[str, Any] = {"event": answered}

                def done(result: Any, error: Any, answer: dict[str, Any] = answer) -> None:
                    answer.update(result=result, error=error)
                    answer["event"].set()

                self._client.async_infer("null", [waveform, samples], done)
                waiting.append(answer)
            for answer in waiting:
                answer["event"].wait()
            rows = [answer["result"].as_numpy("embedding")[0] for answer in waiting]
            return {"index": batch["index"], "embedding": np.stack(rows)}

    data = ray.data.from_items([{"index": index, "path": path} for index, path in clips])
    gather(data.map(decode).map_batches(Send, batch_size=IN_FLIGHT, concurrency=1), arrivals)
    ray.shutdown()


def gather(data: Any, arrivals: Arrivals) -> None:
    """Take the results as they come."""
    for batch in data.iter_batches(batch_size=None):
        arrivals.add(len(batch["index"]))


SIDES: dict[str, Callable[[Endpoint, Path, list[tuple[int, str]], int, Arrivals], None]] = {
    "actors": actors,
    "Ray Data, one stage": one_stage,
    "Ray Data, two stages": two_stages,
}


def main() -> None:
    """Print clips/s and memory of each side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=max(1, len(os.sched_getaffinity(0)) // 2))
    parser.add_argument("--run", nargs=3, metavar=("SIDE", "ADDRESS", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        side, address, folder = options.run
        clips = [(index, f"{index:06d}.wav") for index in range(options.clips)]
        arrivals = Arrivals()
        with Memory() as memory:
            SIDES[side](Endpoint(address), Path(folder), clips, options.workers, arrivals)
        print(json.dumps([arrivals.clips_per_s(options.clips), memory.peak]))
        return
    sides = [side for side in SIDES if side == "actors" or find_spec("pandas")]
    console = Console()
    if len(sides) == 1:
        console.print("Ray Data is left out: pip install 'pandas<3'")
    found: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as name, triton("null") as endpoint:
        write_clips(Path(name), options.clips)
        for _ in range(options.rounds):
            for side in sides:
                command = [sys.executable, __file__, "--clips", str(options.clips), "--workers", str(options.workers)]
                done = subprocess.run(
                    [*command, "--run", side, endpoint.address, name], capture_output=True, text=True, check=False
                )
                if done.returncode:
                    raise SystemExit(f"{side}: {done.stderr.strip().splitlines()[-1]}")
                found[side].append(tuple(json.loads(done.stdout.splitlines()[-1])))
    table = Table("", "clips/s", "rounds", "actors are x", "memory, MB")
    reference = statistics.median(speed for speed, _ in found["actors"])
    for side, runs in found.items():
        speed, memory_mb = (statistics.median(figures) for figures in zip(*runs, strict=True))
        rounds = " ".join(f"{one[0]:.0f}" for one in runs)
        table.add_row(side, f"{speed:.0f}", rounds, f"{reference / speed:.2f}", f"{memory_mb:.0f}")
    console.print(table)


if __name__ == "__main__":
    main()
