"""What a worker makes of a server that misbehaves: a stand-in, since the real one cannot be made to answer so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import soundfile
from arch_harness.worker import Chunk, Job, Worker
from tritonclient.grpc import service_pb2, service_pb2_grpc

SIZE = 4
Answer = Callable[[Any], Any]


def good(_context: Any) -> Any:
    return answer(np.arange(SIZE, dtype=np.float32).tobytes())


def answer(raw: bytes, shape: tuple[int, ...] = (1, SIZE)) -> Any:
    response = service_pb2.ModelInferResponse(raw_output_contents=[raw])
    response.outputs.add(name="embedding", datatype="FP32", shape=shape)
    return response


def abort(code: grpc.StatusCode, words: str) -> Answer:
    return lambda context: context.abort(code, words)


class Server(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Answers in turn what it was given, then well."""

    answers: list[Answer]

    def ModelInfer(self, _request: Any, context: Any) -> Any:  # noqa: N802 (the protocol's name)
        return (self.answers.pop(0) if self.answers else good)(context)


@pytest.fixture
def server() -> Iterator[tuple[str, Server]]:
    servicer = Server()
    running = grpc.server(futures.ThreadPoolExecutor(2))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, running)
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    yield f"127.0.0.1:{port}", servicer
    running.stop(None)


def embed(tmp_path: Path, server: tuple[str, Server], *answers: Answer) -> Chunk:
    """Five clips, sent one after the other, by a worker that must come back."""
    server[1].answers = list(answers)
    for index in range(5):
        soundfile.write(tmp_path / f"{index}.wav", np.full(1600, 0.1), 16000)
    job = Job(server[0], "model", tmp_path, 16000, 1, SIZE, 0)
    chunks: list[Chunk] = []
    worker = Worker(in_flight=1)
    clips = [(index, f"{index}.wav") for index in range(5)]
    thread = threading.Thread(target=lambda: chunks.append(worker.embed(job, clips)), daemon=True)
    thread.start()
    thread.join(60)
    assert chunks, "the worker hangs"
    return chunks[0]


@pytest.mark.parametrize(
    ("spoilt", "reason"),
    [
        (lambda _context: answer(b""), "the server's answer cannot be read: "),
        (lambda _context: answer(bytes(8), (1, 2)), "the shape [1, 2] for embedding, not [1, 4]"),
        (lambda _context: service_pb2.ModelInferResponse(), "nothing for embedding, not [1, 4]"),
        (lambda _context: answer(np.full(SIZE, np.nan, np.float32).tobytes()), "the embedding holds NaN or infinity"),
        (abort(grpc.StatusCode.INVALID_ARGUMENT, "no such input"), "no such input"),
        (abort(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size"), "Exceeds maximum queue size"),
    ],
)
def test_a_spoilt_answer_fails_its_clip_alone(
    tmp_path: Path, server: tuple[str, Server], spoilt: Answer, reason: str
) -> None:
    chunk = embed(tmp_path, server, good, spoilt)
    assert chunk.lost is None
    assert [index for index, _ in chunk.embeddings] == [0, 2, 3, 4]
    ((index, stage, words),) = chunk.failures
    assert (index, stage) == (1, "infer")
    assert reason in words
    assert len(chunk.latencies_ms) == 4
    assert chunk.audio_seconds == pytest.approx(0.4)


def test_a_server_that_is_gone_ends_the_chunk(tmp_path: Path, server: tuple[str, Server]) -> None:
    chunk = embed(tmp_path, server, good, abort(grpc.StatusCode.UNAVAILABLE, "Socket closed"))
    assert chunk.lost == "Socket closed"
    assert chunk.failures == []
