"""A dataset's files looked at: formats, lengths, and what training and test clips of a fold share."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from arch_harness.datasets.audio_files.reader import READ_ERRORS, Header, read_header
from arch_harness.results.checks.diagnoses import ClipPair, FileFacts

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from arch_harness.datasets import Dataset

MOST_EXAMPLES = 5
_MOST_HEADERS = 200
_READERS = 8
_HEAD_BYTES = 1 << 16


@dataclass(frozen=True)
class SeenFiles:
    """What was seen.

    Attributes:
        facts: to be kept.
        copies: of each fold, the test clips (indices) whose file a training clip of the fold has too.
    """

    facts: FileFacts
    copies: list[frozenset[int]]


def look_at_files(dataset: Dataset) -> SeenFiles:
    """Read some headers, and compare whole files where size and start are those of another; no audio is decoded."""
    headers = _headers(dataset)
    longest = dataset.declaration.max_seconds
    seconds = np.array([header.seconds for header in headers] or [0.0])
    same = _same_files(dataset)
    copies, examples, tests = list[frozenset[int]](), list[ClipPair](), 0
    sources, shared, of_shared = set[str](), set[str](), 0
    for fold in dataset.folds:
        first = {int(same[index]): index for index in reversed(fold.train.tolist())}
        copied = fold.test[np.isin(same[fold.test], same[fold.train])].tolist()
        copies.append(frozenset(copied))
        tests += len(fold.test)
        examples += [
            ClipPair(train=dataset.clips[first[int(same[index])]].path, test=dataset.clips[index].path)
            for index in copied[: MOST_EXAMPLES - len(examples)]
        ]
        trained = {dataset.clips[index].source for index in fold.train.tolist()}
        tested = [source for index in fold.test.tolist() if (source := dataset.clips[index].source)]
        sources |= set(tested)
        shared |= set(tested) & trained
        of_shared += sum(source in trained for source in tested)
    facts = FileFacts(
        looked_at=len(headers),
        sample_rates=dict(Counter(header.rate for header in headers).most_common()),
        channels=dict(Counter(header.channels for header in headers).most_common()),
        median_seconds=float(np.median(seconds)),
        padded=float(np.clip(1 - seconds / longest, 0, 1).mean()) if headers else 0.0,
        # A hundredth of a second more is how files are rounded.
        cut=float((seconds > longest + 0.01).mean()),
        test_clips=tests,
        copies=sum(map(len, copies)),
        copy_examples=examples,
        sources=len(sources),
        shared_sources=len(shared),
        shared_source_clips=of_shared,
    )
    return SeenFiles(facts, copies)


def _headers(dataset: Dataset) -> list[Header]:
    count = len(dataset.clips)
    chosen = np.unique(np.linspace(0, count - 1, min(count, _MOST_HEADERS)).round().astype(int))
    with ThreadPoolExecutor(_READERS) as readers:
        found = readers.map(_header, [dataset.folder / dataset.clips[index].path for index in chosen.tolist()])
        return [header for header in found if header is not None]


def _header(path: Path) -> Header | None:
    try:
        return read_header(path)
    except READ_ERRORS:  # a clip that fails, of which the report tells elsewhere
        return None


def _same_files(dataset: Dataset) -> NDArray[np.int64]:
    """int64 [clips]: equal for clips whose files are the same, byte for byte."""
    folder = str(dataset.folder)
    paths = [f"{folder}/{clip.path}" for clip in dataset.clips]
    groups: Iterable[list[int]] = [list(range(len(paths)))]
    # Each look is dearer than the one before, and only at files that the ones before could not tell apart.
    for look in (os.path.getsize, lambda path: _digest(path, _HEAD_BYTES), lambda path: _digest(path, -1)):
        groups = [alike for group in groups for alike in _alike(group, paths, look)]
    same = np.arange(len(paths))
    for group in groups:
        same[group] = group[0]
    return same


def _alike(group: list[int], paths: list[str], look: Callable[[str], Hashable]) -> Iterable[list[int]]:
    found = defaultdict[Hashable, list[int]](list)
    for index in group:
        try:
            found[look(paths[index])].append(index)
        except OSError:  # one that is missing is like no other
            continue
    return [alike for alike in found.values() if len(alike) > 1]


def _digest(path: str, most: int) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123 - pathlib takes five times as long
        if most > 0:
            return hashlib.blake2b(file.read(most), digest_size=16).digest()
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()
