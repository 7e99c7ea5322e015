"""What may go wrong during `arch bench`, made to happen with a real Triton.

Each scenario ends with the same questions: is every clip either in the store, once, or in the list of failures; and do
the scores equal those of a run that nothing disturbed?
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from arch_harness.results.run import Result
from onnx import TensorProto, helper, numpy_helper
from support.commands import marked
from support.fault_scene import (
    DEADLINE_S,
    Scene,
    answered,
    check,
    faults,
    kill,
    serving,
    stored,
)
from support.waiting import until


def server_restarted(scene: Scene) -> Result:
    """The only server is killed and comes back."""
    with serving(scene) as server:
        running = scene.start("--server", server.grpc_url)
        until(answered(server, 60), running)
        port = kill(server)
        with serving(scene, port=port):
            scene.end(running)
    result = check(scene)
    found = faults(result)
    assert result.measurement is not None
    assert found.unreachable + found.cut_off > 0, f"it noticed nothing: {found}"
    assert found.retries > 0, f"it tried nothing again: {found}"
    assert result.measurement.servers[0].dropped > 0, "the server was not dropped"
    assert result.measurement.server is None, "the counters of a restarted server were taken for whole"
    return result


def one_of_two_killed(scene: Scene) -> Result:
    """One of two servers is killed; the other does the rest."""
    with serving(scene) as first, serving(scene) as second:
        running = scene.start("--server", first.grpc_url, "--server", second.grpc_url)
        until(answered(first, 60), running)
        kill(first)
        scene.end(running)
    result = check(scene)
    assert result.measurement is not None
    shares = result.measurement.servers
    assert [share.dropped for share in shares] == [1, 0], f"dropped: {shares}"
    assert 0 < shares[0].clips < shares[1].clips, f"clips: {shares}"
    return result


def worker_killed(scene: Scene) -> Result:
    """A worker process is killed; another does its clips again."""
    with serving(scene) as server:
        running = scene.start("--server", server.grpc_url, "--workers", "2")
        until(answered(server, 60), running)
        scene.processes("ray::Worker")[0].kill()
        scene.end(running)
    result = check(scene)
    assert faults(result).workers_lost == 1, f"counted: {faults(result)}"
    return result


def driver_killed(scene: Scene) -> Result:
    """The command itself is killed, and given again."""
    with serving(scene) as server:
        running = scene.start("--server", server.grpc_url)
        until(answered(server, 250), running)
        running.kill()
        running.communicate()
        until(lambda: not scene.processes(), pause_s=0.1)
        before = stored(scene.cache)
        scene.run("--server", server.grpc_url)
    result = check(scene)
    after = stored(scene.cache)
    assert all(np.array_equal(after[path], row) for path, row in before.items()), "stored embeddings changed"
    return result


def queue_full(scene: Scene) -> Result:
    """The server queues one request at most, and 64 are in flight."""
    repository = scene.folder / "repository"
    shutil.copytree(scene.repository, repository)
    config = repository / "logmel" / "config.pbtxt"
    policy = "dynamic_batching {\n  default_queue_policy { max_queue_size: 1 }"
    text, found = re.subn(r"dynamic_batching \{", policy, config.read_text())
    assert found == 1, f"the configuration has {found} batchers"
    config.write_text(text)
    with serving(scene, repository) as server:
        scene.run("--server", server.grpc_url, "--concurrency", "64")
    result = check(scene)
    assert faults(result).queue_full > 0, f"the queue was never full: {faults(result)}"
    return result


def corrupt_files(scene: Scene) -> Result:
    """Some files are broken, empty or missing."""
    folder = scene.folder / "data"
    shutil.copytree(scene.data, folder)
    scene.data = folder
    broken, empty, missing = scene.clips[::90][:3]
    (folder / broken).write_bytes(b"RIFF, but not a sound")
    (folder / empty).write_bytes(b"")
    (folder / missing).unlink()
    with serving(scene) as server:
        scene.run("--server", server.grpc_url, code=1)
    return check(scene, {broken: "cannot be decoded", empty: "is empty", missing: "no such file"})


def nan_for_some(scene: Scene) -> Result:
    """The model answers NaN for short clips."""
    import soundfile

    lengths = {clip: soundfile.info(scene.data / clip).frames for clip in scene.clips}
    rate = soundfile.info(scene.data / scene.clips[0]).samplerate
    threshold = int(np.percentile(list(lengths.values()), 5) * 16000 / rate)
    repository = scene.folder / "repository"
    shutil.copytree(scene.repository, repository)
    _answer_nan_below(repository / "logmel" / "1" / "model.onnx", threshold)
    with serving(scene, repository) as server:
        scene.run("--server", server.grpc_url, code=1)
    short = {clip: "NaN" for clip, frames in lengths.items() if round(frames * 16000 / rate) < threshold}
    assert bool(short), "no clip is short"
    result = check(scene, short)
    assert faults(result).malformed == len(short), f"counted: {faults(result)}"
    return result


def _answer_nan_below(path: Path, samples: int) -> None:
    """Add to the embedding 0 times the root of how much longer the clip is than so many samples."""
    model = onnx.load(path)
    graph = model.graph
    for node in graph.node:
        node.output[:] = ["finite" if name == "embedding" else name for name in node.output]
        node.input[:] = ["finite" if name == "embedding" else name for name in node.input]
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(samples, np.float32), "least"),
            numpy_helper.from_array(np.array([0], np.float32), "no"),
        ]
    )
    graph.node.extend(
        [
            helper.make_node("Cast", ["num_samples"], ["length"], to=TensorProto.FLOAT),
            helper.make_node("Sub", ["length", "least"], ["beyond"]),
            helper.make_node("Sqrt", ["beyond"], ["root"]),
            helper.make_node("Mul", ["root", "no"], ["nothing"]),
            helper.make_node("Add", ["finite", "nothing"], ["embedding"]),
        ]
    )
    onnx.save(model, path)


def disk_full(scene: Scene) -> Result:
    """The disk with the store is full, then is not."""
    scene.cache.mkdir()
    with serving(scene) as server:
        bench = scene.command("--server", server.grpc_url)
        # A file system of its own, which only this command and what it starts see.
        script = (
            'mount -t tmpfs -o size=64k tmpfs "$0" && { "$@"; echo "first: $?" >&2; } && '
            'mount -o remount,size=64M "$0" && "$@" && cp -r "$0" "$0-kept"'
        )
        # Root needs no user namespace, which cannot be had in a chroot.
        become_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        done = subprocess.run(
            ["unshare", *become_root, "--mount", "sh", "-c", script, str(scene.cache), *bench],
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * DEADLINE_S,
            env=marked(str(scene.folder)),
        )
    if "first: 1\n" not in done.stderr or done.returncode or "Traceback" in done.stderr:
        raise AssertionError(f"exit code {done.returncode}: {done.stderr[-1500:]}")
    shutil.copytree(f"{scene.cache}-kept", scene.cache, dirs_exist_ok=True)
    shutil.rmtree(f"{scene.cache}-kept")
    return check(scene)


def undisturbed(scene: Scene) -> Result:
    """Nothing happens: what the others are compared with."""
    with serving(scene) as server:
        scene.run("--server", server.grpc_url)
    return check(scene)


def stopped(scene: Scene) -> Result:
    """Ctrl-C, and the same command again."""
    with serving(scene) as server:
        running = scene.start("--server", server.grpc_url)
        until(answered(server, 100), running)
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does
        scene.end(running, code=130)
        assert not scene.processes(), f"it left {scene.processes()}"
        assert bool(stored(scene.cache)), "nothing that had arrived was stored"
        scene.run("--server", server.grpc_url)
    return check(scene)


SCENARIOS: dict[str, Callable[[Scene], Result]] = {
    "server killed and restarted": server_restarted,
    "one of two servers killed": one_of_two_killed,
    "worker killed": worker_killed,
    "driver killed, run again": driver_killed,
    "interrupted, run again": stopped,
    "queue of 1, 64 in flight": queue_full,
    "corrupt files": corrupt_files,
    "NaN for some clips": nan_for_some,
    "disk full, then not": disk_full,
}
