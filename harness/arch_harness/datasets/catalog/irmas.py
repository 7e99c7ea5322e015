"""IRMAS: the predominant instruments of music excerpts, 11 classes.

Layout: `IRMAS-TrainingData/<instrument>/*.wav`, 3 s and one instrument each; `IRMAS-TestingData-Part{1,2,3}/
Part{1,2,3}/*.wav`, 5 to 20 s, with the instruments in the `.txt` of the same name, one a line. Official train and
test; validation is a random 20 % of train.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from arch_common.errors import UsageError

from arch_harness.datasets import splits
from arch_harness.datasets.declaration import Clip, Counts, Declaration, Fold, Listing, StrictSplit
from arch_harness.datasets.download.remotes import zenodo
from arch_harness.datasets.listing import find_files

if TYPE_CHECKING:
    from numpy.typing import NDArray

INSTRUMENTS = ("cel", "cla", "flu", "gac", "gel", "org", "pia", "sax", "tru", "vio", "voi")
# `[cel][cla]0001__2.wav` is the second excerpt of recording 0001.
_EXCERPT = re.compile(r"(?P<recording>.*?)(__\d+)?\.(?i:wav)", re.DOTALL)


def find_clips(folder: Path) -> Listing:
    """Training clips instrument by instrument, then test clips, each sorted; `group` is train or test."""
    clips = []
    for instrument in INSTRUMENTS:
        for path in find_files(folder, f"IRMAS-TrainingData/{instrument}"):
            recording = _EXCERPT.fullmatch(path.rsplit("/", 1)[1])
            clips.append(Clip(path, (instrument,), "train", recording["recording"] if recording else path))
    for part in (1, 2, 3):
        found = find_files(folder, f"IRMAS-TestingData-Part{part}")
        clips += [Clip(path, _instruments(folder / f"{path[:-4]}.txt"), "test") for path in found]
    return Listing(clips, INSTRUMENTS)


def _instruments(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UsageError(f"{path.with_suffix('.wav')} has no labels: there is no {path.name} beside it") from error
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip() and line.strip() not in INSTRUMENTS:
            raise UsageError(f"{path}, line {number}: {line.strip()!r} is none of {', '.join(INSTRUMENTS)}")
        found += [line.strip()] if line.strip() else []
    if not found:
        raise UsageError(f"{path} names no instrument")
    return tuple(found)


def split(clips: Sequence[Clip]) -> list[Fold]:
    """The official test set; of the training set, in its order, a random 20 % validates."""
    return _split(clips, lambda train: splits.hold_out(train, 0.2))


def split_by_recording(clips: Sequence[Clip]) -> list[Fold]:
    """The official test set; all excerpts of a random 20 % of the training recordings validate."""

    def by_recording(train: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        recordings = sorted({clips[index].source for index in train})
        held_out = {recordings[place] for place in splits.hold_out(range(len(recordings)), 0.2)[1]}
        chosen = np.array([clips[index].source in held_out for index in train])
        return np.array(train)[~chosen], np.array(train)[chosen]

    return _split(clips, by_recording)


def _split(
    clips: Sequence[Clip], draw: Callable[[Sequence[int]], tuple[NDArray[np.int64], NDArray[np.int64]]]
) -> list[Fold]:
    groups = splits.members(clips)
    if len(groups.get("train", ())) < 2 or "test" not in groups:
        return []
    train, validation = draw(groups["train"])
    return [Fold("official", train, validation, np.array(groups["test"], dtype=np.int64))]


DECLARATION = Declaration(
    id="irmas",
    title="IRMAS",
    citation="Bosch et al., A Comparison of Sound Segregation Techniques for Predominant Instrument Recognition in "
    "Musical Audio Signals, ISMIR 2012",
    licence="CC BY-NC-SA 3.0",
    remotes=(
        zenodo(1290750, "IRMAS-TrainingData.zip", "4fd9f5ed5a18d8e2687e6360b5f60afe"),
        *(
            zenodo(1290750, f"IRMAS-TestingData-Part{part}.zip", md5, destination=f"IRMAS-TestingData-Part{part}")
            for part, md5 in (
                (1, "5a2e65520dcedada565dff2050bb2a56"),
                (2, "afb0c8ea92f34ee653693106be95c895"),
                (3, "9b3fb2d0c89cdc98037121c25bd5b556"),
            )
        ),
    ),
    domain="music",
    task="multi_label",
    max_seconds=5,
    files=("IRMAS-TrainingData/*/*.wav", "IRMAS-TestingData-Part*/**/*.wav"),
    find_clips=find_clips,
    split=split,
    strict=StrictSplit(
        "recording-disjoint validation",
        "validation holds all excerpts of a random 20 % of the training recordings (seed 42).",
        split_by_recording,
    ),
    official=Counts(9579, {"train": 6705, "test": 2874}),
    classes_official=11,
    notes=(
        "Validation clips are drawn at random from the training clips, as in the ARCH reference; up to three excerpts "
        "come from one recording. The probes linear and mlp choose nothing by them; logreg and knn choose on whole "
        "recordings held out.",
        "Training clips have one label, test clips one or more; of test clips, what comes after 5 s is not heard.",
    ),
)
