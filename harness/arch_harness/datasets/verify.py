"""`arch data verify`: what is wrong with a dataset on this disk, in parallel over its files."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from arch_harness.datasets.audio import LARGEST_SAMPLE, decode_reason
from arch_harness.datasets.audio_files.reader import READ_ERRORS, find_lack, read_blocks
from arch_harness.datasets.dataset import Dataset, count_clips
from arch_harness.datasets.listing import AUDIO_SUFFIXES, UNREAD_SUFFIXES, find_files, printable

ClipFaultKind = Literal["missing", "undecodable", "zero length", "cut short", "out of range"]
FaultKind = Literal[ClipFaultKind, "extra", "count", "leak"]

_PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong; `where` is a path, or what was counted."""

    kind: FaultKind
    where: str
    detail: str


@dataclass(frozen=True)
class _Checked:
    """One file: its fault, or the hash of its audio."""

    path: str
    kind: ClipFaultKind | None
    detail: str


def verify(dataset: Dataset, workers: int, on_clip: Callable[[], None] = lambda: None) -> list[Fault]:
    """Decode every clip in full and compare the dataset with what it should be.

    Finds clips that are missing, undecodable, without samples, cut short or far louder than full scale; audio files
    that nothing lists; counts of clips, groups and classes that differ from the expected ones; and clips of the same
    audio, or one clip listed twice, in different parts of a fold, which is leakage.

    Args:
        dataset: as indexed.
        workers: processes that decode.
        on_clip: called for each clip that is done.
    """
    paths = list(dict.fromkeys(clip.path for clip in dataset.clips))
    faults, sounds = [], dict[str, list[str]]()
    for checked in _check_all(dataset.folder, paths, workers):
        on_clip()
        if checked.kind is None:
            sounds.setdefault(checked.detail, []).append(checked.path)
        else:
            faults.append(Fault(checked.kind, checked.path, checked.detail))
    same_audio = [*sounds.values(), *([fault.where] for fault in faults)]  # those at fault are at least like themselves
    known = {*paths, *dataset.unused}
    there = find_files(dataset.folder, suffix=AUDIO_SUFFIXES + UNREAD_SUFFIXES)
    faults += [Fault("extra", printable(path), "the dataset does not list it") for path in there if path not in known]
    return [*faults, *_counts(dataset), *_leaks(dataset, same_audio)]


def _check_all(folder: Path, paths: list[str], workers: int) -> Iterator[_Checked]:
    tasks = [(str(folder), path) for path in paths]
    done = 0
    while done < len(tasks):
        try:
            for checked in _check_some(tasks[done:], workers):
                done += 1
                yield checked
        except BrokenProcessPool:
            # A decoder crashed, or the system ended its process. One by one it is told which file that was.
            try:
                for checked in _check_some(tasks[done:], 1):
                    done += 1
                    yield checked
            except BrokenProcessPool:
                yield _Checked(paths[done], "undecodable", "the process that decodes it dies")
                done += 1


def _check_some(tasks: list[tuple[str, str]], workers: int) -> Iterator[_Checked]:
    # Spawned: the parent draws a progress bar from a thread, and a fork would take its locks along.
    context = multiprocessing.get_context("spawn")
    chunksize = 1 if workers == 1 else max(1, min(64, len(tasks) // (4 * workers)))
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_silence) as pool:
        yield from pool.map(_check, tasks, chunksize=chunksize)


def _silence() -> None:
    # The mp3 decoder writes remarks on broken files to the standard error stream by itself.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _check(task: tuple[str, str]) -> _Checked:
    folder, path = task
    file = Path(folder, path)
    try:
        if not file.is_file():
            return _Checked(path, "missing", "there is no such file")
        if file.stat().st_size == 0:
            return _Checked(path, "zero length", "the file is empty")
    except OSError as error:
        return _Checked(path, "undecodable", decode_reason(file, error))
    digest, samples, peak, described = hashlib.blake2b(digest_size=16), 0, 0.0, ""
    try:
        for block, rate in read_blocks(file):
            if described != (described := f"{rate} {block.shape[1]}"):
                digest.update(described.encode())
            digest.update(block.tobytes())
            samples += len(block)
            peak = max(peak, float(np.abs(block).max()))
            if not np.isfinite(block).all():
                return _Checked(path, "undecodable", "it holds samples that are not finite")
        lack = find_lack(file, samples)
    except READ_ERRORS as error:
        return _Checked(path, "undecodable", decode_reason(file, error))
    if lack:
        return _Checked(path, "cut short", lack)
    if samples == 0:
        return _Checked(path, "zero length", "the file holds no samples")
    if peak > LARGEST_SAMPLE:
        detail = f"its samples reach {peak:,.0f}, far outside [-1, 1]: integers that were never scaled?"
        return _Checked(path, "out of range", detail)
    return _Checked(path, None, digest.hexdigest())


def _counts(dataset: Dataset) -> Iterator[Fault]:
    expected, found = dataset.expected, count_clips(dataset.clips)
    if expected.clips is not None and found.clips != expected.clips:
        yield Fault("count", "clips", f"{found.clips:,} where {expected.clips:,} are expected")
    for what, wanted, here in (
        ("group", expected.groups, found.groups),
        ("class", expected.classes, found.classes),
    ):
        yield from _differences(what, wanted, here)


def _differences(what: str, wanted: Mapping[str, int], here: Mapping[str, int]) -> Iterator[Fault]:
    if wanted:
        for name in sorted({*wanted, *here}):
            if wanted.get(name, 0) != here.get(name, 0):
                detail = f"{here.get(name, 0):,} clips where {wanted.get(name, 0):,} are expected"
                yield Fault("count", f"{what} {name}", detail)


def _leaks(dataset: Dataset, same_audio: Iterable[Sequence[str]]) -> Iterator[Fault]:
    """A fault for each pair of neighbours among entries of the same audio that some fold puts into different parts.

    Args:
        dataset: as indexed; a path that it lists twice has two entries.
        same_audio: paths, those of the same audio together.
    """
    entries: dict[str, list[int]] = {}
    for index, clip in enumerate(dataset.clips):
        entries.setdefault(clip.path, []).append(index)
    parts = np.full((len(dataset.folds), len(dataset.clips)), -1, dtype=np.int8)
    for row, fold in enumerate(dataset.folds):
        for part, indices in enumerate((fold.train, fold.validation, fold.test)):
            parts[row, indices] = part
    for paths in same_audio:
        same = [index for path in paths for index in entries[path]]
        if len(same) < 2:
            continue
        told = set[tuple[str, str]]()
        for fold, row in zip(dataset.folds, parts, strict=True):
            for one, other in pairwise(index for index in same if row[index] >= 0):
                pair = (dataset.clips[one].path, dataset.clips[other].path)
                if row[one] != row[other] and pair not in told:
                    told.add(pair)
                    what = f"the same audio as {pair[0]}" if pair[0] != pair[1] else "listed more than once"
                    here = " and ".join(_PARTS[part] for part in sorted((row[one], row[other])))
                    yield Fault("leak", pair[1], f"{what}: {here} of fold {fold.name}")
