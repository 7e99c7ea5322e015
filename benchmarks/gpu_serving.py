"""What serving leaves of a GPU's speed: a plain client, and `arch bench` from disk by either transport.

The plain client is processes that send one clip of noise again and again, so that nothing but the server takes time.
What `arch bench` loses to it is what reading, decoding and sending cost on the server's machine.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from gpu_checks import CLASSES, clip
from gpu_models import SAMPLE_RATE, Skeleton

PLAIN = "a plain client"
_SECONDS = 10
_IN_FLIGHT = 128
_DISTINCT = 64
_DATASET = "gpu_clips"
_PROCESSES = 8
_WARM_S, _MEASURE_S = 2.0, 4.0
_START_S, _ANSWER_S = 30.0, 10.0
# What `arch bench` takes with Ray's start and the probes.
_BENCH_S = 40


def through_triton(
    folder: Path, skeleton: Skeleton, device: str, server: str | None, clips: int, left: Callable[[], float]
) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Serve a model, and measure what clients get of it: who, and what was measured, None where no time is left.

    Args:
        folder: of the skeletons.
        skeleton: the model.
        device: cuda or cpu.
        server: host:port of a Triton that serves it already.
        clips: of 10 s, from disk.
        left: seconds that may still be taken.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=".bench-") as scratch:
        dataset = write_dataset(Path(scratch), clips, _SECONDS)
        with nullcontext(server) if server else served(folder, skeleton, device, max(30, left())) as address:
            yield PLAIN, {"clips_per_s": plain_load(address, skeleton.name)}
            for transport in ("grpc", "shared-memory"):
                enough = left() > _BENCH_S
                yield transport, bench(address, skeleton.name, dataset, transport, left()) if enough else None


def _send(address: str, model: str, barrier: Any, found: Any) -> None:
    """Keep requests in flight; gives the answers of the measured time and what failed, the first reason with it."""
    import tritonclient.grpc as grpc

    client = grpc.InferenceServerClient(address)
    samples = _SECONDS * SAMPLE_RATE
    waveform = grpc.InferInput("waveform", [1, samples], "FP32")
    random = np.random.default_rng(0)
    waveform.set_data_from_numpy(0.1 * random.standard_normal((1, samples), dtype=np.float32))
    counts = grpc.InferInput("num_samples", [1, 1], "INT64")
    counts.set_data_from_numpy(np.full((1, 1), samples, np.int64))
    outputs = [grpc.InferRequestedOutput("embedding")]
    in_flight = _IN_FLIGHT // _PROCESSES
    places = threading.Semaphore(in_flight)
    answered: list[float] = []
    failed: list[str] = []

    def done(result: Any, error: Any) -> None:
        del result
        if error is None:
            answered.append(time.monotonic())
        else:
            failed.append(str(error))
        places.release()

    barrier.wait(_START_S)
    start = time.monotonic() + _WARM_S
    while time.monotonic() < start + _MEASURE_S and not failed:
        places.acquire(timeout=_ANSWER_S)
        client.async_infer(model, [waveform, counts], done, outputs=outputs, client_timeout=_ANSWER_S)
    for _ in range(in_flight):
        places.acquire(timeout=2 * _ANSWER_S)
    found.put((sum(start <= moment < start + _MEASURE_S for moment in answered), failed[:1]))


def plain_load(address: str, model: str) -> float:
    """Clips/s that a server answers a plain client.

    Args:
        address: host:port of its gRPC.
        model: an exported encoder.

    Raises:
        RuntimeError: if a request fails, or a process.
    """
    context = multiprocessing.get_context("spawn")
    barrier, found = context.Barrier(_PROCESSES), context.Queue()
    processes = [context.Process(target=_send, args=(address, model, barrier, found)) for _ in range(_PROCESSES)]
    for process in processes:
        process.start()
    try:
        told = [found.get(timeout=_START_S + _WARM_S + _MEASURE_S + 3 * _ANSWER_S) for _ in processes]
    except queue.Empty:
        raise RuntimeError("a process of the plain client has ended without an answer") from None
    finally:
        for process in processes:
            process.kill()
            process.join()
    for _, failed in told:
        if failed:
            raise RuntimeError(f"the server failed a request: {failed[0]}")
    return float(sum(count for count, _ in told)) / _MEASURE_S


def write_dataset(folder: Path, clips: int, seconds: int) -> Path:
    """A folder of WAV files in classes, and the .yaml that describes it; 64 are distinct, the others hard links."""
    import soundfile

    root = folder / _DATASET
    for name in range(CLASSES):
        (root / f"class{name}").mkdir(parents=True)
    for index in range(clips):
        path, first = (root / f"class{one % CLASSES}" / f"{one:05d}.wav" for one in (index, index % _DISTINCT))
        if index < _DISTINCT:
            soundfile.write(path, clip(index, seconds), SAMPLE_RATE, subtype="PCM_16")
        else:
            os.link(first, path)
    described = folder / f"{_DATASET}.yaml"
    described.write_text(f"id: {_DATASET}\nmax_seconds: {seconds}\nfolder: {_DATASET}\n")
    return described


@contextmanager
def served(folder: Path, skeleton: Skeleton, device: str, timeout_s: float) -> Iterator[str]:
    """A Triton over one model; gives `host:port` of its gRPC.

    On a CPU, to rehearse with, the twin is served in place of the graph.

    Raises:
        RuntimeError: if the model does not load.
    """
    from arch_serve.server import LocalServer

    with tempfile.TemporaryDirectory(dir=folder, prefix=".served-") as scratch:
        # Hard links: ONNX Runtime refuses weights that a link leads to outside of the model's folder.
        version = Path(scratch) / skeleton.name / "1"
        version.mkdir(parents=True)
        graph = skeleton.graph(folder, device)
        (version / "model.onnx").hardlink_to(graph)
        if (graph.parent / "model.onnx.data").is_file():
            (version / "model.onnx.data").hardlink_to(graph.parent / "model.onnx.data")
        config = (folder / skeleton.name / "config.pbtxt").read_text()
        if device == "cpu":
            config = config.replace("KIND_GPU", "KIND_CPU")
        (version.parent / "config.pbtxt").write_text(config)
        server = LocalServer(Path(scratch), grpc_port=0, http_port=0, metrics_port=0, timeout_s=timeout_s)
        with server:
            for status in server.models:
                if not status.ready:
                    raise RuntimeError(f"{status.name} does not load: {status.short_reason}")
            yield server.grpc_url


def bench(address: str, model: str, dataset: Path, transport: str, timeout_s: float) -> dict[str, Any]:
    """`arch bench` of one model on a server: the measurement that its results hold.

    With requests for four full batches in flight, two for each instance, so that no search is part of the figure.

    Raises:
        RuntimeError: if it fails, with its last line, or takes longer.
    """
    output = dataset.parent / f"report-{transport}"
    command = [sys.executable, "-m", "arch_bench", "bench", "--dataset", str(dataset), "--server", address]
    command += ["--model", model, "--output", str(output), "--cache", str(dataset.parent / "cache"), "--recompute"]
    command += ["--concurrency", str(_IN_FLIGHT), "--probe", "knn", "--seeds", "1", "--transport", transport]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s)
        (found,) = json.loads((output / "results.json").read_text())["results"] if done.returncode == 0 else (None,)
        if found is None:
            raise RuntimeError((done.stderr.strip().splitlines() or ["no reason given"])[-1])
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"arch bench took longer than the {timeout_s:.0f} s that were left") from None
    finally:
        shutil.rmtree(output, ignore_errors=True)
    measured: dict[str, Any] = found["measurement"]
    return measured
