"""`arch data verify`: what is wrong with a dataset on this disk, in parallel over its files."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile

from arch_harness.datasets.audio import decode_reason
from arch_harness.datasets.dataset import Dataset, count_clips
from arch_harness.datasets.listing import AUDIO_SUFFIXES, UNREAD_SUFFIXES, find_files, printable

FaultKind = Literal["missing", "extra", "undecodable", "zero length", "count", "leak"]

_BLOCK_SAMPLES = 1 << 20
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
    kind: Literal["missing", "undecodable", "zero length"] | None
    detail: str


def verify(dataset: Dataset, workers: int, on_clip: Callable[[], None] = lambda: None) -> list[Fault]:
    """Decode every clip in full and compare the dataset with what it should be.

    Finds clips that are missing, undecodable or without samples; audio files that nothing lists; counts of clips,
    groups and classes that differ from the expected ones; and clips of the same audio, or one clip listed twice, in
    different parts of a fold, which is leakage.

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
    # Spawned: the parent draws a progress bar from a thread, and a fork would take its locks along.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_silence) as pool:
        yield from pool.map(_check, tasks, chunksize=max(1, min(64, len(tasks) // (4 * workers))))


def _silence() -> None:
    # The mp3 decoder writes remarks on broken files to the standard error stream by itself.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _check(task: tuple[str, str]) -> _Checked:
    folder, path = task
    file = Path(folder, path)
    if not file.is_file():
        return _Checked(path, "missing", "there is no such file")
    if file.stat().st_size == 0:
        return _Checked(path, "zero length", "the file is empty")
    try:
        with soundfile.SoundFile(file) as sound:
            digest = hashlib.blake2b(f"{sound.samplerate} {sound.channels}".encode(), digest_size=16)
            samples = 0
            while True:
                block = sound.read(_BLOCK_SAMPLES // sound.channels, dtype="float32", always_2d=True)
                if not len(block):
                    break
                if not np.isfinite(block).all():
                    return _Checked(path, "undecodable", "it holds samples that are not finite")
                samples += len(block)
                digest.update(block.tobytes())
    except (soundfile.LibsndfileError, OSError) as error:
        return _Checked(path, "undecodable", decode_reason(file, error))
    if samples == 0:
        return _Checked(path, "zero length", "the file holds no samples")
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
