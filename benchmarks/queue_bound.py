"""What a bound on a model's queue does to latency: the same model with and without one, alone and saturated.

A bound switches off Triton's prefetching; then a request that comes while the one instance is not yet waiting may sleep
out the batcher's half second.

    python benchmarks/queue_bound.py model_repository/logmel model_repository/hubert-small-random
"""

from __future__ import annotations

import argparse
import re
import tempfile
from pathlib import Path

from arch_harness.results.measurement import LoadName, Measurement
from arch_harness.streaming.pool import WorkerPool
from arch_harness.streaming.wire import Job
from arch_harness.triton.endpoint import Endpoint
from arch_harness.triton.server import Server
from arch_serve.server import LocalServer
from rich.console import Console
from rich.table import Table
from streaming import RATE, SECONDS, copy_as, write_clips

DELAYS_US = (0, 2000)
BOUND = 512


def variants(model: Path, repository: Path) -> list[str]:
    """Copies of a model, with each delay with and without a bound; their names."""
    names = []
    for bound in (BOUND, None):
        for delay in DELAYS_US:
            name = f"{model.name}-{'bound' if bound else 'free'}-{delay}"
            config = copy_as(model, repository, name)
            policy = f" default_queue_policy {{ max_queue_size: {bound} }}" if bound else ""
            text = re.sub(r"dynamic_batching \{(?:[^{}]|\{[^{}]*\})*\}", "", config.read_text(), count=1)
            text += f"\ndynamic_batching {{ max_queue_delay_microseconds: {delay}{policy} }}\n"
            config.write_text(text)
            names.append(name)
    return names


def cells(found: Measurement, load: LoadName) -> list[str]:
    """Percentiles and stalls at a load."""
    point = found.at(load)
    if point is None or point.latency_ms is None:
        return ["–"] * 3
    latency = point.latency_ms
    values = (latency.p50, latency.p95, latency.p99)
    words = " / ".join("–" if value is None else f"{value:.0f}" for value in values)
    return [words, str(point.requests), str(point.stalls)]


def main() -> None:
    """Print a row for each configuration."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, help="folders of exported models")
    parser.add_argument("--in-flight", type=int, default=16, help="of the saturated server")
    options = parser.parse_args()
    table = Table("model", "queue", "delay, µs", "clips/s")
    for load in ("alone", "saturated"):
        for column in (f"{load}: p50 / p95 / p99, ms", "requests", "stalls"):
            table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as name:
        clips, repository = Path(name) / "clips", Path(name) / "repository"
        files = write_clips(clips, 64)
        for model in options.models:
            names = variants(model, repository)
            for served in names:
                with LocalServer(repository, [served], grpc_port=0, http_port=0, metrics_port=0) as server:
                    endpoint = Endpoint(server.grpc_url)
                    with Server(endpoint) as asked, WorkerPool([endpoint], 1) as pool:
                        (facts,) = asked.models([served])
                        job = Job(served, clips, RATE, SECONDS, facts.embedding_size, 0, facts.max_batch_size)
                        found = pool.measure(job, files, options.in_flight, None)
                _, kind, delay = served.rsplit("-", 2)
                row = [model.name, "bound" if kind == "bound" else "no bound", delay, f"{found.clips_per_s:.1f}"]
                table.add_row(*row, *cells(found, "alone"), *cells(found, "saturated"))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
