"""What a GPU gets right, and what serving leaves of its speed: parity with the CPU, and `arch bench` from disk."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from gpu_engines import Array, Feeds, open_graph, reason_of
from gpu_models import SAMPLE_RATE, Skeleton

_DISTINCT, _CLASSES = 64, 4
_DATASET = "gpu_clips"
_IN_FLIGHT = 128


def clip(index: int, seconds: float) -> Array:
    """Tones in noise, another mixture for each index: FP32 [samples]."""
    random = np.random.default_rng(index)
    moments = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tones = sum(np.sin(2 * np.pi * hertz * moments) for hertz in random.uniform(80 * (1 + index % _CLASSES), 1500, 4))
    mixed: Array = (0.1 * tones + 0.05 * random.standard_normal(len(moments))).astype(np.float32)
    return mixed


def batches() -> list[Feeds]:
    """A clip alone, two of which one is padded, and three of which two are; 8 s in all."""
    found: list[Feeds] = []
    index = 0
    for seconds, lengths in ((1, (1.0,)), (2, (2.0, 1.3)), (1, (1.0, 0.6, 0.25))):
        waveform = np.zeros((len(lengths), seconds * SAMPLE_RATE), np.float32)
        for row, length in enumerate(lengths):
            one = clip(index, length)
            waveform[row, : len(one)] = one
            index += 1
        samples = np.array([[round(length * SAMPLE_RATE)] for length in lengths], np.int64)
        found.append({"waveform": waveform, "num_samples": samples})
    return found


def parity(ours: Any, reference: Any) -> dict[str, float]:
    """How close one session's embeddings are to another's, over `batches`.

    Raises:
        ValueError: if an embedding is not finite.
    """
    pairs = [(ours.run(["embedding"], feeds)[0], reference.run(["embedding"], feeds)[0]) for feeds in batches()]
    found, wanted = (np.concatenate(each).astype(np.float64) for each in zip(*pairs, strict=True))
    for name, values in (("device", found), ("CPU", wanted)):
        if not np.isfinite(values).all():
            raise ValueError(f"embeddings of the {name} are not finite")
    norms = np.linalg.norm(wanted, axis=1)
    cosines = (found * wanted).sum(axis=1) / np.linalg.norm(found, axis=1) / norms
    return {
        "clips": len(found),
        "mean_cosine": float(cosines.mean()),
        "min_cosine": float(cosines.min()),
        "relative_error": float((np.linalg.norm(found - wanted, axis=1) / norms).max()),
    }


def check(folder: Path, skeleton: Skeleton, device: str) -> dict[str, float]:
    """Load a model on the device, ask it, and compare with the CPU on the same weights: `parity`, and `load_s`.

    Raises:
        RuntimeError: if either does not load or run, or answers with no number; in one line.
    """
    where = device
    try:
        started = time.perf_counter()
        ours = open_graph(skeleton.graph(folder, device), skeleton, device)
        load_s = time.perf_counter() - started
        for feeds in batches():
            ours.run(["embedding"], feeds)
        where = "cpu"
        return parity(ours, open_graph(skeleton.graph(folder, "cpu"), skeleton, "cpu")) | {"load_s": load_s}
    except Exception as error:  # ONNX Runtime's own errors have no common base
        raise RuntimeError(f"on {where}: {reason_of(error)}") from error


def write_dataset(folder: Path, clips: int, seconds: int) -> Path:
    """A folder of WAV files in classes, and the .yaml that describes it; 64 are distinct, the others hard links."""
    import soundfile

    root = folder / _DATASET
    for name in range(_CLASSES):
        (root / f"class{name}").mkdir(parents=True)
    for index in range(clips):
        path, first = (root / f"class{one % _CLASSES}" / f"{one:05d}.wav" for one in (index, index % _DISTINCT))
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
    """`arch bench` of one model on a server: the measurement that its results hold, and its clips/s over time.

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
