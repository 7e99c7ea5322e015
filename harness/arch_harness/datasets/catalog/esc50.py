"""ESC-50: 2,000 environmental recordings of 5 s in 50 classes.

Layout: `meta/esc50.csv` (filename, fold, target, category, esc10, src_file, take) and `audio/*.wav`. Five official
folds, each of which keeps the clips of a source recording together; validation is a random 20 % of the other four.
"""

from __future__ import annotations

from pathlib import Path

from arch_harness.datasets import splits
from arch_harness.datasets.declaration import Clip, Counts, Declaration, Listing, StrictSplit
from arch_harness.datasets.download.remotes import github_archive
from arch_harness.datasets.listing import NUMBER, TEXT, read_rows


def find_clips(folder: Path) -> Listing:
    """The rows of the CSV in their order; `group` is the official fold."""
    rows = read_rows(folder / "meta" / "esc50.csv", {"filename": TEXT, "fold": NUMBER, "target": NUMBER})
    return Listing([Clip(f"audio/{filename}", (target,), fold) for filename, fold, target in rows])


DECLARATION = Declaration(
    id="esc50",
    title="ESC-50",
    citation="Piczak, ESC: Dataset for Environmental Sound Classification, ACM Multimedia 2015",
    licence="CC BY-NC 3.0",
    remotes=(github_archive("karolpiczak/ESC-50"),),
    domain="events",
    task="single_label",
    max_seconds=5,
    files=("meta/esc50.csv", "audio/*.wav"),
    find_clips=find_clips,
    split=lambda clips: splits.leave_one_group_out(clips, 0.2, int),
    strict=StrictSplit(
        "source-disjoint validation",
        "validation is the next official fold (wrapping), so it shares no source recording with the training clips.",
        lambda clips: splits.rotate_groups(clips, sorted(splits.members(clips), key=int)),
    ),
    class_key=int,
    official=Counts(2000, {str(fold): 400 for fold in range(1, 6)}, {str(target): 40 for target in range(50)}),
    classes_official=50,
    download_gb=0.6,
    notes=(
        "Validation clips are drawn at random from the training folds, as in the ARCH reference; they can share a "
        "source recording with training clips. The probes linear and mlp choose nothing by them; logreg and knn "
        "choose on whole folds held out.",
    ),
)
