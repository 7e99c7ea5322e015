"""`arch bench` as the fault scenarios run it, and what must be true in the end: see fault_scenarios.py."""

from __future__ import annotations

import contextlib
import csv
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import tritonclient.grpc as grpcclient
from arch_harness.datasets.registry import open_dataset
from arch_harness.probes import probe_dataset
from arch_harness.results.measurement import Faults
from arch_harness.results.run import Result, Run, read_run
from arch_serve.server import LocalServer
from support.commands import ARCH, marked, processes

COPIES = 4
DEADLINE_S = 120  # for a command's end


@dataclass
class Scene:
    """What a scenario works with.

    Attributes:
        repository: a model repository with `logmel`.
        data: a demo dataset of some hundred clips.
        folder: an empty one, for what the scenario writes.
        undisturbed: the scene of a run without faults.
    """

    repository: Path
    data: Path
    folder: Path
    undisturbed: Scene | None = None

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
            *(*ARCH, "bench", "--model", "logmel", "--seeds", "1"),
            *("--dataset", f"demo={self.data}", "--cache", str(self.cache), "--output", str(self.output), *options),
        ]

    def processes(self, name: str = "") -> list[psutil.Process]:
        """Processes that the command started and that still run, whose name begins so."""
        return processes(str(self.folder), name)

    def start(self, *options: str) -> subprocess.Popen[str]:
        """Start the command."""
        return subprocess.Popen(
            self.command(*options),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=marked(str(self.folder)),
            start_new_session=True,
        )

    def end(self, running: subprocess.Popen[str], code: int = 0) -> str:
        """Wait for the command's end, which must be this; what it said."""
        _, errors = running.communicate(timeout=DEADLINE_S)
        if running.returncode != code or "Traceback" in errors:
            raise AssertionError(f"exit code {running.returncode}, not {code}: {errors[-1500:]}")
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
                raise AssertionError(f"{name} is stored twice")
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
        raise AssertionError(f"failed: {failed}, not {failing}")
    for clip, reason in failing.items():
        if reason not in failed[clip]:
            raise AssertionError(f"{clip} failed by {failed[clip]!r}, not {reason!r}")
    if set(rows) | set(failed) != set(scene.clips) or set(rows) & set(failed):
        raise AssertionError(f"{len(rows)} stored and {len(failed)} failed of {len(scene.clips)}")
    if scene.processes():
        raise AssertionError(f"it left {scene.processes()}")
    if scene.undisturbed is not None:
        expected = score_without(scene.undisturbed, failing) if failing else scene.undisturbed.result().score
        if result.score != expected:
            raise AssertionError(f"the score is {result.score}, not {expected}")
    return result


def faults(result: Result) -> Faults:
    """What the pass counted."""
    assert result.measurement is not None
    return result.measurement.faults
