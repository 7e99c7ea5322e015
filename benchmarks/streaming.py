"""What the benchmarks of the streaming share: models, clips, a real Triton, and a pass of the harness."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
from arch_harness.results.measurement import Measurement
from arch_harness.streaming.pool import WorkerPool
from arch_harness.streaming.wire import Job
from arch_harness.triton.endpoint import Endpoint
from arch_serve.null_model import write_null_model
from arch_serve.server import LocalServer
from numpy.typing import NDArray

RATE, SECONDS = 16000, 5.0
SAMPLES = round(RATE * SECONDS)
MAX_BATCH_SIZE = 8  # what the export writes
EMBEDDING_SIZES = {"hubert-base": 768, "logmel": 160, "null": 768}
REPOSITORY = Path("data/benchmarks/model_repository")
"""Kept from run to run, because an export takes minutes."""


def add_model(name: str) -> None:
    """Put a model into the repository unless it is there: `hubert-base` (random weights), `logmel` or `null`."""
    folder = REPOSITORY / name
    if (folder / "config.pbtxt").exists():
        return
    REPOSITORY.mkdir(parents=True, exist_ok=True)
    if name == "null":
        write_null_model(REPOSITORY, EMBEDDING_SIZES[name])
        return
    from arch_export.pipeline import export

    export("logmel" if name == "logmel" else str(_random_hubert_base()), REPOSITORY, name)


def copy_as(model: Path, repository: Path, name: str) -> Path:
    """Put a copy of an exported model into a repository under another name; its config.pbtxt."""
    shutil.copytree(model, repository / name)
    config = repository / name / "config.pbtxt"
    config.write_text(config.read_text().replace(f'name: "{model.name}"', f'name: "{name}"', 1))
    return config


def _random_hubert_base() -> Path:
    """A checkpoint of HuBERT-base's size: speed does not depend on what the weights are."""
    import torch
    from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

    folder = REPOSITORY.parent / "hubert-base-random"
    torch.manual_seed(0)
    HubertModel(HubertConfig()).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False).save_pretrained(folder)
    return folder


@contextmanager
def triton(*models: str) -> Iterator[Endpoint]:
    """A Triton on this machine that serves the models."""
    for model in models:
        add_model(model)
    with LocalServer(REPOSITORY, list(models), grpc_port=0, http_port=0, metrics_port=0) as server:
        for status in server.models:
            if not status.ready:
                raise SystemExit(f"{status.name} is not served: {status.short_reason}")
        yield Endpoint(server.grpc_url, metrics=server.metrics_url, started_by_arch=True)


def write_clips(folder: Path, count: int, distinct: int = 64, rate: int = RATE) -> list[tuple[int, str]]:
    """Write WAV files (16 bit, mono, 5 s) and name them as the harness wants them: (index, path below the folder).

    Only so many are different; the others are hard links to them, which are opened and read all the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    clips = []
    for index in range(count):
        path = folder / f"{index:06d}.wav"
        if index < distinct:
            soundfile.write(path, synthesise(random, rate), rate, subtype="PCM_16")
        else:
            path.hardlink_to(folder / f"{index % distinct:06d}.wav")
        clips.append((index, path.name))
    return clips


def synthesise(random: np.random.Generator, rate: int = RATE) -> NDArray[np.float32]:
    """A few tones over noise: FP32 [5 s]."""
    time_s = np.arange(round(rate * SECONDS)) / rate
    tones = sum(np.sin(2 * np.pi * frequency * time_s) for frequency in random.uniform(80, 2000, 4))
    clip: NDArray[np.float32] = (0.1 * tones + 0.02 * random.standard_normal(len(time_s))).astype(np.float32)
    return clip


def job(model: str, folder: Path) -> Job:
    """Every clip of the folder through the model."""
    return Job(model, folder.resolve(), RATE, SECONDS, EMBEDDING_SIZES[model], 0, MAX_BATCH_SIZE)


def embed(pool: WorkerPool, model: str, folder: Path, clips: list[tuple[int, str]]) -> Measurement:
    """One pass of the harness, from files to embeddings; each clip must come back."""
    arrived = 0

    def take(chunk: object) -> None:
        nonlocal arrived
        arrived += len(chunk.embeddings)  # type: ignore[attr-defined]

    streamed = pool.embed(job(model, folder), clips, take)
    if streamed.failures or arrived != len(clips):
        raise SystemExit(f"{len(clips) - arrived} of {len(clips)} clips failed: {streamed.failures[:1]}")
    return streamed.measurement


def measure(pool: WorkerPool, model: str, folder: Path, clips: list[tuple[int, str]], level: int) -> Measurement:
    """The harness at a number of requests in flight that is known, once it is steady."""
    found = pool.measure(job(model, folder), clips, level, None)
    if found.failed:
        raise SystemExit(f"{found.failed} clips failed")
    return found


def in_memory() -> dict[str, NDArray[np.generic]]:
    """A clip as any client sends it: `waveform` FP32 [1, samples] and `num_samples` INT64 [1, 1]."""
    waveform = synthesise(np.random.default_rng(1))[None]
    return {"waveform": waveform, "num_samples": np.array([[SAMPLES]], dtype=np.int64)}


def remove(folder: Path) -> None:
    """Remove the clips."""
    shutil.rmtree(folder, ignore_errors=True)
