"""UrbanSound8K: 8,732 excerpts of up to 4 s of 10 kinds of city sound.

Layout: `metadata/UrbanSound8K.csv` (slice_file_name, fsID, start, end, salience, fold, classID, class) and
`audio/fold<k>/*.wav`. Ten official folds, each of which keeps the slices of a source recording together; validation
is a random 20 % of the other nine.
"""

from __future__ import annotations

from pathlib import Path

from arch_harness.datasets import splits
from arch_harness.datasets.declaration import Clip, Counts, Declaration, Listing, StrictSplit
from arch_harness.datasets.download.remotes import zenodo
from arch_harness.datasets.listing import NUMBER, TEXT, read_rows


def find_clips(folder: Path) -> Listing:
    """The rows of the CSV in their order; `group` is the official fold."""
    table = folder / "metadata" / "UrbanSound8K.csv"
    rows = read_rows(table, {"slice_file_name": TEXT, "fold": NUMBER, "classID": NUMBER})
    return Listing([Clip(f"audio/fold{fold}/{name}", (class_id,), fold) for name, fold, class_id in rows])


_FOLDS = (873, 888, 925, 990, 936, 823, 838, 806, 816, 837)
# air_conditioner, car_horn, children_playing, dog_bark, drilling, engine_idling, gun_shot, jackhammer, siren,
# street_music
_CLASSES = (1000, 429, 1000, 1000, 1000, 1000, 374, 1000, 929, 1000)

DECLARATION = Declaration(
    id="us8k",
    title="UrbanSound8K",
    citation="Salamon, Jacoby, Bello, A Dataset and Taxonomy for Urban Sound Research, ACM Multimedia 2014",
    licence="CC BY-NC 3.0",
    remotes=(zenodo(1203745, "UrbanSound8K.tar.gz", "9aa69802bbf37fb986f71ec1483a196e", strip_root=True),),
    domain="events",
    task="single_label",
    max_seconds=5,
    files=("metadata/UrbanSound8K.csv", "audio/fold*/*.wav"),
    find_clips=find_clips,
    split=lambda clips: splits.leave_one_group_out(clips, 0.2, int),
    strict=StrictSplit(
        "source-disjoint validation",
        "validation is the next official fold (wrapping), so it shares no source recording with the training clips.",
        lambda clips: splits.rotate_groups(clips, sorted(splits.members(clips), key=int)),
    ),
    class_key=int,
    official=Counts(
        8732,
        {str(fold): count for fold, count in enumerate(_FOLDS, 1)},
        {str(class_id): count for class_id, count in enumerate(_CLASSES)},
    ),
    classes_official=10,
    download_gb=6.0,
    notes=(
        "Validation clips are drawn at random from the training folds, as in the ARCH reference; many are slices of "
        "the same recording as training clips. The probes linear and mlp choose nothing by them; logreg and knn "
        "choose on whole folds held out.",
    ),
)
