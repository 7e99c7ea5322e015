"""Whether what a pass finds depends on the passes before it: models and clip lengths, forwards and then backwards.

Each pass has the search for the requests in flight and a measured phase; the same pool goes through all of them.

    python benchmarks/pass_order.py model_repository/logmel model_repository/hubert-small-random
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from arch_harness.results.measurement import Measurement
from arch_harness.streaming.pool import WorkerPool
from arch_harness.streaming.wire import Job
from arch_harness.triton.endpoint import Endpoint
from arch_harness.triton.server import Server
from arch_serve.server import LocalServer
from rich.console import Console
from rich.table import Table
from streaming import RATE, write_clips

SECONDS = (1.0, 3.0)


def order(endpoint: Endpoint, pairs: Sequence[tuple[str, float]], folder: Path, wanted_s: float) -> list[Measurement]:
    """One pass for each pair, one after the other."""
    found = []
    with Server(endpoint) as server:
        facts = {one.name: one for one in server.models([])}
    with WorkerPool([endpoint], 1) as pool:
        for model, seconds in pairs:
            one = facts[model]
            # At another length first, by which nothing is remembered: how many clips last as long as is wanted.
            probe = Job(model, folder, RATE, seconds + 0.01, one.embedding_size, 0, one.max_batch_size)
            clips = sorted(path.name for path in folder.glob("*.wav"))
            speed = pool.measure(probe, list(enumerate(clips)), 8, None).clips_per_s
            job = Job(model, folder, RATE, seconds, one.embedding_size, 0, one.max_batch_size)
            count = max(600, int(wanted_s * speed))
            files = [(index, clips[index % len(clips)]) for index in range(count)]
            found.append(pool.embed(job, files, lambda _: None).measurement)
    return found


def main() -> None:
    """Print a row for each model and length."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, help="folders of one repository")
    parser.add_argument("--seconds", type=float, default=30.0, help="that a pass lasts, about")
    options = parser.parse_args()
    pairs = [(path.name, seconds) for path in options.models for seconds in SECONDS]
    table = Table("model", "clips, s", "in flight", "backwards", "clips/s", "backwards", "ratio", "steady")
    with tempfile.TemporaryDirectory() as name:
        write_clips(Path(name), 64)
        names = [path.name for path in options.models]
        with LocalServer(options.models[0].parent, names, grpc_port=0, http_port=0, metrics_port=0) as server:
            endpoint = Endpoint(server.grpc_url)
            forwards = order(endpoint, pairs, Path(name), options.seconds)
            backwards = order(endpoint, pairs[::-1], Path(name), options.seconds)[::-1]
    for (model, seconds), one, other in zip(pairs, forwards, backwards, strict=True):
        table.add_row(
            *(model, f"{seconds:g}", str(one.concurrency), str(other.concurrency), f"{one.clips_per_s:.1f}"),
            *(f"{other.clips_per_s:.1f}", f"{other.clips_per_s / one.clips_per_s:.3f}"),
            f"{one.steadiness}, {other.steadiness}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
