"""SLURP: about 72,000 spoken commands to a home assistant, labelled with their intent.

Layout: `train.jsonl`, `devel.jsonl`, `test.jsonl`, one sentence a row with `intent` and `recordings[].file`;
`slurp_real/<file>`. Official splits.
"""

from __future__ import annotations

import json
from pathlib import Path

from arch_common.errors import UsageError

from arch_harness.datasets import splits
from arch_harness.datasets.declaration import Clip, Declaration, Listing
from arch_harness.datasets.download.remotes import remote, zenodo
from arch_harness.datasets.listing import find_files, open_table

_SPLITS = ("train", "devel", "test")


def find_clips(folder: Path) -> Listing:
    """Each recording of each row, in the order of the files; `group` is the split.

    A recording that is listed stays in the list when its file is absent: it becomes a failed clip.
    """
    clips = []
    for split in _SPLITS:
        path = folder / f"{split}.jsonl"
        with open_table(path) as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                    intent, files = str(row["intent"]), [str(recording["file"]) for recording in row["recordings"]]
                except (ValueError, KeyError, TypeError, RecursionError) as error:
                    raise UsageError(f"{path}, line {number}: wants JSON with intent and recordings[].file") from error
                clips += [Clip(f"slurp_real/{name}", (intent,), split) for name in files]
    return Listing(clips, unused=frozenset(find_files(folder, "slurp_synth", ".flac")))


_INDEX = "https://raw.githubusercontent.com/pswietojanski/slurp/master/dataset/slurp/"

DECLARATION = Declaration(
    id="slurp",
    title="SLURP",
    citation="Bastianelli et al., SLURP: A Spoken Language Understanding Resource Package, EMNLP 2020",
    licence="audio CC BY-NC 4.0; text CC BY 4.0",
    remotes=(zenodo(4274930, "slurp_real.tar.gz"), *(remote(f"{_INDEX}{split}.jsonl") for split in _SPLITS)),
    domain="speech",
    task="single_label",
    max_seconds=10,
    files=(*(f"{split}.jsonl" for split in _SPLITS), "slurp_real/*.flac"),
    find_clips=find_clips,
    split=lambda clips: splits.official(clips, "train", "devel", "test"),
    strict="the rows do not name the speakers",
    download_gb=3.9,
    notes=(
        "The official split is by sentence: speakers are in training and test.",
        "The intent of a few rows names the action only; it is taken as it stands.",
        "In some releases listed recordings are absent; they count as failed clips.",
    ),
)
