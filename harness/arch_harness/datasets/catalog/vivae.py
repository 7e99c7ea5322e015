"""VIVAE: 1,085 non-verbal vocalisations of 6 emotions by 11 speakers.

Layout: `full_set/S<speaker>_<emotion>_<intensity>_<take>.wav`; the release's `core_set` repeats some of them and is not
used. Each speaker is tested on in turn; the next one (wrapping) is the validation set.
"""

from __future__ import annotations

import re
from pathlib import Path

from arch_harness.datasets import splits
from arch_harness.datasets.declaration import Clip, Counts, Declaration, Listing
from arch_harness.datasets.download.remotes import zenodo
from arch_harness.datasets.listing import find_files, parse_names

_NAME = re.compile(r"S(?P<speaker>[0-9]+)_(?P<emotion>[a-z]+)_(?P<intensity>[a-z]+)_(?P<take>[0-9]+)\.wav")


def find_clips(folder: Path) -> Listing:
    """All files of `full_set` by sorted name; `group` is the speaker."""
    names = parse_names(find_files(folder, "full_set"), _NAME, "S<speaker>_<emotion>_<intensity>_<take>.wav")
    clips = [Clip(path, (parts["emotion"],), parts["speaker"]) for path, parts in names]
    return Listing(clips, unused=frozenset(find_files(folder, "core_set")))


DECLARATION = Declaration(
    id="vivae",
    title="VIVAE",
    citation="Holz, Larrouy-Maestri, Poeppel, The Variably Intense Vocalizations of Affect and Emotion (VIVAE) corpus "
    "prompts new perspective on nonspeech perception, Emotion 2022",
    licence="CC BY-NC-SA 4.0",
    remotes=(zenodo(4066235, "VIVAE.zip", strip_root=True),),
    domain="events",
    task="single_label",
    max_seconds=5,
    files=("full_set/*.wav",),
    find_clips=find_clips,
    split=lambda clips: splits.rotate_groups(clips, sorted(splits.members(clips), key=int)),
    strict="ARCH's split is by speaker already",
    official=Counts(1085),
    classes_official=6,
)
