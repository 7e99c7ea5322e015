"""Audio to Triton by gRPC and by shared memory: `python benchmarks/transport.py`; a minute or two.

Processor time per 5 s clip, of the client and of the server, and clips/s, with 16 in flight from one worker: against a
model that answers at once with zeros, and against logmel. The two take turns; medians of five passes over 600 clips.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import psutil
import soundfile
from arch_export.pipeline import export
from arch_harness.streaming.wire import Job
from arch_harness.streaming.worker import Orders, Worker
from arch_harness.triton.endpoint import Endpoint
from arch_serve.server import LocalServer
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from rich.table import Table

RATE, SECONDS, SIZE, MAX_BATCH = 16000, 5, 160, 8
FILES, CLIPS, PASSES, IN_FLIGHT = 100, 600, 5, 16


def write_null(repository: Path) -> None:
    """Beside `logmel`, a model `null` with the same configuration, whose embedding is 0."""
    shutil.copytree(repository / "logmel", repository / "null")
    config = repository / "null" / "config.pbtxt"
    config.write_text(config.read_text().replace('name: "logmel"', 'name: "null"', 1))
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["num_samples", "zero"], ["none"]),
            helper.make_node("Cast", ["none"], ["column"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["column", "row"], ["embedding"]),
        ],
        "null",
        [
            helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["batch", "samples"]),
            helper.make_tensor_value_info("num_samples", TensorProto.INT64, ["batch", 1]),
        ],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", SIZE])],
        [
            numpy_helper.from_array(np.zeros(1, np.int64), "zero"),
            numpy_helper.from_array(np.zeros((1, SIZE), np.float32), "row"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    onnx.save(model, repository / "null" / "1" / "model.onnx")


def seconds_of(processes: list[psutil.Process]) -> float:
    """Processor time that they have spent."""
    return sum(process.cpu_times().user + process.cpu_times().system for process in processes)


def main() -> None:
    """Measure and print."""
    table = Table(title=f"5 s clips, {IN_FLIGHT} in flight", title_justify="left")
    for column in ("model", "transport", "client ms/clip", "server ms/clip", "clips/s"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        export("logmel", root / "repository")
        write_null(root / "repository")
        (root / "audio").mkdir()
        random = np.random.default_rng(0)
        for index in range(FILES):
            soundfile.write(root / "audio" / f"{index}.wav", 0.1 * random.standard_normal(RATE * SECONDS), RATE)
        clips = [(index, f"{index % FILES}.wav") for index in range(CLIPS)]
        for model in ("null", "logmel"):
            job = Job(model, root / "audio", RATE, SECONDS, SIZE, 0, MAX_BATCH)
            with LocalServer(root / "repository", [model], grpc_port=0, http_port=0, metrics_port=0) as server:
                client = psutil.Process()
                served = client.children(recursive=True)
                workers = {
                    transport: Worker([Endpoint(server.grpc_url)], IN_FLIGHT, transport)
                    for transport in ("grpc", "shared-memory")
                }
                passes: dict[str, list[tuple[float, float, float]]] = {transport: [] for transport in workers}
                for warm_up in (True, *[False] * PASSES):
                    for transport, worker in workers.items():
                        before = seconds_of([client]), seconds_of(served), time.perf_counter()
                        chunk = worker.embed(job, clips)
                        after = seconds_of([client]), seconds_of(served), time.perf_counter()
                        if len(chunk.answers) != CLIPS or all(worker.status(Orders(IN_FLIGHT)).reads_shared_memory) != (
                            transport == "shared-memory"
                        ):
                            raise SystemExit(f"not measured: {transport} did not carry every clip")
                        if not warm_up:
                            mine, theirs, wall = (end - start for start, end in zip(before, after, strict=True))
                            passes[transport].append((1e3 * mine / CLIPS, 1e3 * theirs / CLIPS, CLIPS / wall))
                for transport, worker in workers.items():
                    worker.close()
                    mine, theirs, rate = (statistics.median(column) for column in zip(*passes[transport], strict=True))
                    table.add_row(model, transport, f"{mine:.2f}", f"{theirs:.2f}", f"{rate:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
