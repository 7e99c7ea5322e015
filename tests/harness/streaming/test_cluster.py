"""A Ray cluster of several nodes: what each must have, what it is sent, and that a node that is lost costs no clip."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import ray
from arch_common.errors import UsageError
from arch_harness.measuring.chunk import Chunk
from arch_harness.results.run import Result, read_run
from arch_harness.streaming.actors import WorkerHandle
from arch_harness.streaming.cluster import reach
from arch_harness.streaming.cluster.files import FilePlaces, look_at, read_files, unpacked
from arch_harness.streaming.cluster.nodes import Node, place_of_this_process
from arch_harness.streaming.loads.phases import unmeasured_plan
from arch_harness.streaming.pass_state import PassState, PendingChunk
from arch_harness.streaming.pool import WorkerPool
from arch_harness.streaming.wire import Job
from arch_harness.streaming.worker import Worker
from arch_harness.triton.endpoint import Endpoint
from arch_serve.server import LocalServer
from numpy.typing import NDArray
from ray._private.authentication_test_utils import reset_auth_token_state
from support.commands import ARCH, marked, one_line, processes
from support.fault_scene import Scene, prepare, stored
from support.machines import (
    FAR,
    GRPC_PORT,
    NEAR,
    RAY_PORT,
    RAY_SETTINGS,
    Machines,
    head,
    joined,
    joining,
    may_make_machines,
    two_machines,
    until_it_says,
)
from support.waiting import until

pytestmark = [pytest.mark.torch, pytest.mark.ray, pytest.mark.triton, pytest.mark.slow]


@pytest.fixture(scope="module")
def job(demo_dataset: Path) -> Job:
    return Job("logmel", demo_dataset / "audio", 16000, 5, 160, 0, 8)


@pytest.fixture(scope="module")
def clips(job: Job) -> list[tuple[int, str]]:
    return [(index, path.name) for index, path in enumerate(sorted(job.folder.iterdir()))]


@dataclass(frozen=True)
class Running:
    """A node's process, and what it has said."""

    pid: int
    said: str


@contextmanager
def node(command: list[str], words: str = "Ray runtime started", **changes: str) -> Iterator[Running]:
    """A node of a cluster as long as the block lasts, and nothing of it afterwards."""
    mark = f"{os.getpid()}-{command[-1]}"
    environment = marked(mark) | RAY_SETTINGS | changes
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as running:
        try:
            yield Running(running.pid, until_it_says(running, words))
        finally:
            running.terminate()
            running.communicate(timeout=60)
            for one in processes(mark):
                one.kill()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a cluster with one node, which has one core."""
    with pytest.MonkeyPatch.context() as patch:
        # A session that this process had before has a token, which Ray keeps, and with which nodes without one fail.
        patch.setenv("RAY_AUTH_MODE", "disabled")
        reset_auth_token_state()
        with node(head("--num-cpus=1", "--port=0"), "--address='") as first:
            yield first.said.split("--address='")[1].split("'")[0]
    reset_auth_token_state()


def cut_off(running: Running) -> None:
    """End a node as a loss of power would: all its processes at once, without a word."""
    its = psutil.Process(running.pid)
    for one in [*its.children(recursive=True), its]:
        one.kill()


def test_a_node_that_is_lost_costs_no_clip(
    server: LocalServer, job: Job, clips: list[tuple[int, str]], address: str
) -> None:
    expected: dict[int, NDArray[np.float32]] = {}
    found: dict[int, NDArray[np.float32]] = {}
    notes: list[str] = []
    with (
        node(joining(address, "--num-cpus=1")) as second,
        WorkerPool([Endpoint(server.grpc_url)], 2, 4, address, note=notes.append) as pool,
    ):

        def take(chunk: Chunk) -> None:
            if not found:
                cut_off(second)
            assert not found.keys() & dict(chunk.embeddings).keys(), "a clip was handed on twice"
            found.update((index, row.copy()) for index, row in chunk.embeddings)

        both = pool.embed(job, clips, lambda chunk: expected.update(chunk.embeddings), measured=False).measurement
        first = pool.embed(job, clips, take).measurement
        # Nobody waits for a worker for which there is no core any more, in this pass or the next.
        again = pool.embed(job, clips, lambda _: None, measured=False).measurement

    assert [one.workers for one in both.nodes] == [1, 1]
    assert not any(one.lost for one in both.nodes)
    assert sorted(found) == [index for index, _ in clips]
    for index, row in found.items():
        np.testing.assert_allclose(row, expected[index], rtol=1e-5, atol=1e-5)
    assert first.faults.workers_lost == 1
    kept, lost = sorted(first.nodes, key=lambda one: one.lost)
    assert (kept.lost, kept.workers, kept.workers_lost, kept.cores) == (False, 1, 0, 1)
    assert (lost.lost, lost.workers, lost.workers_lost, lost.cores) == (True, 1, 1, 1)
    assert kept.clips + lost.clips == len(clips)
    assert notes == [f"warning: node {lost.name} ({lost.address}) is lost; what its worker had is sent again"]
    assert again.clips == len(clips)
    assert again.faults.workers_lost == 0


def test_no_clip_is_blamed_for_the_loss_of_a_node(job: Job) -> None:
    state = PassState(job, unmeasured_plan(1, 4, None), 4, None, 1, iter([]))
    handle, chunk = WorkerHandle(None, "here"), PendingChunk([(0, "a.wav"), (1, "b.wav")])
    for _ in range(6):  # more often than a clip may be there when a worker dies
        state.running["a call"] = (handle, state.waiting.pop() if state.waiting else chunk)
        state.take_back(handle, with_node=True)
        assert state.waiting == [chunk]
    assert state.collector.failures == []


def test_a_node_with_other_versions_is_refused_before_any_work(
    server: LocalServer, address: str, tmp_path: Path
) -> None:
    (tmp_path / "soxr-9.9.9.dist-info").mkdir()
    (tmp_path / "soxr-9.9.9.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: soxr\nVersion: 9.9.9\n")
    found = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    command = joining(address, "--num-cpus=2")
    with (
        node(command, PYTHONPATH=found),
        pytest.raises(UsageError, match=r"node \S+ \(\S+\) of .* has soxr 9\.9\.9, and here is soxr \d.* the same"),
        WorkerPool([Endpoint(server.grpc_url)], 1, None, address),
    ):
        pass


def test_a_cluster_of_another_ray_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The words are Ray's own; only what it takes itself for is made up.
    monkeypatch.setattr("ray._private.utils.compute_version_info", lambda: ("2.0.0", "3.10.1"))
    with (
        pytest.raises(
            UsageError, match=rf"at {address} runs Ray {ray.__version__} and Python 3\.1.* are Ray 2\.0\.0 and"
        ),
        WorkerPool([Endpoint("127.0.0.1:8001")], 1, None, address),
    ):
        pass
    with (
        pytest.raises(UsageError, match="is for Ray's client: give HOST:PORT"),
        WorkerPool([Endpoint("127.0.0.1:8001")], 1, None, "ray://127.0.0.1:10001"),
    ):
        pass


def test_a_worker_reaches_what_it_can_reach(server: LocalServer) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        dead = f"127.0.0.1:{unheard.getsockname()[1]}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reach, "_REACH_S", 1.0)
            one = Worker([Endpoint(server.grpc_url), Endpoint(dead)], 1)
            assert one.unreached() == [dead]
            one.close()


def test_files_are_told_apart_and_sent(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    names = [f"sub/{number}.wav" for number in range(40)]
    for folder in (here, there):
        (folder / "sub").mkdir(parents=True)
        for number, name in enumerate(names):
            (folder / name).write_bytes(bytes([number]) * 10)
    notes: list[str] = []
    places = FilePlaces(notes.append)

    def lacks(node_id: str) -> bool:
        places.begin(here, names)
        places.check(Node(node_id, "far", "198.51.100.9", 1, 1), lambda _, paths: look_at(there, paths))
        return places.lacks(node_id)

    assert not lacks("same")
    (there / names[0]).write_bytes(b"x" * 10)  # of the same size: the first is one of those that are read
    assert lacks("content")
    (there / names[7]).unlink()
    assert lacks("missing")
    assert lacks("missing"), "it is said once"
    assert notes == [
        f"node far (198.51.100.9) has another {here / names[0]}: the files of its clips are sent to it from here",
        f"node far (198.51.100.9) has no {here / names[7]}: the files of its clips are sent to it from here",
    ]

    files = read_files(here, [names[3], "sub/none.wav", "sub"])
    assert files == {names[3]: bytes([3]) * 10, "sub/none.wav": "no such file", "sub": "is not a file"}
    with unpacked([(8, "sub"), (9, names[3])], files) as (folder, copies):
        assert [index for index, _ in copies] == [9]
        assert (folder / copies[0][1]).read_bytes() == bytes([3]) * 10
    assert not folder.exists()


def test_a_worker_that_is_sent_files_gives_what_one_that_has_them_gives(
    server: LocalServer, job: Job, clips: list[tuple[int, str]]
) -> None:
    one = Worker([Endpoint(server.grpc_url)], 2)
    paths = [*(path for _, path in clips[:3]), "none.wav"]
    asked = list(enumerate(paths))
    here = one.embed(job, asked)
    sent = one.embed(replace(job, folder=Path("/nowhere")), asked, read_files(job.folder, paths))
    one.close()
    assert sent.failures == here.failures == [(3, "decode", "no such file")]
    rows, others = dict(here.embeddings), dict(sent.embeddings)
    assert sorted(rows) == sorted(others) == [0, 1, 2]
    for index, row in rows.items():
        np.testing.assert_allclose(others[index], row, rtol=1e-5, atol=1e-5)


def test_a_place_says_who_shares_loopback() -> None:
    script = (
        "from arch_harness.streaming.cluster.nodes import place_of_this_process as place;"
        "print(place().machine, place().network, sep='|')"
    )
    ours = place_of_this_process()
    command = [*("unshare", "--net", "--map-root-user"), ARCH[0], "-c", script]
    tried = subprocess.run([*command[:3], "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no network namespace can be made here: {tried.stderr.strip()[-200:]}")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    machine, network = done.stdout.strip().split("|")
    assert machine == ours.machine, "the same processes"
    assert network != ours.network, "another loopback"


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[Machines]:
    folder = Path(tempfile.mkdtemp(prefix="ar"))
    mark = f"machines-{os.getpid()}"
    try:
        with two_machines(mark, folder, repository) as both:
            yield both
    finally:
        for one in processes(mark):
            one.kill()
        shutil.rmtree(folder, ignore_errors=True)


def clustered(machines: Machines, scene: Scene, *options: str) -> subprocess.Popen[str]:
    """`arch bench` on the near machine, with three workers on the cluster."""
    return machines.start(scene.command("--workers", "3", *options), {"RAY_ADDRESS": f"{NEAR}:{RAY_PORT}"})


@may_make_machines()
def test_machines_with_addresses_of_their_own(
    tmp_path: Path, demo_dataset: Path, repository: Path, machines: Machines, server: LocalServer
) -> None:
    """The far one has no data and is lost in mid-run: the scores are those of one machine, and nothing is missing."""
    data = prepare(tmp_path / "data", demo_dataset)
    alone, scene = Scene(repository, data, tmp_path / "alone"), Scene(repository, data, tmp_path / "cluster")
    alone.run("--server", server.grpc_url)

    far = joined(machines, data)
    try:
        # Its loopback is another, on which nobody listens.
        running = clustered(machines, scene, "--server", f"127.0.0.1:{GRPC_PORT}")
        out, errors = running.communicate(timeout=100)
        done = subprocess.CompletedProcess([], running.returncode, out, errors)
        assert done.returncode == 2
        assert one_line(done) == (
            f"arch: workers run on node far ({FAR}) too, and --server 127.0.0.1:{GRPC_PORT} is this machine only by "
            "that name: give an address that all nodes reach"
        )

        before = machines.computed()
        running = clustered(machines, scene, "--server", f"{NEAR}:{GRPC_PORT}")
        # Of 400: enough for the far workers to have brought a chunk, of the three that each has at a time.
        until(lambda: machines.computed() - before >= 320, running, pause_s=0.05)
    finally:
        far.kill()
        far.wait()
    errors = scene.end(running)

    first = sorted(data.rglob("*.wav"))[0].parent
    assert f"node far ({FAR}) has no {first}" in " ".join(errors.split())
    assert f"warning: node far ({FAR}) is lost; what its 2 workers had is sent again" in " ".join(errors.split())
    own, its = stored(alone.cache), stored(scene.cache)
    assert its.keys() == own.keys() == set(scene.clips)
    for path, row in own.items():
        np.testing.assert_allclose(its[path], row, rtol=1e-5, atol=1e-5)
    result: Result = scene.result()
    assert result.score == alone.result().score
    assert result.failed == 0
    assert result.measurement is not None
    nodes = {one.address: one for one in result.measurement.nodes}
    assert nodes[FAR].lost
    assert nodes[FAR].files_sent
    assert nodes[FAR].workers_lost == nodes[FAR].workers == 2
    assert not nodes[NEAR].lost
    assert not nodes[NEAR].files_sent
    assert sum(one.clips for one in nodes.values()) == len(scene.clips)
    assert nodes[FAR].clips > 0
    report = (scene.output / "report.md").read_text()
    assert "lost, was sent the files" in report
    assert read_run(scene.output / "results.json").results[0].measurement == result.measurement
