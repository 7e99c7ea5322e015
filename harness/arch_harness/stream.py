"""A dataset through a served encoder: Ray workers send the clips, the driver gathers the embeddings."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from arch_harness.errors import ArchError
from arch_harness.results import Failure
from arch_harness.worker import Chunk, Job, Worker

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arch_harness.datasets import Dataset

# A worker runs two chunks at once and finds a third waiting.
_CHUNKS_PER_WORKER = 3
_SMALLEST_CHUNK = 16

Progress = Callable[[int, float], None]
"""Told the clips done (failed ones included) and the seconds of audio embedded so far."""


@dataclass(frozen=True)
class Embedded:
    """The embeddings of a dataset and how it went.

    Attributes:
        embeddings: FP32 [clips, embedding size]; rows of failed clips are 0.
        layers: FP32 [clips, layers, embedding size], the same for every layer; no layers where none were asked for.
        succeeded: bool [clips].
        failures: of the other clips, in the order of the dataset.
        latencies_ms: FP64 [clips that succeeded], in order of arrival.
        audio_seconds: of the clips that succeeded, padding not counted.
        seconds: wall time from the first clip read to the last embedding received.
    """

    embeddings: NDArray[np.float32]
    layers: NDArray[np.float32]
    succeeded: NDArray[np.bool_]
    failures: list[Failure]
    latencies_ms: NDArray[np.float64]
    audio_seconds: float
    seconds: float


class WorkerPool:
    """Ray actors on this machine; a context manager that stops Ray when it ends.

    Args:
        workers: how many processes read, decode and send.
        concurrency: single-clip requests in flight, over all workers.
    """

    def __init__(self, workers: int, concurrency: int) -> None:
        self.workers = min(workers, concurrency)
        self._in_flight = [
            concurrency // self.workers + (rank < concurrency % self.workers) for rank in range(self.workers)
        ]
        self._actors: list[Any] = []

    def __enter__(self) -> WorkerPool:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray

        handler = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(
                address="local",  # a cluster that happens to run here is not ours to use
                num_cpus=self.workers,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="error",
                # Chunks of embeddings pass through it, never audio.
                object_store_memory=256 * 1024**2,
            )
        except Exception as error:  # Ray raises plain Exception too
            ray.shutdown()
            raise ArchError(f"Ray could not start: {str(error).strip().splitlines()[0]}") from error
        # Ray puts a handler of its own there, which dumps the stack and aborts.
        signal.signal(signal.SIGTERM, handler)
        try:
            actor = ray.remote(num_cpus=1, max_concurrency=2)(Worker)
            self._actors = [actor.remote(in_flight) for in_flight in self._in_flight]
            ray.get([actor.ready.remote() for actor in self._actors])
        except BaseException:
            ray.shutdown()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        import ray

        for actor in self._actors:
            ray.kill(actor)
        ray.shutdown()

    def embed(self, dataset: Dataset, job: Job, on_progress: Progress = lambda _clips, _seconds: None) -> Embedded:
        """Embed every clip of the dataset once, in its order, as single-clip requests.

        Raises:
            ArchError: if the server stops answering or a worker dies. A clip that cannot be decoded or that the
                server refuses is a failure in the result instead.
        """
        import ray

        size = max(_SMALLEST_CHUNK, *self._in_flight)
        paths = [(index, clip.path) for index, clip in enumerate(dataset.clips)]
        waiting = [paths[start : start + size] for start in range(0, len(paths), size)][::-1]
        gathered = _Gathered(dataset, job)
        running: dict[Any, Any] = {}
        started = time.perf_counter()
        idle = [actor for _ in range(_CHUNKS_PER_WORKER) for actor in self._actors]
        try:
            while waiting or running:
                while waiting and idle:
                    actor = idle.pop(0)
                    running[actor.embed.remote(job, waiting.pop())] = actor
                (reference,), _ = ray.wait(list(running))
                idle.append(running.pop(reference))
                gathered.add(ray.get(reference))
                on_progress(gathered.clips, gathered.audio_seconds)
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ArchError(f"a worker died after {gathered.clips} of {len(paths)} clips: {reason}") from error
        return gathered.finish(time.perf_counter() - started)


class _Gathered:
    """Chunks, put in the dataset's order."""

    def __init__(self, dataset: Dataset, job: Job) -> None:
        self._dataset = dataset
        self._job = job
        self._embeddings = np.zeros((len(dataset.clips), job.embedding_size), dtype=np.float32)
        self._layers = np.zeros((len(dataset.clips), job.layers, job.embedding_size), dtype=np.float32)
        self._succeeded = np.zeros(len(dataset.clips), dtype=np.bool_)
        self._failures: dict[int, Failure] = {}
        self._latencies_ms: list[float] = []
        self.audio_seconds = 0.0

    @property
    def clips(self) -> int:
        return len(self._latencies_ms) + len(self._failures)

    def add(self, chunk: Chunk) -> None:
        for index, rows in chunk.embeddings:
            self._embeddings[index] = rows[0]
            self._layers[index] = rows[1:]
            self._succeeded[index] = True
        for index, stage, reason in chunk.failures:
            self._failures[index] = Failure(clip=self._dataset.clips[index].path, stage=stage, reason=reason)
        self._latencies_ms += chunk.latencies_ms
        self.audio_seconds += chunk.audio_seconds
        if chunk.lost:
            raise ArchError(
                f"the server at {self._job.address} stopped answering after {self.clips} of "
                f"{len(self._dataset.clips)} clips of {self._dataset.id}: {chunk.lost}"
            )

    def finish(self, seconds: float) -> Embedded:
        return Embedded(
            embeddings=self._embeddings,
            layers=self._layers,
            succeeded=self._succeeded,
            failures=[self._failures[index] for index in sorted(self._failures)],
            latencies_ms=np.array(self._latencies_ms),
            audio_seconds=self.audio_seconds,
            seconds=seconds,
        )
