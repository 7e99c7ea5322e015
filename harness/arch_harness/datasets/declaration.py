"""What a dataset declares, and the index of clips and folds that comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arch_harness.datasets.download.remotes import Remote

Domain = Literal["events", "music", "speech", "synthetic", "other"]
Task = Literal["single_label", "multi_label"]


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
class StrictSplit:
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
        files: what must be there, as glob patterns relative to the folder, suffixes in any case; for the error message
            when it is not.
        find_clips: folder -> clips in the order that the split rule is defined over.
        split: clips -> folds.
        strict: the split of `--splits strict`, or why there is none.
        class_key: sorts the labels; label ids are positions in that order.
        official: clip counts of the official release.
        classes_official: outputs of the probe in the official release.
        download_gb: of all remotes together, about, in 10^9 bytes; None where it is not known.
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
    strict: StrictSplit | str = "none is declared"
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

    @property
    def classes_used_official(self) -> int | None:
        """Classes that clips of the official release have; None where that is not known."""
        # FMA's probe has outputs for genres that no clip of the release has.
        return len(self.official.classes) or self.classes_official
