"""AudioMNIST: 30,000 recordings of the digits 0 to 9 by 60 speakers.

Layout: `data/<speaker>/<digit>_<speaker>_<take>.wav`. Five folds of 12 speakers; the validation fold is the one after
the test fold, wrapping.
"""

from __future__ import annotations

import re
from pathlib import Path

from arch_common.errors import UsageError

from arch_harness.datasets import splits
from arch_harness.datasets.declaration import Clip, Counts, Declaration, Listing
from arch_harness.datasets.download.remotes import github_archive
from arch_harness.datasets.listing import find_files, parse_names

# Speaker ids of each fold, from the AudioMNIST authors' digit-classification splits as the ARCH reference uses them.
SPEAKER_FOLDS: tuple[tuple[int, ...], ...] = (
    (12, 47, 59, 15, 27, 41, 4, 11, 21, 31, 44, 50),
    (26, 52, 60, 18, 32, 42, 5, 13, 22, 33, 45, 51),
    (28, 56, 7, 19, 35, 1, 6, 16, 23, 34, 46, 53),
    (36, 57, 9, 24, 37, 2, 8, 17, 29, 39, 48, 54),
    (43, 58, 14, 25, 38, 3, 10, 20, 30, 40, 49, 55),
)
_FOLD_OF_SPEAKER = {speaker: str(fold) for fold, speakers in enumerate(SPEAKER_FOLDS) for speaker in speakers}
_NAME = re.compile(r"(?P<digit>[0-9])_(?P<speaker>[0-9]+)_(?P<take>[0-9]+)\.wav")


def find_clips(folder: Path) -> Listing:
    """All recordings by sorted relative path; `group` is the fold of the speaker.

    Raises:
        UsageError: for a speaker who is in none of the official folds.
    """
    clips = []
    for path, parts in parse_names(find_files(folder, "data"), _NAME, "<digit>_<speaker>_<take>.wav"):
        fold = _FOLD_OF_SPEAKER.get(int(parts["speaker"]))
        if fold is None:
            raise UsageError(f"audio_mnist: {path} is of speaker {parts['speaker']}, who is in none of the 5 folds")
        clips.append(Clip(path, (parts["digit"],), fold))
    return Listing(clips)


DECLARATION = Declaration(
    id="audio_mnist",
    title="AudioMNIST",
    citation="Becker et al., AudioMNIST: Exploring Explainable Artificial Intelligence for Audio Analysis on a Simple "
    "Benchmark, 2024 (arXiv 1807.03418)",
    licence="MIT",
    remotes=(github_archive("soerenab/AudioMNIST"),),
    domain="speech",
    task="single_label",
    max_seconds=5,
    files=("data/*/*.wav",),
    find_clips=find_clips,
    split=lambda clips: splits.rotate_groups(clips, [str(fold) for fold in range(len(SPEAKER_FOLDS))]),
    strict="ARCH's folds are by speaker already",
    official=Counts(
        30000, {str(fold): 6000 for fold in range(len(SPEAKER_FOLDS))}, {str(digit): 3000 for digit in range(10)}
    ),
    classes_official=10,
    download_gb=1.0,
)
