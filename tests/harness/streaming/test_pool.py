"""The pool of workers with a real Triton: TLS, shared memory, a Ray cluster, and servers that are not alike."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path, PosixPath

import numpy as np
import pytest
import ray
from arch_common.errors import ArchError, UsageError
from arch_harness.streaming.buffers import FOLDER
from arch_harness.streaming.pool import Streamed, WorkerPool
from arch_harness.streaming.wire import Job
from arch_harness.triton.endpoint import Endpoint
from arch_harness.triton.server import Server, common_models
from arch_serve.server import LocalServer
from numpy.typing import NDArray
from support.metrics_site import metrics_site
from tritonclient.grpc import service_pb2, service_pb2_grpc

pytestmark = [pytest.mark.torch, pytest.mark.ray, pytest.mark.triton, pytest.mark.slow]

Embeddings = dict[int, NDArray[np.float32]]


@pytest.fixture(scope="module")
def job(demo_dataset: Path) -> Job:
    return Job("logmel", demo_dataset / "audio", 16000, 5, 160, 0, 8)


def embed(pool: WorkerPool, job: Job, times: int = 1) -> tuple[Embeddings, Streamed]:
    found: Embeddings = {}
    clips = [(index, path.name) for index, path in enumerate(times * sorted(job.folder.iterdir()))]
    streamed = pool.embed(job, clips, lambda chunk: found.update(chunk.embeddings))
    assert sorted(found) == [index for index, _ in clips]
    return found, streamed


def shared_memory(endpoint: Endpoint) -> list[str]:
    with endpoint.channel() as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        return list(stub.SystemSharedMemoryStatus(service_pb2.SystemSharedMemoryStatusRequest()).regions)


def test_shared_memory_carries_the_same_and_leaves_nothing(server: LocalServer, job: Job) -> None:
    endpoint = Endpoint(server.grpc_url)
    found = []
    for transport in ("shared-memory", "grpc"):
        with WorkerPool([endpoint], 2, 8, transport=transport) as pool:
            embeddings, streamed = embed(pool, job, 5)
            known = shared_memory(endpoint)
            assert bool(known) == (transport == "shared-memory")
        found.append(embeddings)
        assert streamed.measurement.transport == transport
        assert streamed.measurement.server is not None
        # The phase with one request in flight is not among those that the server's figures are of.
        assert 0 < streamed.measurement.server.requests < 500
        assert shared_memory(endpoint) == []
        assert [name for name in known if (FOLDER / name).exists()] == []
    for index, embedding in found[0].items():
        np.testing.assert_allclose(embedding, found[1][index], rtol=1e-4, atol=1e-4)


def test_power_is_that_of_the_measured_phase_and_idle_that_before_the_first_clip(
    server: LocalServer, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A metrics endpoint tells of a GPU that takes 100 W until there are clips, and 300 W from then on."""
    zero = time.perf_counter()
    begun: list[float] = []

    def told() -> str:
        now = time.perf_counter()
        joules = 100 * (now - zero) + sum(200 * (now - moment) for moment in begun)
        return f'nv_energy_consumption{{gpu_uuid="GPU-1a"}} {joules:.6f}\n'

    def progress(_done: int, _seconds: float, phase: str) -> None:
        if phase != "idle power" and not begun:
            begun.append(time.perf_counter())

    paths = sorted(job.folder.iterdir())
    clips = [(index, paths[index % len(paths)].name) for index in range(6 * len(paths))]
    for name, value in (
        *(("measuring.consumption.hardware._SETTLE_S", 0.2), ("measuring.consumption.hardware._IDLE_S", 1.0)),
        *(("streaming.loads.phases._ALONE_CLIPS", 20), ("streaming.loads.phases._REPEAT_S", 3.0)),
    ):
        monkeypatch.setattr(f"arch_harness.{name}", value)
    with metrics_site(told) as address, WorkerPool([Endpoint(server.grpc_url)], 1, 8) as pool:
        monkeypatch.setattr(Server, "metrics_address", lambda _: address)
        measured = pool.embed(job, clips, lambda _: None, progress).measurement
        again = pool.measure(job, clips, 8, None)
    for one in (measured, again):
        gpu = next(use for use in one.power if use.source == "GPU, by Triton")
        assert gpu.mean_w == pytest.approx(300, rel=0.05)
        assert gpu.idle_w == pytest.approx(100, rel=0.1)
        assert one.mean_power_w is not None
        assert one.idle_power_w is not None
        assert one.joules_per_clip == pytest.approx((one.mean_power_w - one.idle_power_w) / one.clips_per_s)


class Deadly(PosixPath):
    """A folder with a clip that kills who reads it, as a decoder's crash would."""

    def __truediv__(self, name: object) -> Path:  # type: ignore[override]
        if name == "1-000-A-0.wav":
            os._exit(9)
        return Path(self, str(name))


def test_a_clip_that_kills_workers_fails_alone(server: LocalServer, job: Job) -> None:
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    clips = [(7, "1-000-A-1.wav"), (3, "1-000-A-0.wav")]
    found: list[int] = []
    with WorkerPool([Endpoint(server.grpc_url)], 1, 8) as pool:
        deadly = replace(job, folder=Deadly(job.folder))
        streamed = pool.embed(deadly, clips, lambda chunk: found.extend(index for index, _ in chunk.embeddings))
    assert streamed.failures == [(3, "decode", "workers die while they read or send it")]
    assert found == [7]
    assert streamed.measurement.faults.workers_lost == 4


def test_workers_on_a_cluster(server: LocalServer, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    head = [*ray, "start", "--head", "--port=0", "--num-cpus=2", "--include-dashboard=false", "--block"]
    with subprocess.Popen(head, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        try:
            assert running.stdout is not None
            lines = iter(running.stdout.readline, "")
            address = next(line.split("'")[1] for line in lines if "--address=" in line)
            with (
                pytest.raises(UsageError, match="has 2 CPUs free"),
                WorkerPool([Endpoint(server.grpc_url)], 3, None, address),
            ):
                pass
            with WorkerPool([Endpoint(server.grpc_url)], 2, None, address) as pool:
                _, streamed = embed(pool, job)
            assert streamed.measurement.workers == 2
            assert running.poll() is None, "it ended a cluster that is not its own"
        finally:
            running.terminate()


def test_a_cluster_that_is_not_there() -> None:
    with socket.socket() as unheard:  # bound, and nobody listens
        unheard.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unheard.getsockname()[1]}"
        with (
            pytest.raises(ArchError, match=f"no Ray cluster answers at {address}: .*refused"),
            WorkerPool([Endpoint("127.0.0.1:8001")], 1, None, address),
        ):
            pass


def test_servers_with_different_models_are_refused(tmp_path: Path, server: LocalServer, repository: Path) -> None:
    shutil.copytree(repository / "logmel", tmp_path / "logmel")
    (tmp_path / "logmel" / "1" / "weights").touch()
    with (
        LocalServer(tmp_path, grpc_port=0, http_port=0, metrics_port=0) as other,
        Server(Endpoint(server.grpc_url)) as first,
        Server(Endpoint(other.grpc_url)) as second,
    ):
        assert [facts.name for facts in common_models([first, first], [])] == ["logmel", "tiny-hubert"]
        with pytest.raises(UsageError, match=r"'logmel' is not the same at .* and .*: they differ in content_hash"):
            common_models([first, second], ["logmel"])
