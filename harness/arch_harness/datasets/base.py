"""What a dataset declares, and the index of clips and folds that comes of it."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from arch_harness.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arch_harness.datasets.remotes import Remote

Domain = Literal["events", "music", "speech", "synthetic", "other"]
Task = Literal["single_label", "multi_label"]

# Written by `arch data fake`; a folder that holds it is never taken for the official data.
FIXTURE_FILE = "arch-fixture.json"


@dataclass(frozen=True, slots=True)
class Clip:
    """One file.

    Attributes:
        path: relative to the dataset's folder, in POSIX form.
        labels: exactly one where the task is single-label.
        group: what the split rule goes by: an official fold or split, or a speaker.
        source: the recording or speaker it is taken from, where a strict split needs more than the group.
    """

    path: str
    labels: tuple[str, ...]
    group: str
    source: str = ""


@dataclass(frozen=True)
class Fold:
    """One train/validation/test split: indices into the dataset's clips, int64, disjoint."""

    name: str
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


@dataclass(frozen=True)
class Listing:
    """What a dataset's metadata and folders say, before any audio is read.

    Attributes:
        clips: in the order that the split rule is defined over.
        classes: classes of the label encoding, those without clips included; None: the classes that occur.
        unused: paths of audio that belongs to the release but not to the benchmark.
        notes: about the data found, for every report.
    """

    clips: list[Clip]
    classes: Sequence[str] | None = None
    unused: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Strict:
    """A split beside ARCH's that does not leak; `title` says of what kind it is, `note` how it is made."""

    title: str
    note: str
    split: Callable[[Sequence[Clip]], list[Fold]]


@dataclass(frozen=True)
class Counts:
    """Clips of the official release; None or an empty mapping where no published figure is known.

    Attributes:
        clips: all that the benchmark uses.
        groups: by `Clip.group`.
        classes: by label.
    """

    clips: int | None = None
    groups: Mapping[str, int] = field(default_factory=dict)
    classes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Declaration:
    """What is particular to a dataset.

    Attributes:
        id: the name used on the command line and in results.
        remotes: what `arch data fetch` gets; empty where `manual` says what to do instead.
        max_seconds: every clip is cut or padded to this length.
        files: what must be there, as glob patterns relative to the folder; for the error message when it is not.
        find_clips: folder -> clips in the order that the split rule is defined over.
        split: clips -> folds.
        strict: the split of `--splits strict`, or why there is none.
        class_key: sorts the labels; label ids are positions in that order.
        official: clip counts of the official release.
        classes_official: outputs of the probe in the official release.
        download_gb: of all remotes together, in 10^9 bytes; None where it is not published.
        notes: known limits of the protocol, told in every report.
    """

    id: str
    title: str
    citation: str
    licence: str
    domain: Domain
    task: Task
    max_seconds: float
    files: tuple[str, ...]
    find_clips: Callable[[Path], Listing]
    split: Callable[[Sequence[Clip]], list[Fold]]
    strict: Strict | str = "none is declared"
    remotes: tuple[Remote, ...] = ()
    manual: str = ""
    class_key: Callable[[str], str | int] = str
    official: Counts = field(default_factory=Counts)
    classes_official: int | None = None
    download_gb: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def metric(self) -> Literal["accuracy", "map_macro"]:
        """What the ARCH tables show for a task of this kind."""
        return "accuracy" if self.task == "single_label" else "map_macro"

    @property
    def clips_official(self) -> int | None:
        """Clips of the official release; None where no published figure is known."""
        return self.official.clips


@dataclass(frozen=True)
class Dataset:
    """A dataset on this disk.

    Attributes:
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

    @property
    def id(self) -> str:
        """The declaration's id."""
        return self.declaration.id

    def fingerprint(self) -> str:
        """Changes when a clip, its label or its fold changes, or a file is replaced by one of another size or date."""
        digest = hashlib.sha256(f"{self.id} {self.declaration.max_seconds} {self.classes}".encode())
        folder = str(self.folder)
        for clip in self.clips:
            try:
                stat = os.stat(f"{folder}/{clip.path}")  # noqa: PTH116 - pathlib takes five times as long
                state = f"{stat.st_size} {stat.st_mtime_ns}"
            except OSError:
                state = "missing"
            digest.update(f"{clip.path}\0{clip.labels}\0{clip.group}\0{state}\n".encode())
        for fold in self.folds:
            digest.update(fold.name.encode())
            for part in (fold.train, fold.validation, fold.test):
                digest.update(b"\0" + part.tobytes())
        return digest.hexdigest()


def with_strict_split(declaration: Declaration) -> Declaration:
    """The declaration with its strict split, under a name of its own; unchanged where it has none."""
    strict = declaration.strict
    if isinstance(strict, str):
        return declaration
    return Declaration(
        **{
            **vars(declaration),
            "id": f"{declaration.id}@strict",
            "title": f"{declaration.title}, {strict.title} split",
            "split": strict.split,
            "strict": "this is the strict split",
            "notes": (f"Not ARCH's split, so not comparable with its scores: {strict.note}",),
        }
    )


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
    try:
        listing = declaration.find_clips(folder)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{declaration.id}: what lies in {folder} cannot be read: {error}") from error
    clips = listing.clips
    if not clips:
        raise UsageError(f"{declaration.id}: {folder} lists no clips")
    occurring = {label for clip in clips for label in clip.labels}
    classes = sorted({*(listing.classes or ()), *occurring}, key=declaration.class_key)
    if len(occurring) < 2:
        raise UsageError(f"{declaration.id}: {folder} holds clips of one class only ({next(iter(occurring), 'none')})")
    folds = declaration.split(clips)
    if not folds:
        raise UsageError(f"{declaration.id}: {folder} holds too few of the official folds to train and test on")
    notes = [*declaration.notes, *listing.notes]
    fixture = _fixture_counts(folder)
    if fixture is not None:
        notes.append("A fixture of `arch data fake`: its audio is synthesised and its scores say nothing.")
    elif declaration.clips_official is not None and len(clips) != declaration.clips_official:
        notes.append(
            f"{len(clips):,} clips were found where the official release has {declaration.clips_official:,}: the score "
            "cannot be compared with published ones."
        )
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
    )


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
