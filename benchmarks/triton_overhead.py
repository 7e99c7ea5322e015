"""What serving costs: a model through Triton against the same ONNX Runtime session in this process.

The session is made from the same file with the same options as the backend's, and given batches of the size that Triton
forms. Triton is given single clips from memory, with enough in flight that a full batch always waits. Both take turns.
Beside clips/s stands the processor time of a clip, of server and client together, which tells the two apart even while
the machine does other things.

    python benchmarks/triton_overhead.py
"""

from __future__ import annotations

import argparse
import os
import queue
import statistics
import time

import numpy as np
import onnxruntime as ort
import psutil
import tritonclient.grpc as grpcclient
from arch_export.encoder.precision import Precision
from arch_export.graph.runtime import open_session
from arch_harness.triton.endpoint import Endpoint
from arch_harness.triton.server import Server
from rich.console import Console
from rich.table import Table
from streaming import REPOSITORY, in_memory, triton


def session(model: str, threads: int) -> ort.InferenceSession:
    """As the backend makes it."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return open_session(REPOSITORY / model / "1/model.onnx", Precision.FP32, options)


def in_process(loaded: ort.InferenceSession, clips: int, batch: int) -> float:
    """Clips per second of the session alone."""
    feeds = {name: np.repeat(array, batch, axis=0) for name, array in in_memory().items()}
    started = time.perf_counter()
    for _ in range(clips // batch):
        loaded.run(["embedding"], feeds)
    return clips // batch * batch / (time.perf_counter() - started)


def through_triton(endpoint: Endpoint, model: str, clips: int, in_flight: int) -> float:
    """Clips per second through the server, from the first request sent to the last answer."""
    client = grpcclient.InferenceServerClient(endpoint.address)
    inputs = []
    for name, array in in_memory().items():
        entry = grpcclient.InferInput(name, array.shape, "FP32" if name == "waveform" else "INT64")
        entry.set_data_from_numpy(array)
        inputs.append(entry)
    answers: queue.Queue[Exception | None] = queue.Queue()

    def send() -> None:
        client.async_infer(model, inputs, lambda **answer: answers.put(answer["error"]))

    started = time.perf_counter()
    for _ in range(min(in_flight, clips)):
        send()
    for done in range(clips):
        error = answers.get()
        if error is not None:
            raise SystemExit(f"the server refused a clip: {error}")
        if done + in_flight < clips:
            send()
    seconds = time.perf_counter() - started
    client.close()
    return clips / seconds


def processor_s() -> float:
    """Core seconds that this process and its children, the server among them, have spent."""
    spent = 0.0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        times = process.cpu_times()
        spent += times.user + times.system
    return spent


def main() -> None:
    """Print both medians and what Triton costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="hubert-base", choices=["hubert-base", "logmel"])
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    console = Console()
    batch, threads = 8, len(os.sched_getaffinity(0))  # the limit of the exported models, and what the backend takes
    ours, alone = [], []
    cores_s = {"in process": 0.0, "through Triton": 0.0}
    with triton(options.model) as endpoint, Server(endpoint) as server:
        loaded = session(options.model, threads)
        in_process(loaded, batch, batch)
        through_triton(endpoint, options.model, 2 * batch, 2 * batch)
        before = server.statistics(options.model)
        for _ in range(options.rounds):
            marks = [processor_s()]
            alone.append(in_process(loaded, options.clips, batch))
            marks.append(processor_s())
            ours.append(through_triton(endpoint, options.model, options.clips, 2 * batch))
            marks.append(processor_s())
            cores_s["in process"] += marks[1] - marks[0]
            cores_s["through Triton"] += marks[2] - marks[1]
            console.print(f"in process {alone[-1]:.2f}, through Triton {ours[-1]:.2f} clips/s")
        after = server.statistics(options.model)
    counted = after.since(before, options.rounds * options.clips)
    if counted is None:
        raise SystemExit("the server's counters are lost: was it restarted?")
    served = counted.times(options.rounds * options.clips)
    table = Table("", "clips/s", "rounds", "mean batch", "core ms/clip")
    clips = options.rounds * options.clips
    for name, speeds, size in (("in process", alone, float(batch)), ("through Triton", ours, served.mean_batch_size)):
        each = " ".join(f"{one:.2f}" for one in speeds)
        cost = f"{1e3 * cores_s[name] / clips:.1f}"
        table.add_row(name, f"{statistics.median(speeds):.2f}", each, f"{size:.2f}", cost)
    console.print(table)
    ratio = statistics.median(ours) / statistics.median(alone)
    paired = statistics.median(one / other for one, other in zip(ours, alone, strict=True))
    share = cores_s["through Triton"] / cores_s["in process"]
    console.print(
        f"ratio of medians {ratio:.3f}, median of the rounds' ratios {paired:.3f}, processor time x {share:.3f}; "
        f"{threads} threads"
    )


if __name__ == "__main__":
    main()
