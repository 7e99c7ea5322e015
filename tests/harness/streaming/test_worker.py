"""What a worker makes of a server that misbehaves: a stand-in, since the real one cannot be made to answer so."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import soundfile
from arch_harness.measuring.chunk import Chunk
from arch_harness.measuring.windows import Progress, done_between, seconds_between
from arch_harness.streaming import balancer, sender
from arch_harness.streaming.actors import WorkerHandle
from arch_harness.streaming.buffers import Buffer, BufferPool
from arch_harness.streaming.wire import Job
from arch_harness.streaming.worker import Orders, Worker
from arch_harness.triton.endpoint import Endpoint
from support.waiting import until
from tritonclient.grpc import service_pb2, service_pb2_grpc

SIZE = 4
CLIPS = 5
Answer = Callable[[Any], Any]


def answer(raw: bytes, shape: tuple[int, ...] = (1, SIZE)) -> Any:
    response = service_pb2.ModelInferResponse(raw_output_contents=[raw])
    response.outputs.add(name="embedding", datatype="FP32", shape=shape)
    return response


def good(_context: Any) -> Any:
    return answer(np.arange(SIZE, dtype=np.float32).tobytes())


def abort(code: grpc.StatusCode, words: str) -> Answer:
    return lambda context: context.abort(code, words)


class Server(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Answers in turn what it was given, then well."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.then: Answer = good
        self.ready = True
        self.requests: list[Any] = []
        self.headers: list[dict[str, str]] = []

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 (the protocol's name)
        self.requests.append(request)
        self.headers.append(dict(context.invocation_metadata()))
        return (self.answers.pop(0) if self.answers else self.then)(context)

    def ModelReady(self, _request: Any, _context: Any) -> Any:  # noqa: N802 (the protocol's name)
        return service_pb2.ModelReadyResponse(ready=self.ready)


@pytest.fixture
def servers() -> Iterator[list[tuple[Endpoint, Server]]]:
    running, both = [], []
    for _ in range(2):
        servicer = Server()
        one = grpc.server(futures.ThreadPoolExecutor(8))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, one)
        both.append((Endpoint(f"127.0.0.1:{one.add_insecure_port('127.0.0.1:0')}"), servicer))
        one.start()
        running.append(one)
    yield both
    for one in running:
        one.stop(None)


def embed(folder: Path, servers: list[tuple[Endpoint, Server]], budget: int = 1) -> tuple[Chunk, dict[str, int]]:
    """Five clips by a worker that must come back, and the faults that it counted."""
    for index in range(CLIPS):
        soundfile.write(folder / f"{index}.wav", np.full(1600, 0.1), 16000)
    job = Job("model", folder, 16000, 1, SIZE, 0, 1)
    worker = Worker([endpoint for endpoint, _ in servers], budget)
    chunks: list[Chunk] = []
    clips = [(index, f"{index}.wav") for index in range(CLIPS)]
    thread = threading.Thread(target=lambda: chunks.append(worker.embed(job, clips)), daemon=True)
    thread.start()
    thread.join(60)
    assert chunks, "the worker hangs"
    status = worker.status(Orders(budget))
    worker.close()
    if chunks[0].lost is None:
        assert sorted([index for index, _ in chunks[0].embeddings] + [one[0] for one in chunks[0].failures]) == [
            *range(CLIPS)
        ]
        assert status.done == CLIPS
        # As Triton counts: others would seem lost to a restart. A clip may be answered late, and once more.
        twice = sum(status.answered) - len(chunks[0].answers) - status.faults["malformed"]
        assert 0 <= twice <= status.faults["late"]
    return chunks[0], {name: count for name, count in status.faults.items() if count}


def test_the_request_is_that_of_tritonclient(tmp_path: Path, servers: list[tuple[Endpoint, Server]]) -> None:
    endpoint, server = servers[0]
    secret = Endpoint(endpoint.address, headers=(("authorization", "Bearer X"),))
    embed(tmp_path, [(secret, server)])
    request = server.requests[0]
    assert request.model_name == "model"
    assert [(one.name, one.datatype, list(one.shape)) for one in request.inputs] == [
        ("waveform", "FP32", [1, 16000]),
        ("num_samples", "INT64", [1, 1]),
    ]
    audio, length = request.raw_input_contents
    np.testing.assert_allclose(np.frombuffer(audio, np.float32), [0.1] * 1600 + [0] * 14400, atol=1e-4)
    assert np.frombuffer(length, np.int64).tolist() == [1600]
    assert server.headers[0]["authorization"] == "Bearer X"
    assert "Bearer" not in repr(secret)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
def test_a_certificate_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balancer, "NO_SERVER_S", 1.0)
    for name in ("right", "wrong"):
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
                *("-nodes", "-subj", "/CN=localhost", "-days", "1"),
                *("-addext", "subjectAltName=DNS:localhost", "-keyout", f"{name}.key", "-out", f"{name}.pem"),
            ],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )
    servicer = Server()
    running = grpc.server(futures.ThreadPoolExecutor(8))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, running)
    pair = ((tmp_path / "right.key").read_bytes(), (tmp_path / "right.pem").read_bytes())
    port = running.add_secure_port("localhost:0", grpc.ssl_server_credentials([pair]))
    running.start()
    right = Endpoint(f"localhost:{port}", tls=True, certificates=pair[1])
    chunk, _ = embed(tmp_path, [(right, servicer)])
    assert chunk.failures == []
    assert chunk.lost is None
    for wrong in (replace(right, certificates=(tmp_path / "wrong.pem").read_bytes()), replace(right, tls=False)):
        chunk, _ = embed(tmp_path, [(wrong, servicer)])
        assert chunk.lost is not None
        assert chunk.answers == []
    running.stop(None)


@pytest.mark.parametrize(
    ("spoilt", "reason", "fault"),
    [
        (lambda _context: answer(b""), "the server's answer cannot be read: ", "malformed"),
        (lambda _context: answer(bytes(7)), "the server's answer cannot be read: ", "malformed"),
        (lambda _context: answer(bytes(8), (1, 2)), "FP32 [1, 2] for embedding, not FP32 [1, 4]", "malformed"),
        (lambda _context: service_pb2.ModelInferResponse(), "nothing for embedding, not FP32 [1, 4]", "malformed"),
        (lambda _context: answer(np.full(SIZE, np.nan, np.float32).tobytes()), "holds NaN or infinity", "malformed"),
        (abort(grpc.StatusCode.INVALID_ARGUMENT, "no such input"), "no such input", "refused"),
        (abort(grpc.StatusCode.INVALID_ARGUMENT, " \n"), "INVALID_ARGUMENT", "refused"),
        (abort(grpc.StatusCode.INTERNAL, 5000 * "x"), 500 * "x" + "…", "refused"),
    ],
)
def test_a_spoilt_answer_fails_its_clip_alone(
    tmp_path: Path, servers: list[tuple[Endpoint, Server]], spoilt: Answer, reason: str, fault: str
) -> None:
    servers[0][1].answers = [good, spoilt]
    chunk, faults = embed(tmp_path, servers[:1])
    ((index, stage, words),) = chunk.failures
    assert (index, stage) == (1, "infer")
    assert reason in words
    assert faults == {fault: 1}
    assert len(servers[0][1].requests) == CLIPS


def test_what_one_server_refuses_another_is_asked_for(tmp_path: Path, servers: list[tuple[Endpoint, Server]]) -> None:
    servers[0][1].then = abort(grpc.StatusCode.INTERNAL, "out of memory")
    chunk, faults = embed(tmp_path, servers, budget=2)
    assert chunk.failures == []
    assert {one.server for one in chunk.answers} == {1}
    assert faults["refused"] == faults["retries"] == len(servers[0][1].requests) > 0


def test_a_server_that_refuses_and_is_not_ready_is_left(
    tmp_path: Path, servers: list[tuple[Endpoint, Server]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its model was unloaded, say: one clip after the other would fail in no time."""
    monkeypatch.setattr(balancer, "NO_SERVER_S", 1.0)
    monkeypatch.setattr(balancer, "_REFUSALS", 2)
    servers[0][1].ready, servers[0][1].then = False, abort(grpc.StatusCode.NOT_FOUND, "unknown model")
    chunk, _ = embed(tmp_path, servers[:1])
    assert chunk.lost is not None
    assert len(chunk.failures) < CLIPS


def test_a_full_queue_is_tried_again_and_drops_no_server(
    tmp_path: Path, servers: list[tuple[Endpoint, Server]]
) -> None:
    full = abort(grpc.StatusCode.UNAVAILABLE, "[request id: 7] Exceeds maximum queue size")
    servers[0][1].answers = [full] * (3 * CLIPS)
    chunk, faults = embed(tmp_path, servers[:1])
    assert faults == {"queue_full": 3 * CLIPS, "retries": 3 * CLIPS}
    assert chunk.failures == []
    # One of them at least was refused three times; the pauses are of 25, 50 and 100 ms at least.
    assert max(one.latency_ms for one in chunk.answers) > 150, "the latency counts from the last try"


def test_a_queue_that_stays_full_fails_the_clip(
    tmp_path: Path, servers: list[tuple[Endpoint, Server]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "MOST_REFUSALS", 3)
    servers[0][1].then = abort(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")
    chunk, faults = embed(tmp_path, servers[:1])
    assert [reason for *_, reason in chunk.failures] == ["Exceeds maximum queue size (tried 3 times)"] * CLIPS
    assert faults == {"queue_full": 15, "retries": 10}


def test_a_server_that_stops_is_left_to_the_other(tmp_path: Path, servers: list[tuple[Endpoint, Server]]) -> None:
    dying = servers[0][1]
    dying.ready, dying.then = False, abort(grpc.StatusCode.UNAVAILABLE, "Server is stopping")
    chunk, faults = embed(tmp_path, servers, budget=2)
    assert chunk.failures == []
    assert {one.server for one in chunk.answers} == {1}
    assert faults["stopping"] == faults["retries"] == len(dying.requests) > 0


def test_a_server_that_is_ready_again_is_taken_back(tmp_path: Path, servers: list[tuple[Endpoint, Server]]) -> None:
    servers[0][1].answers = [good, abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")]
    chunk, faults = embed(tmp_path, servers[:1])
    assert chunk.failures == []
    assert faults == {"cut_off": 1, "retries": 1}


@pytest.mark.slow
def test_what_every_try_kills_is_given_up(tmp_path: Path, servers: list[tuple[Endpoint, Server]]) -> None:
    servers[0][1].then = abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")  # ready all the while
    chunk, faults = embed(tmp_path, servers[:1])
    assert [reason for *_, reason in chunk.failures] == [f"Socket closed (tried {sender.MOST_ATTEMPTS} times)"] * CLIPS
    assert faults == {"cut_off": sender.MOST_ATTEMPTS * CLIPS, "retries": (sender.MOST_ATTEMPTS - 1) * CLIPS}


def test_the_loss_of_all_servers_ends_the_chunk(
    tmp_path: Path, servers: list[tuple[Endpoint, Server]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balancer, "NO_SERVER_S", 1.0)
    dying = servers[0][1]
    dying.answers = [good]
    dying.ready, dying.then = False, abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
    chunk, _ = embed(tmp_path, servers[:1])
    assert chunk.lost == f"no server for 1 s ({servers[0][0].address}: Socket closed)"
    assert [index for index, _ in chunk.embeddings] == [0]
    assert chunk.failures == []


@pytest.mark.parametrize("answers_late", [True, False])
def test_a_try_that_takes_too_long_is_made_again(
    tmp_path: Path, servers: list[tuple[Endpoint, Server]], monkeypatch: pytest.MonkeyPatch, answers_late: bool
) -> None:
    monkeypatch.setattr("random.random", lambda: 0.0)  # the first of equal servers first
    monkeypatch.setattr(sender, "FIRST_TIMEOUT_S", 1.0)
    monkeypatch.setattr(sender, "LEAST_TIMEOUT_S", 1.0)
    released = threading.Event()

    def slow(context: Any) -> Any:
        released.wait(1.5 if answers_late else 30)
        return good(context)

    servers[0][1].answers = [slow]
    if answers_late:  # no place at the other server before the first one answers
        servers[1][1].then = slow
    chunk, faults = embed(tmp_path, servers, budget=2)
    released.set()
    assert chunk.failures == []
    assert len({index for index, _ in chunk.embeddings}) == CLIPS
    assert faults["timed_out"] >= 1
    assert faults["late" if answers_late else "retries"] >= 1


def test_an_answer_that_comes_while_a_place_is_awaited_ends_the_clip(
    tmp_path: Path, servers: list[tuple[Endpoint, Server]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "FIRST_TIMEOUT_S", 1.0)
    monkeypatch.setattr(sender, "LEAST_TIMEOUT_S", 1.0)
    acquire, give_back, take = balancer.Balancer.acquire, BufferPool.give_back, sender.Sender._answered
    returned: list[Buffer] = []
    awaited, arrived = threading.Event(), threading.Event()

    def after_the_answer(self: balancer.Balancer, timeout_s: float, avoid: balancer.Connection | None) -> Any:
        connection = acquire(self, timeout_s, avoid)
        if connection is not None and avoid is not None:
            awaited.set()
            assert arrived.wait(30)
        return connection

    def taken(self: sender.Sender, attempt: Any, call: Any) -> None:
        take(self, attempt, call)
        if attempt.given_up:
            arrived.set()

    def noted(self: BufferPool, buffer: Buffer) -> None:
        give_back(self, buffer)
        returned.append(buffer)

    def slow(context: Any) -> Any:
        awaited.wait(30)
        return good(context)

    monkeypatch.setattr(balancer.Balancer, "acquire", after_the_answer)
    monkeypatch.setattr(BufferPool, "give_back", noted)
    monkeypatch.setattr(sender.Sender, "_answered", taken)
    servers[0][1].answers = [slow]
    chunk, faults = embed(tmp_path, servers[:1], budget=2)
    assert chunk.failures == []
    assert faults == {"timed_out": 1, "late": 1}
    assert len(servers[0][1].requests) == CLIPS, "a clip that was done was sent again"
    assert len(returned) == CLIPS, "two clips would share a buffer that was given back twice"


def test_the_first_window_of_a_pass_begins_with_it(tmp_path: Path, servers: list[tuple[Endpoint, Server]]) -> None:
    soundfile.write(tmp_path / "clip.wav", np.full(1600, 0.1), 16000)
    worker, handle = Worker([servers[0][0]], 1), WorkerHandle(None, "here")
    for _ in range(2):  # neither what the clock showed before the first pass counts, nor the pause before the second
        time.sleep(0.3)
        began = time.monotonic()
        handle.last = worker.status(Orders(1))
        handle.begin()
        before = [Progress(handle.done, handle.last_done)]
        worker.embed(Job("model", tmp_path, 16000, 1, SIZE, 0, 1), [(index, "clip.wav") for index in range(CLIPS)])
        handle.last = worker.status(Orders(1))
        after = [Progress(handle.done, handle.last_done)]
        assert done_between(before, after) == CLIPS
        assert 0 < seconds_between(before, after) <= time.monotonic() - began
    worker.close()


def test_stop_brings_what_is_there(tmp_path: Path, servers: list[tuple[Endpoint, Server]]) -> None:
    released = threading.Event()

    def hang(context: Any) -> Any:
        released.wait(30)
        return good(context)

    for index in range(CLIPS):
        soundfile.write(tmp_path / f"{index}.wav", np.full(1600, 0.1), 16000)
    server = servers[0][1]
    server.answers = [good]
    server.then = hang
    worker = Worker([servers[0][0]], 1)
    chunks: list[Chunk] = []
    clips = [(index, f"{index}.wav") for index in range(CLIPS)]
    job = Job("model", tmp_path, 16000, 1, SIZE, 0, 1)
    thread = threading.Thread(target=lambda: chunks.append(worker.embed(job, clips)), daemon=True)
    thread.start()
    until(lambda: len(server.requests) >= 2)
    worker.stop()
    thread.join(10)
    released.set()
    worker.close()
    assert [index for index, _ in chunks[0].embeddings] == [0]
