"""What a Ray worker does: read clips, decode them, and keep a bounded number of single-clip requests in flight."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from arch_harness.audio import DecodeError, load_clip, pad_clip
from arch_harness.triton import connect

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Far beyond any clip's time in a queue; a server that hangs must not hang the benchmark.
REQUEST_TIMEOUT_S = 600
# These say that the server is gone, not that it refuses the clip.
_QUEUE_FULL = "Exceeds maximum queue size"
_SERVER_LOST = ("StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED", "StatusCode.CANCELLED")


@dataclass(frozen=True)
class Job:
    """What is the same for all clips of one model on one dataset."""

    address: str
    model: str
    folder: Path
    sample_rate: int
    max_seconds: float
    embedding_size: int
    layers: int
    """Rows of the output `layer_embeddings` to ask for; 0 does not ask for it."""


@dataclass
class Chunk:
    """What came of a few clips; `index` fields are positions in the dataset.

    Attributes:
        embeddings: (index, FP32 [1 + layers, embedding size]) of each clip that succeeded; row 0 is the embedding.
        latencies_ms: of the requests answered with an embedding, from sending the request to the answer.
        audio_seconds: of the clips that succeeded, padding not counted.
        failures: (index, stage, reason).
        lost: why the server must be taken for gone; None while it answers.
    """

    embeddings: list[tuple[int, NDArray[np.float32]]] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)
    audio_seconds: float = 0.0
    failures: list[tuple[int, Literal["decode", "infer"], str]] = field(default_factory=list)
    lost: str | None = None


class Worker:
    """Embeds chunks of clips; runs as a Ray actor with two threads, so that one chunk's end overlaps the next's start.

    Args:
        in_flight: requests under way at any time, over both threads.
    """

    def __init__(self, in_flight: int) -> None:
        self._slots = threading.BoundedSemaphore(in_flight)
        self._clients: dict[str, grpcclient.InferenceServerClient] = {}
        self._lock = threading.Lock()

    def ready(self) -> bool:
        """Return once the worker's process has started and imported what it needs."""
        return True

    def embed(self, job: Job, clips: Sequence[tuple[int, str]]) -> Chunk:
        """Embed clips given as (index, path below the job's folder); returns when the last is answered."""
        client = self._client(job.address)
        chunk = Chunk()
        answered = threading.Condition()
        pending = 0

        def done(index: int, clip_seconds: float, started: float, result: Any, error: Any) -> None:
            nonlocal pending
            latency_ms = (time.perf_counter() - started) * 1e3
            self._slots.release()
            with answered:
                try:
                    _record(chunk, job, index, clip_seconds, latency_ms, result, error)
                except (
                    Exception
                ) as malformed:  # a tensor shorter than its shape, say: what the server sent is its fault
                    chunk.failures.append((index, "infer", f"the server's answer cannot be read: {malformed}"))
                finally:
                    pending -= 1
                    answered.notify()

        for index, path in clips:
            if chunk.lost:
                break
            try:
                clip = load_clip(job.folder / path, job.sample_rate, job.max_seconds)
            except DecodeError as error:
                with answered:
                    chunk.failures.append((index, "decode", str(error)))
                continue
            self._slots.acquire()
            inputs = _inputs(clip, round(job.max_seconds * job.sample_rate))
            with answered:
                pending += 1
            started = time.perf_counter()
            client.async_infer(
                job.model,
                inputs,
                partial(done, index, len(clip) / job.sample_rate, started),
                outputs=[grpcclient.InferRequestedOutput(name) for name in _outputs(job)],
                client_timeout=REQUEST_TIMEOUT_S,
            )
        with answered:
            answered.wait_for(lambda: pending == 0)
        return chunk

    def _client(self, address: str) -> grpcclient.InferenceServerClient:
        with self._lock:
            if address not in self._clients:
                self._clients[address] = connect(address)
            return self._clients[address]


def _inputs(clip: NDArray[np.float32], samples: int) -> list[grpcclient.InferInput]:
    waveform = grpcclient.InferInput("waveform", [1, samples], "FP32")
    waveform.set_data_from_numpy(pad_clip(clip, samples)[None])
    num_samples = grpcclient.InferInput("num_samples", [1, 1], "INT64")
    num_samples.set_data_from_numpy(np.array([[len(clip)]], dtype=np.int64))
    return [waveform, num_samples]


def _record(
    chunk: Chunk,
    job: Job,
    index: int,
    clip_seconds: float,
    latency_ms: float,
    result: Any,
    error: InferenceServerException | None,
) -> None:
    if error is not None:
        reason = str(error.message() or error).strip().splitlines()[0]
        if error.status() in _SERVER_LOST and _QUEUE_FULL not in reason:
            chunk.lost = reason
        else:
            chunk.failures.append((index, "infer", reason))
        return
    rows = []
    for name, shape in _outputs(job).items():
        answer = result.as_numpy(name)
        if answer is None or answer.shape != shape:
            found = "nothing" if answer is None else f"the shape {list(answer.shape)}"
            chunk.failures.append((index, "infer", f"the server answered {found} for {name}, not {list(shape)}"))
            return
        rows.append(answer.reshape(-1, job.embedding_size))
    # A copy: the answer's arrays are views that keep the whole message alive.
    embeddings = np.concatenate(rows, dtype=np.float32)
    if not np.isfinite(embeddings).all():
        chunk.failures.append((index, "infer", "the embedding holds NaN or infinity"))
        return
    chunk.embeddings.append((index, embeddings))
    chunk.latencies_ms.append(latency_ms)
    chunk.audio_seconds += clip_seconds


def _outputs(job: Job) -> dict[str, tuple[int, ...]]:
    """The outputs to ask for, with the shapes that they must have."""
    outputs: dict[str, tuple[int, ...]] = {"embedding": (1, job.embedding_size)}
    if job.layers:
        outputs["layer_embeddings"] = (1, job.layers, job.embedding_size)
    return outputs
