"""RAVDESS, the speech part: 1,440 sentences by 24 actors in 8 emotions.

Layout: `**/03-01-<emotion>-<intensity>-<statement>-<repetition>-<actor>.wav`. A random 20 % tests, then a random 20 %
of the rest validates.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from arch_harness.datasets import splits
from arch_harness.datasets.declaration import Clip, Counts, Declaration, Fold, Listing, StrictSplit
from arch_harness.datasets.download.remotes import zenodo
from arch_harness.datasets.listing import find_files, parse_names

_NAME = re.compile(r"03-01-(?P<emotion>0[1-8])-\d\d-\d\d-\d\d-(?P<actor>\d\d)\.wav", re.ASCII)
_ACTORS_A_FOLD = 6


def find_clips(folder: Path) -> Listing:
    """All speech files by sorted relative path; `group` is the actor."""
    found = [path for path in find_files(folder) if path.rsplit("/", 1)[-1].startswith("03-01-")]
    form = "03-01-<emotion>-<intensity>-<statement>-<repetition>-<actor>.wav"
    names = parse_names(found, _NAME, form)
    return Listing([Clip(path, (name["emotion"],), name["actor"], source=name["actor"]) for path, name in names])


def split_by_actor(clips: Sequence[Clip]) -> list[Fold]:
    """Four folds of six actors in the order of their numbers (odd ones are men, even ones women)."""
    grouped = [
        Clip(clip.path, clip.labels, f"actors {start + 1}-{start + _ACTORS_A_FOLD}", clip.source)
        for clip in clips
        for start in ((int(clip.group) - 1) // _ACTORS_A_FOLD * _ACTORS_A_FOLD,)
    ]
    order = [f"actors {start + 1}-{start + _ACTORS_A_FOLD}" for start in range(0, 24, _ACTORS_A_FOLD)]
    return splits.rotate_groups(grouped, order)


# Neutral (01) has no strong intensity, so half as many clips.
_EMOTIONS = {"01": 96} | {f"{emotion:02d}": 192 for emotion in range(2, 9)}

DECLARATION = Declaration(
    id="ravdess",
    title="RAVDESS speech",
    citation="Livingstone, Russo, The Ryerson Audio-Visual Database of Emotional Speech and Song (RAVDESS), PLoS ONE "
    "2018",
    licence="CC BY-NC-SA 4.0",
    remotes=(zenodo(1188976, "Audio_Speech_Actors_01-24.zip", "bc696df654c87fed845eb13823edef8a"),),
    domain="speech",
    task="single_label",
    max_seconds=5,
    files=("**/03-01-*.wav",),
    find_clips=find_clips,
    split=splits.random_test_and_validation,
    strict=StrictSplit(
        "actor-disjoint",
        "four folds of six actors each, three men and three women; validation is the next fold (wrapping).",
        split_by_actor,
    ),
    class_key=int,
    official=Counts(1440, {f"{actor:02d}": 60 for actor in range(1, 25)}, _EMOTIONS),
    classes_official=8,
    download_gb=0.2,
    notes=(
        "The split is random over clips, as in the ARCH reference: every actor is in training and test, so the score "
        "is too high for voices not heard before. --splits strict tests on other actors.",
    ),
)
