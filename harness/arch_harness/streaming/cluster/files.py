"""Clips' files on nodes of a cluster: whether they are those of the driver, and how they get there otherwise."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np
from arch_common.temporary import temporary_folder

from arch_harness.datasets.audio import decode_reason

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arch_harness.streaming.cluster.nodes import Node

Files = Mapping[str, bytes | str]
"""Contents of clips' files, by their paths below the dataset's folder; or why they cannot be read."""

_THREADS = 16  # of which each waits for a network's file system, where there is one
_READ_FILES, _READ_BYTES = 16, 1024**2


@dataclass(frozen=True)
class FilesSeen:
    """What a machine has of some files.

    Attributes:
        sizes: int64 [files], in bytes; -1 of one that is not there.
        digests: SHA-256 of the beginnings of a few, spread over all.
    """

    sizes: NDArray[np.int64]
    digests: list[str]

    def difference(self, other: FilesSeen) -> int | None:
        """Position of a file that the other has otherwise or not at all; None where there is none."""
        unequal = np.flatnonzero(self.sizes != other.sizes)
        if len(unequal):
            return int(unequal[0])
        pairs = zip(_spread(len(self.sizes)), self.digests, other.digests, strict=True)
        return next((position for position, own, its in pairs if own != its), None)


def look_at(folder: Path, paths: Sequence[str]) -> FilesSeen:
    """The sizes of all files, and what is in a few; nothing is raised for those that are not there."""
    parts = [paths[start::_THREADS] for start in range(_THREADS)]
    sizes = np.empty(len(paths), dtype=np.int64)
    with ThreadPoolExecutor(_THREADS) as threads:
        for start, found in enumerate(threads.map(lambda part: [_size(folder / path) for path in part], parts)):
            sizes[start::_THREADS] = found
    return FilesSeen(sizes, [_digest(folder / paths[position]) for position in _spread(len(paths))])


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.sha256(file.read(_READ_BYTES)).hexdigest()
    except OSError:
        return ""


def _spread(count: int) -> list[int]:
    return sorted(set(np.linspace(0, count - 1, _READ_FILES).astype(int).tolist())) if count else []


def read_files(folder: Path, paths: Sequence[str]) -> dict[str, bytes | str]:
    """The contents of files; of those that cannot be read, why, as a decoder of this machine would say it."""
    found: dict[str, bytes | str] = {}
    for name in paths:
        path = folder / name
        try:
            found[name] = path.read_bytes()
        except OSError as error:
            found[name] = decode_reason(path, error)
    return found


@contextlib.contextmanager
def unpacked(clips: Sequence[tuple[int, str]], files: Files) -> Iterator[tuple[Path, list[tuple[int, str]]]]:
    """A folder with copies of the files that could be read, as long as the block lasts, and the clips in it."""
    with temporary_folder("arch-clips-") as folder:
        copies = []
        for position, (index, path) in enumerate(clips):
            content = files[path]
            if isinstance(content, bytes):
                # Not by its own path, which may lead out of the folder; the end says what a file is.
                copies.append((index, f"{position}{PurePath(path).suffix}"))
                (folder / copies[-1][1]).write_bytes(content)
        yield folder, copies


class FilePlaces:
    """Which nodes have the files of a dataset as the driver has them, and which must be sent them.

    Args:
        note: told of each node that must.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._folder = Path()
        self._paths: list[str] = []
        self._digest = 0
        self._own: FilesSeen | None = None
        self._known: dict[tuple[str, Path, int], bool] = {}

    def begin(self, folder: Path, paths: Sequence[str]) -> None:
        """From now on it is about these files."""
        self._folder, self._paths, self._own = folder, list(paths), None
        self._digest = hash(tuple(self._paths))

    def check(self, node: Node, look: Callable[[Path, list[str]], FilesSeen | None]) -> None:
        """See whether a node has the files, and say once of each node and folder if it has not.

        Args:
            node: that is asked.
            look: looks at files there; None if nothing is heard of them, and then they are sent.
        """
        key = (node.id, self._folder, self._digest)
        if key in self._known:
            return
        self._own = self._own or look_at(self._folder, self._paths)
        there = look(self._folder, self._paths)
        different = None if there is None else self._own.difference(there)
        told = any(lacks and one[:2] == key[:2] for one, lacks in self._known.items())
        self._known[key] = there is None or different is not None
        if there is not None and different is not None and not told:
            has = "no" if there.sizes[different] < 0 else "another"
            self._note(
                f"node {node.name} has {has} {self._folder / self._paths[different]}: the files of its clips are sent "
                "to it from here"
            )

    def lacks(self, node: str) -> bool:
        """Whether a node must be sent the files."""
        return self._known.get((node, self._folder, self._digest), False)
