"""FSD50K: 51,197 Freesound clips with labels from 200 AudioSet classes.

Layout: `FSD50K.ground_truth/dev.csv` (fname, labels, mids, split) and `eval.csv` (fname, labels, mids);
`FSD50K.dev_audio/<fname>.wav` and `FSD50K.eval_audio/<fname>.wav`. Official train, val and eval.
"""

from __future__ import annotations

from pathlib import Path

from arch_harness.datasets import splits
from arch_harness.datasets.declaration import Clip, Counts, Declaration, Listing
from arch_harness.datasets.download.remotes import Remote, zenodo, zenodo_file
from arch_harness.datasets.listing import NUMBER, read_rows

_RECORD = 4060432
# Separated by commas, none of them empty.
_LABELS = r"[^,\s]+(,[^,\s]+)*"


def find_clips(folder: Path) -> Listing:
    """Rows of dev.csv, then of eval.csv; `group` is train, val or eval."""
    truth = folder / "FSD50K.ground_truth"
    development = read_rows(truth / "dev.csv", {"fname": NUMBER, "labels": _LABELS, "split": "train|val"})
    clips = [
        Clip(f"FSD50K.dev_audio/{fname}.wav", tuple(labels.split(",")), split) for fname, labels, split in development
    ]
    for fname, labels in read_rows(truth / "eval.csv", {"fname": NUMBER, "labels": _LABELS}):
        clips.append(Clip(f"FSD50K.eval_audio/{fname}.wav", tuple(labels.split(",")), "eval"))
    return Listing(clips)


_DEVELOPMENT = (
    ("z01", "faa7cf4cc076fc34a44a479a5ed862a3"),
    ("z02", "8f9b66153e68571164fb1315d00bc7bc"),
    ("z03", "1196ef47d267a993d30fa98af54b7159"),
    ("z04", "d088ac4e11ba53daf9f7574c11cccac9"),
    ("z05", "81356521aa159accd3c35de22da28c7f"),
    ("zip", "c480d119b8f7a7e32fdb58f3ea4d6c5a"),
)
_EVALUATION = (("z01", "3090670eaeecc013ca1ff84fe4442aeb"), ("zip", "6fa47636c3a3ad5c7dfeba99f2637982"))

DECLARATION = Declaration(
    id="fsd50k",
    title="FSD50K",
    citation="Fonseca et al., FSD50K: an Open Dataset of Human-Labeled Sound Events, IEEE/ACM TASLP 2022",
    licence="CC BY 4.0; each clip its own Creative Commons licence",
    remotes=(
        Remote(tuple(zenodo_file(_RECORD, f"FSD50K.dev_audio.{part}", md5) for part, md5 in _DEVELOPMENT)),
        Remote(tuple(zenodo_file(_RECORD, f"FSD50K.eval_audio.{part}", md5) for part, md5 in _EVALUATION)),
        zenodo(_RECORD, "FSD50K.ground_truth.zip", "ca27382c195e37d2269c4c866dd73485"),
    ),
    domain="events",
    task="multi_label",
    max_seconds=10,
    files=(
        "FSD50K.ground_truth/dev.csv",
        "FSD50K.ground_truth/eval.csv",
        "FSD50K.dev_audio/*.wav",
        "FSD50K.eval_audio/*.wav",
    ),
    find_clips=find_clips,
    split=lambda clips: splits.official(clips, "train", "val", "eval"),
    strict="the official split keeps the clips of an uploader together",
    official=Counts(51197, {"train": 36796, "val": 4170, "eval": 10231}),
    classes_official=200,
    download_gb=24.7,
    notes=("Clips run from 0.3 to 30 s; what comes after 10 s is not heard, though its labels count.",),
)
