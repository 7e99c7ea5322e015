"""Fixtures: any of the twelve datasets in its official layout, small, with synthesised audio and realistic faults."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import soundfile

from arch_harness.datasets.base import FIXTURE_FILE
from arch_harness.errors import ArchError, UsageError
from arch_harness.files import whole_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arch_harness.datasets.base import Declaration

FEWEST_CLIPS = 40

FaultKind = Literal["missing", "undecodable", "zero length"]


@dataclass(frozen=True)
class Fixture:
    """What was written.

    Attributes:
        clips: that the dataset lists, those at fault included.
        faults: path -> what is wrong with the clip of that path.
    """

    clips: int
    groups: dict[str, int]
    classes: dict[str, int]
    faults: dict[str, FaultKind]


class FixtureWriter:
    """Writes clips and tables below a folder, and remembers what it listed and the faults it planted.

    What it listed is counted here and not by the dataset's own code, which is checked against these counts.

    Attributes:
        listed: clips.
        groups: clips of each group.
        classes: clips of each label.
    """

    def __init__(self, folder: Path, clips: int, quirks: bool, seed: int) -> None:
        self.folder = folder
        self.clips = clips
        self.quirks = quirks
        self.faults: dict[str, FaultKind] = {}
        self.listed = 0
        self.groups = Counter[str]()
        self.classes = Counter[str]()
        self._random = np.random.default_rng(seed)

    def sound(self, kind: int, seconds: float, rate: int, channels: int) -> NDArray[np.float32]:
        """A tone that tells the class `kind`, in noise that is another in every clip: FP32 [samples, channels]."""
        time = np.arange(round(seconds * rate)) / rate
        frequency = 220 * 2 ** (kind / 5) * self._random.uniform(0.98, 1.02)
        tone = 0.3 * np.sin(2 * np.pi * frequency * time)
        noise = 0.02 * self._random.standard_normal((len(time), channels))
        mixed: NDArray[np.float32] = (tone[:, None] + noise).astype(np.float32)
        return mixed

    def lists(self, group: object, *labels: object) -> None:
        """Count a clip that the dataset lists."""
        self.listed += 1
        self.groups[str(group)] += 1
        self.classes.update(str(label) for label in labels)

    def write(
        self,
        path: str,
        kind: int,
        *,
        seconds: float = 0.5,
        rate: int = 44100,
        channels: int = 1,
        subtype: str | None = None,
        fault: FaultKind | None = None,
    ) -> None:
        """Write one clip, in the format that its suffix says; or leave it out, empty or broken."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if fault is not None and self.quirks:
            self.faults[path] = fault
            if fault == "undecodable":
                target.write_bytes(self._random.bytes(2000))
            elif fault == "zero length":
                target.touch()
            return
        soundfile.write(target, self.sound(kind, seconds, rate, channels), rate, subtype=subtype)

    def table(self, path: str, rows: Iterable[Sequence[object]], delimiter: str = ",") -> None:
        """Write a table; the header is its first row."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(rows)

    def text(self, path: str, text: str) -> None:
        """Write a text file."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")

    def places(self, groups: int, classes: int) -> Iterable[tuple[int, int, int]]:
        """(clip, group, class) such that every group meets every class after `groups * classes` clips."""
        for clip in range(self.clips):
            yield clip, clip % groups, (clip % groups + clip // groups) % classes


def write_fixture(
    declaration: Declaration, folder: Path, clips: int = FEWEST_CLIPS, quirks: bool = True, seed: int = 0
) -> Fixture:
    """Write a fixture of a dataset into an empty or new folder; the same arguments give the same files.

    Args:
        declaration: one of the twelve.
        folder: where it goes.
        clips: how many clips it lists; FMA-small lists one less with quirks, for a track without a file.
        quirks: plant the faults that the real releases have.
        seed: of the audio.

    Raises:
        UsageError: if the folder holds files, there is no fixture of this dataset, or `clips` is too small.
        ArchError: if it cannot be written.
    """
    from arch_harness.datasets.fake_layouts import LAYOUTS

    if declaration.id not in LAYOUTS:
        raise UsageError(f"there is no fixture of {declaration.id!r}; there are: {', '.join(LAYOUTS)}")
    if clips < FEWEST_CLIPS:
        raise UsageError(f"a fixture needs at least {FEWEST_CLIPS} clips for every fold to hold every kind")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not an empty folder; choose another")
    writer = FixtureWriter(folder, clips, quirks, seed)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        LAYOUTS[declaration.id](writer)
    except (OSError, soundfile.LibsndfileError) as error:
        raise ArchError(f"cannot write the fixture: {error}") from error
    fixture = Fixture(writer.listed, dict(writer.groups), dict(writer.classes), writer.faults)
    with whole_file(folder / FIXTURE_FILE) as file:
        file.write(json.dumps({"dataset": declaration.id, **asdict(fixture)}, indent=2).encode() + b"\n")
    return fixture
