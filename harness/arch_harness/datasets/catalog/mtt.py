"""MagnaTagATune: excerpts of 29 s with the 50 most frequent tags.

Layout: `annotations_final.csv` (tab separated; clip_id, 188 tags, mp3_path), the mp3 files at their `mp3_path`, and
MusiCNN's lists `train_gt_mtt.tsv`, `val_gt_mtt.tsv`, `test_gt_mtt.tsv` (first column: clip_id). Clips without any of
the 50 tags are left out.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

from arch_common.errors import UsageError

from arch_harness.datasets import splits
from arch_harness.datasets.declaration import Clip, Declaration, Listing
from arch_harness.datasets.download.remotes import Remote, RemoteFile, remote
from arch_harness.datasets.listing import NUMBER, TEXT, open_table, read_rows

# fmt: off
TAGS = (
    "guitar", "classical", "slow", "techno", "strings", "drums", "electronic", "rock", "fast", "piano", "ambient",
    "beat", "violin", "vocal", "synth", "female", "indian", "opera", "male", "singing", "vocals", "no vocals",
    "harpsichord", "loud", "quiet", "flute", "woman", "male vocal", "no vocal", "pop", "soft", "sitar", "solo", "man",
    "classic", "choir", "voice", "new age", "dance", "male voice", "female vocal", "beats", "harp", "cello",
    "no voice", "weird", "country", "metal", "female voice", "choral",
)
# fmt: on
_LISTS = {"train": "train_gt_mtt.tsv", "val": "val_gt_mtt.tsv", "test": "test_gt_mtt.tsv"}


def find_clips(folder: Path) -> Listing:
    """Clips of the three lists in their order that have a tag; `group` is the list."""
    columns = {"clip_id": NUMBER, "mp3_path": TEXT} | dict.fromkeys(TAGS, "[01]")
    annotated = {}
    for clip_id, path, *flags in read_rows(folder / "annotations_final.csv", columns, "\t"):
        annotated[clip_id] = path, tuple(tag for tag, flag in zip(TAGS, flags, strict=True) if flag == "1")
    clips, listed = [], set()
    for group, name in _LISTS.items():
        for line, clip_id in _list(folder / name):
            if clip_id not in annotated:
                raise UsageError(f"{folder / name}, line {line}: annotations_final.csv has no clip {clip_id}")
            path, tags = annotated[clip_id]
            if tags:
                listed.add(path)
                clips.append(Clip(path, tags, group))
    return Listing(clips, TAGS, frozenset(path for path, _ in annotated.values() if path not in listed))


def _list(path: Path) -> list[tuple[int, str]]:
    """Line number and clip_id of each line."""
    with open_table(path) as file:
        rows = [(number, row[0]) for number, row in enumerate(csv.reader(file, delimiter="\t"), 1) if row]
    for number, clip_id in rows:
        if not re.fullmatch(NUMBER, clip_id):
            raise UsageError(f"{path}, line {number}: {clip_id!r} is no clip_id")
    return rows


_AUDIO = "https://mirg.city.ac.uk/datasets/magnatagatune/"
_INDEX = "https://raw.githubusercontent.com/jordipons/musicnn-training/master/data/index/mtt/"

DECLARATION = Declaration(
    id="mtt",
    title="MagnaTagATune",
    citation="Law et al., Evaluation of Algorithms Using Games: The Case of Music Tagging, ISMIR 2009; lists: Pons and "
    "Serra, musicnn, 2019 (arXiv 1909.06654)",
    licence="CC BY-NC-SA 3.0",
    remotes=(
        Remote(tuple(RemoteFile(f"{_AUDIO}mp3.zip.00{part}", f"mp3.zip.00{part}") for part in (1, 2, 3))),
        remote(f"{_AUDIO}annotations_final.csv"),
        *(remote(_INDEX + name) for name in _LISTS.values()),
    ),
    domain="music",
    task="multi_label",
    max_seconds=30,
    files=("annotations_final.csv", *_LISTS.values(), "*/*.mp3"),
    find_clips=find_clips,
    split=lambda clips: splits.official(clips, "train", "val", "test"),
    strict="MusiCNN's lists are used as they are",
    classes_official=50,
    notes=(
        "Several incompatible splits of MagnaTagATune circulate; this is that of MusiCNN's lists. Excerpts of one song "
        "or artist can be on both sides of it.",
        "Some mp3 files of the official release are empty or broken; they count as failed clips.",
    ),
)
