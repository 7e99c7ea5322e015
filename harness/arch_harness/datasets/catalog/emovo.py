"""EMOVO: 588 Italian sentences by 6 actors in 7 emotional states.

Layout: `EMOVO/<speaker>/<emotion>-<speaker>-<sentence>.wav`. Each speaker is tested on in turn; validation is a random
10 % of the other five.
"""

from __future__ import annotations

import re
from pathlib import Path

from arch_harness.datasets import splits
from arch_harness.datasets.declaration import Clip, Counts, Declaration, Listing, StrictSplit
from arch_harness.datasets.listing import find_files, parse_names

SPEAKERS = ("f1", "f2", "f3", "m1", "m2", "m3")
EMOTIONS = ("dis", "gio", "neu", "pau", "rab", "sor", "tri")
_NAME = re.compile(rf"(?P<emotion>{'|'.join(EMOTIONS)})-(?P<speaker>{'|'.join(SPEAKERS)})-(?P<sentence>\w+)\.wav")


def find_clips(folder: Path) -> Listing:
    """Speakers sorted, files of each sorted; `group` is the speaker."""
    names = parse_names(find_files(folder, "EMOVO"), _NAME, "<emotion>-<speaker>-<sentence>.wav")
    return Listing([Clip(path, (parts["emotion"],), parts["speaker"]) for path, parts in names])


DECLARATION = Declaration(
    id="emovo",
    title="EMOVO",
    citation="Costantini et al., EMOVO Corpus: an Italian Emotional Speech Database, LREC 2014",
    licence="on request from its authors; free for research",
    manual="EMOVO is given by its authors only. Ask them for it (Costantini et al., LREC 2014, names the address) and "
    "unpack it so that the folder holds EMOVO/<speaker>/<emotion>-<speaker>-<sentence>.wav for the speakers f1 f2 f3 "
    "m1 m2 m3.",
    domain="speech",
    task="single_label",
    max_seconds=5,
    files=("EMOVO/*/*.wav",),
    find_clips=find_clips,
    split=lambda clips: splits.leave_one_group_out(clips, 0.1),
    strict=StrictSplit(
        "speaker-disjoint validation",
        "validation is the next speaker (wrapping) in the order f1 f2 f3 m1 m2 m3.",
        splits.rotate_groups,
    ),
    official=Counts(588, dict.fromkeys(SPEAKERS, 98), dict.fromkeys(EMOTIONS, 84)),
    classes_official=7,
    notes=(
        "Validation clips are drawn at random from the training speakers, as in the ARCH reference. The probes linear "
        "and mlp choose nothing by them; logreg and knn choose on whole speakers held out.",
    ),
)
