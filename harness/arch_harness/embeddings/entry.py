"""An entry of the embedding store: a folder of Parquet files that survives whatever ends the process that writes it.

The files are numbered, and of a clip the row in the file with the highest number counts. A file is written under
another name, synced and renamed, so that it is there whole or not at all. What replaces several files gets a higher
number than theirs before they are deleted, so that it does not matter if that never happens. A name ends in the
CRC-32 of the whole file, because Parquet's own checksums leave out headers and footer. One process at a time has an
entry open.
"""

from __future__ import annotations

import os
import stat
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from arch_common.errors import ArchError

from arch_harness.embeddings.key import StoreKey, keep_key
from arch_harness.embeddings.lock import lock
from arch_harness.embeddings.parts import (
    UNFINISHED,
    as_lists,
    as_matrix,
    as_stored,
    is_whole,
    number_of,
    open_part,
    write_part,
)
from arch_harness.embeddings.recompute import Recomputation, forget_recomputation, read_recomputation

if TYPE_CHECKING:
    from filelock import FileLock
    from numpy.typing import NDArray

    from arch_harness.datasets import Dataset


# A part is what a kill may cost, so it ends after seconds. Writing and syncing one of 0.25, 4 and 16 MiB took 12, 36
# and 156 ms on a busy machine's virtual disk (benchmarks/embedding_store.py): up to 3 % of 5 s, in which a base model
# fills less than 4 MiB. Ten hours make 7,200 files.
PART_SECONDS = 5.0
# Bounds the writer's memory; from some MiB on, the cost of a byte is constant.
PART_BYTES = 8 * 2**20
# Of a row group: what reading and making one file of many take, they take a few times of this.
_GROUP_BYTES = 2**20


@dataclass(frozen=True)
class Stored:
    """The embeddings of a dataset's clips, in its order.

    Attributes:
        embeddings: FP32 [clips, embedding size]; rows of clips that the store does not hold are 0.
        layers: FP32 [clips, layers, embedding size], the same for every layer.
        succeeded: bool [clips], whether the store holds it.
    """

    embeddings: NDArray[np.float32]
    layers: NDArray[np.float32]
    succeeded: NDArray[np.bool_]


@dataclass(frozen=True)
class _File:
    path: Path
    start: int
    rows: int


class Entry:
    """The embeddings of one model and dataset; a context manager that keeps other processes out.

    What was appended is stored when the block ends, however it ends.

    Args:
        folder: made when it is opened.
        key: what it holds.
        model: its name, for who lists the store.
        dataset: whose clips it holds.
        note: told what the user should know.
        richer: an entry of the same embeddings and those of the layers too; what is missing here is taken from it.

    Raises:
        ArchError: from every method, if the folder cannot be read or written: the disk is full, say.
    """

    def __init__(
        self,
        folder: Path,
        key: StoreKey,
        model: str,
        dataset: Dataset,
        note: Callable[[str], None],
        richer: Entry | None = None,
    ) -> None:
        self.folder = folder
        self.key = key
        self._model = model
        self._dataset = dataset
        self._note = note
        self._richer = richer
        self._names = [as_stored(clip.path) for clip in dataset.clips]
        self._lock: FileLock | None = None
        floats = pa.field("element", pa.float32(), nullable=False)
        columns = [("path", pa.string()), ("size", pa.int64()), ("mtime_ns", pa.int64())]
        columns.append(("embedding", pa.list_(floats, key.embedding_size)))
        if key.layers:
            columns.append(("layers", pa.list_(floats, key.layers * key.embedding_size)))
        self._schema = pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns])
        row_bytes = 4 * key.embedding_size * (1 + key.layers)
        self._rows_per_group = max(1, _GROUP_BYTES // row_bytes)
        self._pending: list[int] = []
        shape = (max(1, PART_BYTES // row_bytes), 1 + key.layers, key.embedding_size)
        self._buffer = np.empty(shape, dtype=np.float32)
        self._since = 0.0

    @property
    def exists(self) -> bool:
        """Whether there is anything to read; opening makes an empty entry."""
        return self.folder.is_dir() or (self._richer is not None and self._richer.exists)

    def __enter__(self) -> Entry:
        with self._told("open"):
            self._lock = lock(self.folder, self._wait)
            try:
                self._tidy()
                self._state_of_clips()
                self._index()
                self._since = time.monotonic()
                self._take_over()
            except BaseException:
                self._release()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.flush()
        finally:
            self._release()

    def missing(self) -> list[tuple[int, str]]:
        """(index, path) of the clips that are not stored, or whose file has changed since."""
        clips = self._dataset.clips
        return [(int(index), clips[index].path) for index in np.flatnonzero(self._rows() < 0)]

    def remaining(self, run: str) -> list[tuple[int, str]]:
        """(index, path) of the clips that a run which embeds all of them anew has still to embed.

        The entry remembers the run until another one asks: what was appended since it first asked need not be embedded
        again, whatever ended it.

        Args:
            run: names it, and is the same when it is resumed.
        """
        mark = read_recomputation(self.folder)
        if mark is None or mark.run != run:
            mark = Recomputation(run, self._last_number)
            with self._told("write"):
                mark.save(self.folder)
        clips = self._dataset.clips
        return [(int(index), clips[index].path) for index in np.flatnonzero(self._rows() < self._first_row_of(mark))]

    def append(self, embeddings: Iterable[tuple[int, NDArray[np.float32]]]) -> None:
        """Take embeddings in, and store them once they are enough for a part.

        Args:
            embeddings: (index in the dataset, FP32 [1 + layers, embedding size]), row 0 the embedding. One of a clip
                whose file was missing when the entry was opened is left out: what it is of is not known.

        Raises:
            ValueError: if one is of another shape, or not finite.
        """
        shape = self._buffer.shape[1:]
        for index, rows in embeddings:
            if rows.shape != shape or not np.isfinite(rows).all():
                raise ValueError(f"embeddings {rows.shape} of {self._dataset.clips[index].path} are no finite {shape}")
            if self._sizes[index] < 0:
                continue
            self._buffer[len(self._pending)] = rows
            self._pending.append(index)
            if len(self._pending) == len(self._buffer):
                self.flush()
        if time.monotonic() - self._since >= PART_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Store what was appended, as a part."""
        # Not kept for another try: where the disk is full, the end of the block must not fail a second time.
        indices, self._pending = self._pending, []
        if indices:
            rows = self._buffer[: len(indices)]
            columns = [
                pa.array([self._names[index] for index in indices]),
                pa.array(self._sizes[indices]),
                pa.array(self._mtimes[indices]),
                as_lists(rows[:, 0], self._schema.field("embedding").type),
            ]
            if self.key.layers:
                columns.append(as_lists(rows[:, 1:], self._schema.field("layers").type))
            part = self._write([pa.Table.from_arrays(columns, schema=self._schema)])
            with self._told("read"):
                self._index_file(part)
        self._since = time.monotonic()

    def finish(self) -> None:
        """Store what was appended, and make one file of all: each clip's newest embedding."""
        self.flush()
        parts = self._files
        if len(parts) < 2 and not self._discarded:
            return
        self._settle_recomputation()
        try:
            self._write(self._live_groups())
        except ArchError as error:
            self._note(str(error))  # the parts are as good to read; the next run tries again
            return
        with self._told("write"):
            for part in parts:
                part.path.unlink()
        self._index()

    def discard(self, indices: Iterable[int]) -> None:
        """Let `finish` drop the embeddings of clips, given by their index: those that failed when embedded again."""
        for index in indices:
            self._discarded |= self._newest.pop(self._names[index], None) is not None

    def read(self) -> Stored:
        """Read all embeddings of the dataset's clips, a row group at a time."""
        count, size = len(self._dataset.clips), self.key.embedding_size
        stored = Stored(
            np.zeros((count, size), dtype=np.float32),
            np.zeros((count, self.key.layers, size), dtype=np.float32),
            np.zeros(count, dtype=np.bool_),
        )
        for clips, rows, batch in self._of_clips(self._schema.names[3:]):
            stored.succeeded[clips] = True
            stored.embeddings[clips] = as_matrix(batch.column("embedding"), size)[rows]
            if self.key.layers:
                stored.layers[clips] = as_matrix(batch.column("layers"), self.key.layers * size)[rows].reshape(
                    -1, self.key.layers, size
                )
        return stored

    def _of_clips(self, columns: list[str]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], pa.RecordBatch]]:
        """What is stored of the dataset's clips: their indices, their rows in a batch, and that batch."""
        wanted = self._rows()
        order = np.argsort(wanted, kind="stable")
        for start, batch in self._batches(columns):
            first, last = np.searchsorted(wanted, [start, start + len(batch)], sorter=order)
            clips = order[first:last]
            yield clips, wanted[clips] - start, batch

    def _take_over(self) -> None:
        """Take in what is missing here and there with layers: it is the same embedding."""
        lacking = self._rows() < 0
        if self._richer is None or not self._richer.exists or not lacking.any():
            return
        with self._richer as there:
            for clips, rows, batch in there._of_clips(["embedding"]):
                taken = lacking[clips]
                embeddings = as_matrix(batch.column("embedding"), self.key.embedding_size)[rows[taken], None]
                self.append(zip(clips[taken].tolist(), embeddings, strict=True))
        self.flush()

    def _tidy(self) -> None:
        """Delete what a killed process left, and damaged files; keep the key in the clear."""
        for path in sorted(self.folder.iterdir()):
            if UNFINISHED in path.name or path.name.startswith("."):
                path.unlink()
            elif path.suffix == ".parquet" and not is_whole(path):
                self._note(f"{path} is damaged: deleted, its clips are embedded again")
                path.unlink()
        keep_key(self.folder, self.key, self._model)

    def _state_of_clips(self) -> None:
        """Note size and date of every file before any is decoded: what changes later is embedded again."""
        count = len(self._dataset.clips)
        self._sizes = np.full(count, -1, dtype=np.int64)
        self._mtimes = np.full(count, -1, dtype=np.int64)
        folder = str(self._dataset.folder)
        for index, clip in enumerate(self._dataset.clips):
            try:
                state = os.stat(f"{folder}/{clip.path}")  # noqa: PTH116 - pathlib takes five times as long
            except (OSError, ValueError):  # the latter of a name that no file can have
                continue
            if stat.S_ISREG(state.st_mode):  # a folder is no clip, whatever a manifest says
                self._sizes[index], self._mtimes[index] = state.st_size, state.st_mtime_ns

    def _index(self) -> None:
        """Find out which row of which file holds a clip."""
        self._discarded = False
        self._files: list[_File] = []
        self._newest: dict[str, int] = {}
        self._stored_sizes, self._stored_mtimes = array("q"), array("q")
        with self._told("read"):
            for path in sorted(self.folder.glob("*.parquet")):
                self._index_file(path)

    def _index_file(self, path: Path) -> None:
        with open_part(path) as file:
            table = file.read(columns=["path", "size", "mtime_ns"])
        start = len(self._stored_sizes)
        self._newest.update(zip(table["path"].to_pylist(), range(start, start + len(table)), strict=True))
        self._stored_sizes.extend(table["size"].to_pylist())
        self._stored_mtimes.extend(table["mtime_ns"].to_pylist())
        self._files.append(_File(path, start, len(table)))

    def _rows(self) -> NDArray[np.int64]:
        """int64 [clips]: the row that holds a clip of the dataset as it is on the disk, over all files; -1: none."""
        rows = np.fromiter((self._newest.get(name, -1) for name in self._names), np.int64, len(self._names))
        found = rows >= 0
        same = np.array(self._stored_sizes, dtype=np.int64)[rows[found]] == self._sizes[found]
        same &= np.array(self._stored_mtimes, dtype=np.int64)[rows[found]] == self._mtimes[found]
        rows[np.flatnonzero(found)[~same]] = -1
        return rows

    def _write(self, groups: Iterable[pa.Table]) -> Path:
        """Write a file that takes precedence over all that are there."""
        with self._told("write"):
            return write_part(self.folder, 1 + self._last_number, self._schema, groups, self._rows_per_group)

    @property
    def _last_number(self) -> int:
        return max((number_of(file.path) for file in self._files), default=0)

    def _live_groups(self) -> Iterator[pa.Table]:
        """The rows that count, as tables of a row group or two."""
        live = np.zeros(len(self._stored_sizes), dtype=np.bool_)
        live[np.fromiter(self._newest.values(), dtype=np.int64, count=len(self._newest))] = True
        waiting: list[pa.RecordBatch] = []
        for start, batch in self._batches(self._schema.names):
            waiting.append(batch.filter(pa.array(live[start : start + len(batch)])))
            if sum(map(len, waiting)) >= self._rows_per_group:
                yield pa.Table.from_batches(waiting, self._schema)
                waiting = []
        if waiting:
            yield pa.Table.from_batches(waiting, self._schema)

    def _batches(self, columns: list[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
        """The files' contents, with the number of the first row of each batch."""
        with self._told("read"):
            for file in self._files:
                start = file.start
                with open_part(file.path) as reader:
                    for batch in reader.iter_batches(self._rows_per_group, columns=columns, use_threads=False):
                        yield start, batch
                        start += len(batch)

    def _first_row_of(self, mark: Recomputation) -> int:
        later = (file.start for file in self._files if number_of(file.path) > mark.after)
        return min(later, default=len(self._stored_sizes))

    def _settle_recomputation(self) -> None:
        """Note that a run has embedded all there is, or forget one that had not: one file does not tell what is new."""
        mark = read_recomputation(self.folder)
        if mark is None:
            return
        rows = self._rows()
        with self._told("write"):
            if ((rows >= 0) & (rows < self._first_row_of(mark))).any():
                forget_recomputation(self.folder)
            else:
                Recomputation(mark.run, after=0).save(self.folder)

    @contextmanager
    def _told(self, verb: str) -> Iterator[None]:
        """Turn what fails into one line."""
        try:
            yield
        except OSError as error:
            elsewhere = "; --cache or ARCH_CACHE names another place" if verb == "open" else ""
            reason = error.strerror or error
            raise ArchError(f"cannot {verb} the embeddings in {self.folder}: {reason}{elsewhere}") from error
        except ArchError as error:
            raise ArchError(f"{error}; the embeddings stored so far stay") from error

    def _wait(self, holder: str) -> None:
        self._note(f"waiting for {holder}, which uses the same embeddings in {self.folder}")

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None
