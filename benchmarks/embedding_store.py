"""Time and memory of the embedding store, beside `np.save` and `np.load` of the same embeddings.

100,000 clips of 1,024 dimensions by default, as HuBERT-large gives them. First what a part costs by its size, which
PART_SECONDS and PART_BYTES were chosen by; then storing, making one file of the parts, opening and reading. Memory is
what the process grew by at most in a step, the embeddings that are handed over or returned not counted.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import psutil
from arch_harness.datasets import Clip, Dataset
from arch_harness.datasets.catalog import DECLARATIONS
from arch_harness.embeddings.entry import PART_SECONDS, Entry
from arch_harness.embeddings.key import StoreKey
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

T = TypeVar("T")
DIMENSIONS = 1024
CHUNK = 16
REPEATS = 5


class Meter:
    """Seconds and peak growth of a block, in MB."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.megabytes = 0.0

    @contextmanager
    def measure(self) -> Iterator[None]:
        """Measure the block, with a look at the memory every 2 ms."""
        process, over = psutil.Process(), threading.Event()
        before = peak = process.memory_info().rss

        def watch() -> None:
            nonlocal peak
            while not over.wait(0.002):
                peak = max(peak, process.memory_info().rss)

        watcher = threading.Thread(target=watch)
        watcher.start()
        started = time.perf_counter()
        yield
        self.seconds = time.perf_counter() - started
        peak = max(peak, process.memory_info().rss)
        over.set()
        watcher.join()
        self.megabytes = (peak - before) / 1e6


def dataset_of(folder: Path, clips: int) -> Dataset:
    """Empty files: the store looks at their size and date only."""
    names = [f"{index}.wav" for index in range(clips)]
    for name in names:
        (folder / name).touch()
    listed = [Clip(name, ("x",), "all") for name in names]
    return Dataset(DECLARATIONS["esc50"], folder, listed, ["x"], np.zeros(clips, dtype=np.int64), [])


def entry_of(folder: Path, dataset: Dataset) -> Entry:
    """An entry of the store, as `arch bench` opens it."""
    key = StoreKey("sha256:0", "fp32", "", DIMENSIONS, 0, "esc50", str(dataset.folder), 16000, 5.0, "none")
    return Entry(folder, key, "synthetic", dataset, print)


def cost_of_parts(root: Path, dataset: Dataset, embeddings: NDArray[np.float32]) -> Table:
    """Seconds to write and sync one part, by its size."""
    table = Table("MiB a part", "ms, median", "ms, slowest", "share of 5 s")
    for mebibytes in (0.25, 1, 4, 16):
        rows = int(mebibytes * 2**20 / (4 * DIMENSIONS))
        with entry_of(root / f"parts-{mebibytes}", dataset) as entry:
            times = []
            for _ in range(REPEATS):
                # One short of a part, so that it is the flush that is timed.
                started = time.perf_counter()
                entry.append((index, embeddings[index : index + 1]) for index in range(rows - (rows == 4096)))
                entry.flush()
                times.append(time.perf_counter() - started)
        middle = statistics.median(times)
        slowest = f"{1e3 * max(times):.1f}"
        table.add_row(f"{mebibytes:g}", f"{1e3 * middle:.1f}", slowest, f"{middle / PART_SECONDS:.1%}")
    return table


def steps(root: Path, dataset: Dataset, embeddings: NDArray[np.float32]) -> Table:
    """Every step of an entry's life, and NumPy's own files beside it."""
    table = Table("step", "s", "MB/s", "memory MB", "x the data")
    clips, total = len(embeddings), embeddings.nbytes / 1e6

    def add(name: str, step: Callable[[], T], returned: float = 0) -> T:
        meter = Meter()
        with meter.measure():
            result = step()
        memory = meter.megabytes - returned
        table.add_row(
            name, f"{meter.seconds:.2f}", f"{total / meter.seconds:,.0f}", f"{memory:,.0f}", f"{memory / total:.2f}"
        )
        return result

    def store() -> None:
        for start in range(0, clips, CHUNK):
            stop = min(start + CHUNK, clips)
            entry.append((index, embeddings[index : index + 1]) for index in range(start, stop))

    folder = root / "entry"
    with entry_of(folder, dataset) as entry:
        add("append, in parts", store)
        add("one file of the parts", entry.finish)
    entry = entry_of(folder, dataset)
    add("open, checksum and index", entry.__enter__)
    stored = add("read", entry.read, returned=total)
    if not np.array_equal(stored.embeddings, embeddings):
        raise SystemExit("what was stored came back otherwise")
    entry.__exit__(None, None, None)
    add("np.save", lambda: np.save(root / "plain.npy", embeddings))
    add("np.load", lambda: np.load(root / "plain.npy"), returned=total)
    return table


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=100_000)
    clips = parser.parse_args().clips
    embeddings = np.random.default_rng(0).standard_normal((clips, DIMENSIONS), dtype=np.float32)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        root = Path(name)
        (root / "audio").mkdir()
        dataset = dataset_of(root / "audio", clips)
        console = Console()
        console.print(cost_of_parts(root, dataset, embeddings))
        console.print(steps(root, dataset, embeddings))


if __name__ == "__main__":
    main()
