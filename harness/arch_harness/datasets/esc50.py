"""ESC-50: 2,000 environmental recordings of 5 s in 50 classes.

Layout: `meta/esc50.csv` (filename, fold, target, category, ...) and `audio/*.wav`. Five official folds; validation is
a random 20 % of the other four, seed 42.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from arch_harness.datasets.base import Clip, Declaration, Fold
from arch_harness.errors import UsageError

_COLUMNS = ("filename", "fold", "target")


def find_clips(folder: Path) -> list[Clip]:
    """The rows of the CSV in their order; `group` is the official fold.

    Raises:
        UsageError: if the CSV is not ESC-50's, with the line that is at fault.
    """
    path = folder / "meta" / "esc50.csv"
    clips = []
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        missing = [column for column in _COLUMNS if column not in (rows.fieldnames or ())]
        if missing:
            raise UsageError(f"{path}: the column {missing[0]!r} is missing")
        for row in rows:
            filename, fold, target = (row[column] for column in _COLUMNS)
            if not filename or not (fold or "").isdigit() or not (target or "").isdigit():
                raise UsageError(f"{path}, line {rows.line_num}: wants a filename, a fold number and a target number")
            clips.append(Clip(f"audio/{filename}", (target,), fold))
    return clips


def split(clips: Sequence[Clip]) -> list[Fold]:
    """Leave one official fold out; of the rest, concatenated in the order the folds first appear, hold out 20 %."""
    from sklearn.model_selection import train_test_split

    members: dict[str, list[int]] = {}
    for index, clip in enumerate(clips):
        members.setdefault(clip.group, []).append(index)
    folds = []
    for test in sorted(members, key=int):
        rest = [index for fold, indices in members.items() if fold != test for index in indices]
        if len(rest) < 2:
            continue
        train, validation = train_test_split(rest, test_size=0.2, random_state=42)
        folds.append(Fold(test, *(np.array(part, dtype=np.int64) for part in (train, validation, members[test]))))
    return folds


DECLARATION = Declaration(
    id="esc50",
    title="ESC-50",
    domain="events",
    task="single_label",
    licence="CC BY-NC 3.0",
    citation="Piczak, ESC: Dataset for Environmental Sound Classification, ACM Multimedia 2015",
    max_seconds=5,
    files=("meta/esc50.csv", "audio/*.wav"),
    clips_official=2000,
    find_clips=find_clips,
    split=split,
    class_key=int,
    notes=(
        "Validation clips are drawn at random from the training folds, as in the ARCH reference; they can share a "
        "source recording with training clips. They do not influence the score.",
    ),
)
