"""What a dataset declares, and the index of clips and folds that comes of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from arch_harness.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

Domain = Literal["events", "music", "speech", "synthetic"]
Task = Literal["single_label", "multi_label"]


@dataclass(frozen=True)
class Clip:
    """One file.

    Attributes:
        path: relative to the dataset's folder, in POSIX form.
        labels: exactly one where the task is single-label.
        group: what the split rule goes by: an official fold or split, or a speaker.
    """

    path: str
    labels: tuple[str, ...]
    group: str


@dataclass(frozen=True)
class Fold:
    """One train/validation/test split: indices into the dataset's clips, int64, disjoint."""

    name: str
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


@dataclass(frozen=True)
class Declaration:
    """What is particular to a dataset.

    Attributes:
        id: the name used on the command line and in results.
        max_seconds: every clip is cut or padded to this length.
        files: what must be there, as glob patterns relative to the folder; for the error message when it is not.
        clips_official: clips in the official release; None where there is none.
        find_clips: folder -> clips in the order that the split rule is defined over.
        split: clips -> folds.
        class_key: sorts the labels; label ids are positions in that order.
        notes: known limits of the protocol, told in every report.
    """

    id: str
    title: str
    domain: Domain
    task: Task
    licence: str
    citation: str
    max_seconds: float
    files: tuple[str, ...]
    clips_official: int | None
    find_clips: Callable[[Path], list[Clip]]
    split: Callable[[Sequence[Clip]], list[Fold]]
    class_key: Callable[[str], str | int] = str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """A dataset on this disk.

    Attributes:
        targets: single-label: int64 [clips], indices into `classes`; multi-label: bool [clips, classes].
    """

    declaration: Declaration
    folder: Path
    clips: list[Clip]
    classes: list[str]
    targets: NDArray[np.int64] | NDArray[np.bool_]
    folds: list[Fold]
    notes: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        """The declaration's id."""
        return self.declaration.id

    def fingerprint(self) -> str:
        """Changes when a clip, its label or its fold changes, or a file is replaced by one of another size or date."""
        digest = hashlib.sha256(f"{self.id} {self.declaration.max_seconds}".encode())
        for clip in self.clips:
            try:
                stat = (self.folder / clip.path).stat()
                state = f"{stat.st_size} {stat.st_mtime_ns}"
            except OSError:
                state = "missing"
            digest.update(f"{clip.path}\0{clip.labels}\0{clip.group}\0{state}\n".encode())
        return digest.hexdigest()


def load_dataset(declaration: Declaration, folder: Path) -> Dataset:
    """Index the dataset in `folder`; no audio is read.

    Raises:
        UsageError: if the folder does not hold the dataset's files, or no fold can be made of them.
    """
    if not folder.is_dir():
        raise UsageError(
            f"{declaration.id}: there is no folder {folder}; name it with --dataset {declaration.id}=PATH or put it "
            f"under --data-root"
        )
    for pattern in declaration.files:
        if next(folder.glob(pattern), None) is None:
            raise UsageError(f"{declaration.id}: {folder} does not hold {pattern}, so it is not {declaration.title}")
    clips = declaration.find_clips(folder)
    if not clips:
        raise UsageError(f"{declaration.id}: {folder} lists no clips")
    classes = sorted({label for clip in clips for label in clip.labels}, key=declaration.class_key)
    if len(classes) < 2:
        raise UsageError(f"{declaration.id}: {folder} holds clips of one class only ({classes[0]})")
    folds = declaration.split(clips)
    if not folds:
        raise UsageError(f"{declaration.id}: {folder} holds too few of the official folds to train and test on")
    notes = list(declaration.notes)
    if declaration.clips_official is not None and len(clips) != declaration.clips_official:
        notes.append(
            f"{len(clips):,} clips were found where the official release has {declaration.clips_official:,}: the score "
            "cannot be compared with published ones."
        )
    return Dataset(declaration, folder, clips, classes, _targets(declaration.task, clips, classes), folds, notes)


def _targets(task: Task, clips: Sequence[Clip], classes: Sequence[str]) -> NDArray[np.int64] | NDArray[np.bool_]:
    position = {label: index for index, label in enumerate(classes)}
    if task == "single_label":
        return np.array([position[clip.labels[0]] for clip in clips], dtype=np.int64)
    targets = np.zeros((len(clips), len(classes)), dtype=np.bool_)
    for row, clip in enumerate(clips):
        targets[row, [position[label] for label in clip.labels]] = True
    return targets
