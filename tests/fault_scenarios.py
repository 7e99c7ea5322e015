"""What may go wrong during `arch bench`, made to happen with a real Triton: for the tests and for benchmarks/faults.py.

Each scenario ends with the same questions: is every clip either in the store, once, or in the list of failures; and do
the scores equal those of a run that nothing disturbed?
"""

from __future__ import annotations

import contextlib
import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import psutil
import pyarrow.parquet as pq
import tritonclient.grpc as grpcclient
from arch_harness.datasets.registry import open_dataset
from arch_harness.measurement import Faults
from arch_harness.probes import probe_dataset
from arch_harness.results import Result, Run, read_run
from arch_serve.server import LocalServer
from onnx import TensorProto, helper, numpy_helper

COPIES = 4
_DEADLINE_S = 120


class WrongError(Exception):
    """A scenario did not end as it must."""


@dataclass
class Scene:
    """What a scenario works with.

    Attributes:
        repository: a model repository with `logmel`.
        data: a demo dataset of some hundred clips.
        folder: an empty one, for what the scenario writes.
        undisturbed: the scene of a run without faults.
        notes: what is worth telling of it.
    """

    repository: Path
    data: Path
    folder: Path
    undisturbed: Scene | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def cache(self) -> Path:
        """The store of embeddings."""
        return self.folder / "cache"

    @property
    def output(self) -> Path:
        """The report."""
        return self.folder / "out"

    @property
    def clips(self) -> list[str]:
        """The dataset's clips, relative to it."""
        with (self.data / "meta" / "esc50.csv").open() as file:
            return [f"audio/{row['filename']}" for row in csv.DictReader(file)]

    def command(self, *options: str) -> list[str]:
        """`arch bench` of `logmel` on the data."""
        return [
            *(sys.executable, "-m", "arch_harness", "bench", "--model", "logmel", "--seeds", "1"),
            *("--dataset", f"demo={self.data}", "--cache", str(self.cache), "--output", str(self.output), *options),
        ]

    @property
    def environment(self) -> dict[str, str]:
        """Marks every process that the command starts."""
        return os.environ | {"ARCH_TEST_MARK": str(self.folder)}

    def processes(self, name: str = "") -> list[psutil.Process]:
        """Processes that the command started and that still run, whose name begins so."""
        found = []
        for process in psutil.process_iter(["name"]):
            with contextlib.suppress(psutil.Error):
                marked = process.environ().get("ARCH_TEST_MARK") == str(self.folder)
                if marked and process.info["name"].startswith(name) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def start(self, *options: str) -> subprocess.Popen[str]:
        """Start the command."""
        return subprocess.Popen(
            self.command(*options),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
            start_new_session=True,
        )

    def end(self, running: subprocess.Popen[str], code: int = 0) -> str:
        """Wait for the command's end, which must be this; what it said."""
        _, errors = running.communicate(timeout=_DEADLINE_S)
        if running.returncode != code or "Traceback" in errors:
            raise WrongError(f"exit code {running.returncode}, not {code}: {errors[-1500:]}")
        return errors

    def run(self, *options: str, code: int = 0) -> str:
        """Run the command to its end, which must be this; what it said."""
        return self.end(self.start(*options), code)

    def result(self) -> Result:
        """The only result."""
        run: Run = read_run(self.output / "results.json")
        (result,) = run.results
        return result


def prepare(folder: Path, demo: Path) -> Path:
    """The demo dataset with each clip several times, under names of its own."""
    (folder / "audio").mkdir(parents=True)
    (folder / "meta").mkdir()
    with (demo / "meta" / "esc50.csv").open() as file:
        header, *rows = list(csv.reader(file))
    position = header.index("filename")
    with (folder / "meta" / "esc50.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(header)
        for row in rows:
            stem, end = row[position].rsplit(".", 1)
            for copy in range(COPIES):
                name = f"{stem}-{copy}.{end}"
                shutil.copy(demo / "audio" / row[position], folder / "audio" / name)
                table.writerow([*row[:position], name, *row[position + 1 :]])
    return folder


@contextlib.contextmanager
def serving(scene: Scene, repository: Path | None = None, port: int = 0) -> Iterator[LocalServer]:
    """A server, whatever became of it meanwhile."""
    server = LocalServer(repository or scene.repository, ["logmel"], grpc_port=port, http_port=0, metrics_port=0)
    with server:
        yield server


def kill(server: LocalServer) -> int:
    """Kill a server as a crash would, and give the port that it had."""
    process = server._process
    assert process is not None
    process.kill()
    process.wait()
    server.stop()
    return int(server.grpc_url.rsplit(":", 1)[1])


def until(met: Callable[[], bool], running: subprocess.Popen[str]) -> None:
    """Wait for something to happen while the command runs."""
    deadline = time.monotonic() + _DEADLINE_S
    while not met():
        if running.poll() is not None:
            raise WrongError(f"it ended too early: {running.communicate()[1][-1500:]}")
        if time.monotonic() > deadline:
            running.kill()
            raise WrongError("it did not happen")
        time.sleep(0.01)


def answered(server: LocalServer, clips: int) -> Callable[[], bool]:
    """Whether a server has computed so many."""
    client = grpcclient.InferenceServerClient(server.grpc_url)
    before = client.get_inference_statistics("logmel").model_stats[0].inference_count
    return lambda: client.get_inference_statistics("logmel").model_stats[0].inference_count - before >= clips


def stored(cache: Path) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    """Path -> embedding of all that is stored; a clip that is there twice is an error."""
    rows: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = {}
    for path in cache.rglob("*.parquet"):
        table = pq.read_table(path)
        values = table["embedding"].to_pylist()
        for name, embedding in zip(table["path"].to_pylist(), values, strict=True):
            if name in rows:
                raise WrongError(f"{name} is stored twice")
            rows[name] = np.array(embedding, dtype=np.float32)
    return rows


def score_without(scene: Scene, failing: dict[str, str]) -> float:
    """The score of an undisturbed run's embeddings, some clips left out."""
    dataset = open_dataset(f"demo={scene.data}", scene.data.parent)
    rows = stored(scene.cache)
    embeddings = np.array([rows[clip.path] for clip in dataset.clips])
    succeeded = np.array([clip.path not in failing for clip in dataset.clips])
    settings = read_run(scene.output / "results.json").settings
    return probe_dataset("linear", dataset, embeddings, succeeded, settings).score.score


def check(scene: Scene, failing: dict[str, str] | None = None) -> Result:
    """Every clip is stored or failed, as it should; and the score is what an undisturbed run gives the stored ones."""
    failing = failing or {}
    result = scene.result()
    rows = stored(scene.cache)
    failed = {failure.clip: failure.reason for failure in result.failures}
    if set(failed) != set(failing):
        raise WrongError(f"failed: {failed}, not {failing}")
    for clip, reason in failing.items():
        if reason not in failed[clip]:
            raise WrongError(f"{clip} failed by {failed[clip]!r}, not {reason!r}")
    if set(rows) | set(failed) != set(scene.clips) or set(rows) & set(failed):
        raise WrongError(f"{len(rows)} stored and {len(failed)} failed of {len(scene.clips)}")
    if scene.processes():
        raise WrongError(f"it left {scene.processes()}")
    if scene.undisturbed is not None:
        expected = score_without(scene.undisturbed, failing) if failing else scene.undisturbed.result().score
        if result.score != expected:
            raise WrongError(f"the score is {result.score}, not {expected}")
    return result


def faults(result: Result) -> Faults:
    """What the pass counted."""
    assert result.measurement is not None
    return result.measurement.faults


def expect(condition: bool, words: str) -> None:
    """Say what is not as it must be."""
    if not condition:
        raise WrongError(words)


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
    expect(found.unreachable + found.cut_off > 0 and found.retries > 0, f"it noticed nothing: {found}")
    expect(result.measurement.servers[0].dropped > 0, "the server was not dropped")
    expect(result.measurement.server is None, "the counters of a restarted server were taken for whole")
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
    expect(shares[0].dropped == 1 and shares[1].dropped == 0, f"dropped: {shares}")
    expect(shares[0].clips > 0 and shares[1].clips > shares[0].clips, f"clips: {shares}")
    return result


def worker_killed(scene: Scene) -> Result:
    """A worker process is killed; another does its clips again."""
    with serving(scene) as server:
        running = scene.start("--server", server.grpc_url, "--workers", "2")
        until(answered(server, 60), running)
        scene.processes("ray::Worker")[0].kill()
        scene.end(running)
    result = check(scene)
    expect(faults(result).workers_lost == 1, f"counted: {faults(result)}")
    return result


def driver_killed(scene: Scene) -> Result:
    """The command itself is killed, and given again."""
    with serving(scene) as server:
        running = scene.start("--server", server.grpc_url)
        until(answered(server, 250), running)
        running.kill()
        running.communicate()
        deadline = time.monotonic() + _DEADLINE_S
        while scene.processes() and time.monotonic() < deadline:
            time.sleep(0.1)
        expect(not scene.processes(), f"it left {scene.processes()}")
        before = stored(scene.cache)
        scene.run("--server", server.grpc_url)
    result = check(scene)
    after = stored(scene.cache)
    expect(all(np.array_equal(after[path], row) for path, row in before.items()), "stored embeddings changed")
    scene.notes.append(f"{len(before)} kept")
    return result


def queue_full(scene: Scene) -> Result:
    """The server queues one request at most, and 64 are in flight."""
    repository = scene.folder / "repository"
    shutil.copytree(scene.repository, repository)
    config = repository / "logmel" / "config.pbtxt"
    text, found = re.subn(r"max_queue_size: \d+", "max_queue_size: 1", config.read_text())
    expect(found == 1, f"the configuration has {found} queue limits")
    config.write_text(text)
    with serving(scene, repository) as server:
        scene.run("--server", server.grpc_url, "--concurrency", "64")
    result = check(scene)
    expect(faults(result).queue_full > 0, f"the queue was never full: {faults(result)}")
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
    expect(bool(short), "no clip is short")
    result = check(scene, short)
    expect(faults(result).malformed == len(short), f"counted: {faults(result)}")
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
        done = subprocess.run(
            ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, str(scene.cache), *bench],
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * _DEADLINE_S,
            env=scene.environment,
        )
    if "first: 1\n" not in done.stderr or done.returncode or "Traceback" in done.stderr:
        raise WrongError(f"exit code {done.returncode}: {done.stderr[-1500:]}")
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
        expect(not scene.processes(), f"it left {scene.processes()}")
        scene.notes.append(f"{len(stored(scene.cache))} kept")
        expect(bool(stored(scene.cache)), "nothing that had arrived was stored")
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
