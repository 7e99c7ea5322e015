"""A dataset on this disk: the index of clips and folds that comes of its declaration."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from arch_common.errors import UsageError

from arch_harness.datasets.declaration import Clip, Counts, Declaration, Fold, Task
from arch_harness.datasets.listing import is_showable, missing_pattern, printable

if TYPE_CHECKING:
    from numpy.typing import NDArray


# Written by `arch data fake`; a folder that holds it is never taken for the official data.
FIXTURE_FILE = "arch-fixture.json"
# The note of such data, and how a note ends that tells of data that are not the official release.
FIXTURE_NOTE = "A fixture of `arch data fake`: its audio is synthesised and its scores say nothing."
NOT_COMPARABLE = "cannot be compared with published ones."
# What the name of a stricter split ends in.
STRICT = "@strict"


@dataclass(frozen=True)
class Dataset:
    """A dataset on this disk.

    Attributes:
        reference: what `registry.open_dataset` makes the same dataset of again, from any folder.
        targets: single-label: int64 [clips], indices into `classes`; multi-label: bool [clips, classes].
        expected: the counts that `arch data verify` goes by.
    """

    declaration: Declaration
    folder: Path
    clips: list[Clip]
    classes: list[str]
    targets: NDArray[np.int64] | NDArray[np.bool_]
    folds: list[Fold]
    notes: list[str] = field(default_factory=list)
    unused: frozenset[str] = frozenset()
    expected: Counts = field(default_factory=Counts)
    reference: str = ""

    @property
    def id(self) -> str:
        """The declaration's id."""
        return self.declaration.id

    @property
    def is_strict(self) -> bool:
        """Whether it is split more strictly than ARCH does."""
        return self.id.endswith(STRICT)

    @property
    def counts(self) -> Counts:
        """How many clips there are here of each group and label."""
        return count_clips(self.clips)

    @property
    def classes_used(self) -> int:
        """Classes that a clip here has; a declaration may have more."""
        return len({label for clip in self.clips for label in clip.labels})

    @property
    def incomplete(self) -> bool:
        """Whether clips or classes of the official release are missing here."""
        official = self.declaration.official.clips, self.declaration.classes_used_official
        return any(
            there is not None and here < there
            for here, there in zip((len(self.clips), self.classes_used), official, strict=True)
        )

    @cached_property
    def listing(self) -> str:
        """A digest that changes when a clip, its label, source or fold changes, but not with the files' state."""
        digest = hashlib.sha256(f"{self.id} {self.declaration.max_seconds} {self.classes}".encode())
        for clip in self.clips:
            digest.update(f"{clip.path}\0{clip.labels}\0{clip.group}\n".encode())
            if clip.source:
                digest.update(f"{clip.source}\n".encode())
        for fold in self.folds:
            digest.update(fold.name.encode())
            for part in (fold.train, fold.validation, fold.test):
                digest.update(b"\0" + part.tobytes())
        return digest.hexdigest()

    @cached_property
    def fingerprint(self) -> str:
        """A digest that changes with `listing`, or when a file is replaced by one of another size or date.

        Taken once, when it is first asked for: it looks at every file.
        """
        digest = hashlib.sha256(self.listing.encode())
        folder = str(self.folder)
        for clip in self.clips:
            try:
                stat = os.stat(f"{folder}/{clip.path}")  # noqa: PTH116 - pathlib takes five times as long
                state = f"{stat.st_size} {stat.st_mtime_ns}"
            except OSError:
                state = "missing"
            digest.update(f"{state}\n".encode())
        return digest.hexdigest()


def with_strict_split(declaration: Declaration) -> Declaration:
    """The declaration with its strict split, under a name of its own; unchanged where it has none."""
    strict = declaration.strict
    if isinstance(strict, str):
        return declaration
    return Declaration(
        **{
            **vars(declaration),
            "id": f"{declaration.id}{STRICT}",
            "title": f"{declaration.title}, {strict.title} split",
            "split": strict.split,
            "strict": "this is the strict split",
            "notes": (f"Not ARCH's split, so not comparable with its scores: {strict.note}",),
        }
    )


def load_dataset(declaration: Declaration, folder: Path, reference: str = "") -> Dataset:
    """Index the dataset in `folder`; no audio is read.

    Args:
        declaration: what the dataset is.
        folder: where it lies.
        reference: see `Dataset`; by default its id and folder.

    Raises:
        UsageError: if the folder does not hold the dataset's files, or no fold can be made of them. That some clips are
            missing is no error.
    """
    if not os.path.isdir(folder):  # noqa: PTH112 - no OSError, whatever is asked for
        by_hand = f" {declaration.manual}" if declaration.manual else ""
        origin = (
            f" arch data fetch {declaration.id.removesuffix(STRICT)} downloads it." if declaration.remotes else by_hand
        )
        raise UsageError(
            f"{declaration.id}: there is no folder {printable(str(folder))}.{origin} If it lies elsewhere, name it as "
            f"{declaration.id}=PATH or by --data-root"
        )
    for name in (str(folder), os.path.realpath(folder)):
        if not is_showable(name):
            raise UsageError(f"{declaration.id}: {_not_showable(name)}")
    absent = missing_pattern(folder, declaration.files)
    if absent is not None:
        raise UsageError(f"{declaration.id}: {folder} does not hold {absent}, so it is not {declaration.title}")
    try:
        listing = declaration.find_clips(folder)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{declaration.id}: what lies in {folder} cannot be read: {error}") from error
    clips = listing.clips
    if not clips:
        raise UsageError(f"{declaration.id}: {folder} lists no clips")
    _check_names(declaration.id, clips)
    if not any(os.path.isfile(folder / clip.path) for clip in clips):  # noqa: PTH113
        raise UsageError(
            f"{declaration.id}: {folder} holds none of the {len(clips):,} files that it lists; the first is "
            f"{clips[0].path}"
        )
    occurring = {label for clip in clips for label in clip.labels}
    classes = sorted({*(listing.classes or ()), *occurring}, key=declaration.class_key)
    if len(occurring) < 2:
        raise UsageError(f"{declaration.id}: {folder} holds clips of one class only ({next(iter(occurring), 'none')})")
    folds = declaration.split(clips)
    if not folds:
        raise UsageError(f"{declaration.id}: {folder} holds too few clips or folds to train and test on")
    notes = [*declaration.notes, *listing.notes]
    fixture = _fixture_counts(folder)
    if fixture is not None:
        notes.append(FIXTURE_NOTE)
    else:
        notes += _shortfall(declaration, len(clips), len(occurring))
    return Dataset(
        declaration,
        folder,
        clips,
        classes,
        _targets(declaration.task, clips, classes),
        folds,
        notes,
        listing.unused,
        declaration.official if fixture is None else fixture,
        reference or f"{declaration.id}={os.path.realpath(folder)}",
    )


def _check_names(identifier: str, clips: Sequence[Clip]) -> None:
    """That what goes into results and onto the terminal can be written there.

    Raises:
        UsageError: for a path, label or group that is no UTF-8 or of several lines.
    """
    for clip in clips:
        for text in (clip.path, clip.group, clip.source, *clip.labels):
            if not is_showable(text):
                raise UsageError(f"{identifier}: {_not_showable(text)}")


def _not_showable(name: str) -> str:
    return f"the name '{printable(name)}' is not UTF-8 or holds control characters; rename it"


def _shortfall(declaration: Declaration, clips: int, classes: int) -> list[str]:
    """A note where clips or classes of the official release are not here."""
    official, expected = declaration.official, declaration.classes_used_official
    if official.clips in {None, clips} and expected in {None, classes}:
        return []
    has = [f"{official.clips:,} clips"] if official.clips is not None else []
    has += [f"{expected} classes"] if expected is not None else []
    return [
        f"{clips:,} clips of {classes} classes were found where the official release has {' of '.join(has)}: the score "
        f"{NOT_COMPARABLE}"
    ]


def count_clips(clips: Sequence[Clip]) -> Counts:
    """How many clips there are of each group and label."""
    groups = Counter(clip.group for clip in clips)
    return Counts(len(clips), groups, Counter(label for clip in clips for label in clip.labels))


def _fixture_counts(folder: Path) -> Counts | None:
    path = folder / FIXTURE_FILE
    if not path.is_file():
        return None
    try:
        fixture = json.loads(path.read_text(encoding="utf-8"))
        return Counts(fixture["clips"], fixture["groups"], fixture["classes"])
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is not what `arch data fake` writes; make the fixture again") from error


def _targets(task: Task, clips: Sequence[Clip], classes: Sequence[str]) -> NDArray[np.int64] | NDArray[np.bool_]:
    position = {label: index for index, label in enumerate(classes)}
    if task == "single_label":
        return np.array([position[clip.labels[0]] for clip in clips], dtype=np.int64)
    targets = np.zeros((len(clips), len(classes)), dtype=np.bool_)
    for row, clip in enumerate(clips):
        targets[row, [position[label] for label in clip.labels]] = True
    return targets
