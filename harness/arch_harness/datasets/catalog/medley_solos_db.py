"""Medley-solos-DB: 21,571 clips of 3 s of 8 solo instruments.

Layout: `Medley-solos-DB_metadata.csv` (subset, instrument, instrument_id, song_id, uuid4) and
`audio/Medley-solos-DB_<subset>-<instrument_id>_<uuid4>.wav`. Official training, validation and test, without common
artists.
"""

from __future__ import annotations

from pathlib import Path

from arch_harness.datasets import splits
from arch_harness.datasets.declaration import Clip, Counts, Declaration, Listing
from arch_harness.datasets.download.remotes import zenodo
from arch_harness.datasets.listing import NUMBER, TEXT, read_rows

_TABLE = "Medley-solos-DB_metadata.csv"


def find_clips(folder: Path) -> Listing:
    """The rows of the CSV in their order; `group` is the official subset."""
    columns = {"subset": "training|validation|test", "instrument_id": NUMBER, "uuid4": TEXT}
    clips = []
    for subset, instrument, uuid in read_rows(folder / _TABLE, columns):
        clips.append(Clip(f"audio/Medley-solos-DB_{subset}-{instrument}_{uuid}.wav", (instrument,), subset))
    return Listing(clips)


DECLARATION = Declaration(
    id="medley_solos_db",
    title="Medley-solos-DB",
    citation="Lostanlen, Cella, Deep Convolutional Networks on the Pitch Spiral for Musical Instrument Recognition, "
    "ISMIR 2016",
    licence="CC BY 4.0",
    remotes=(
        zenodo(3464194, "Medley-solos-DB.tar.gz", "f5facf398793ef5c1f80c013afdf3e5f", destination="audio"),
        # The audio and this table are in two records.
        zenodo(2582103, _TABLE),
    ),
    domain="music",
    task="single_label",
    max_seconds=3,
    files=(_TABLE, "audio/*.wav"),
    find_clips=find_clips,
    split=lambda clips: splits.official(clips, "training", "validation", "test"),
    strict="the official split is by artist already",
    class_key=int,
    official=Counts(21571, {"training": 5841, "validation": 3494, "test": 12236}),
    classes_official=8,
    download_gb=7.9,
    notes=("The table and the audio come from two different Zenodo records (2582103 and 3464194).",),
)
