"""FMA-small: 8,000 music excerpts of 30 s, 8 genres.

Layout: `fma_metadata/tracks.csv` (two header rows; `track/genre_top`) and `fma_small/<first three digits>/<six-digit
id>.mp3`. A random 20 % is held out, then halved into test and validation. Labels are encoded over all genres of
`tracks.csv` (16 in the official release, of which 8 occur among these tracks).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from arch_common.errors import UsageError

from arch_harness.datasets import splits
from arch_harness.datasets.declaration import Clip, Counts, Declaration, Fold, Listing, StrictSplit
from arch_harness.datasets.download.remotes import remote
from arch_harness.datasets.listing import NUMBER, find_files, open_table

_COLUMNS = (("set", "split"), ("set", "subset"), ("track", "genre_top"))


def find_clips(folder: Path) -> Listing:
    """Rows of the table in their order that have a genre and a file; `group` is the official split of FMA itself."""
    # Whatever the case of their suffix; a path has no other letters.
    files = {path.lower(): path for path in find_files(folder, "fma_small", ".mp3")}
    clips, genres, unused, missing = [], set(), set(), 0
    for track, split, subset, genre in _rows(folder / "fma_metadata" / "tracks.csv"):
        path = files.get(f"fma_small/{track[:3]}/{track}.mp3")
        if genre:
            genres.add(genre)
            if path is not None:
                clips.append(Clip(path, (genre,), split))
            missing += path is None and subset == "small"
        elif path is not None:
            unused.add(path)
    notes = (f"{missing:,} tracks of the small subset have no file; the split is drawn without them.",)
    return Listing(clips, sorted(genres), frozenset(unused), notes if missing else ())


def _rows(path: Path) -> Iterator[tuple[str, str, str, str]]:
    """Six-digit track id, split, subset and top genre (may be empty) of each track."""
    with open_table(path) as file:
        rows = csv.reader(file)
        header = list(zip(*islice(rows, 2), strict=False))
        if not set(_COLUMNS) <= set(header):
            wanted = ", ".join("/".join(column) for column in _COLUMNS)
            raise UsageError(f"{path}: its two header rows do not hold the columns {wanted}")
        places = [header.index(column) for column in _COLUMNS]
        for row in rows:
            if row and row[0] == "track_id":  # names the first column, as pandas writes it
                continue
            if len(row) != len(header) or not re.fullmatch(NUMBER, row[0]):
                raise UsageError(f"{path}, line {rows.line_num}: wants a track number and {len(header)} columns")
            split, subset, genre = (row[place] for place in places)
            yield f"{int(row[0]):06d}", split, subset, genre


def split(clips: Sequence[Clip]) -> list[Fold]:
    """80 % train; of the random 20 % held out, the first half that a second draw keeps tests, the other validates."""
    if len(clips) < 10:
        return []
    train, rest = splits.hold_out(range(len(clips)), 0.2)
    test, validation = splits.hold_out(rest.tolist(), 0.5)
    return [Fold("random", train, validation, test)]


_GENRES = ("Electronic", "Experimental", "Folk", "Hip-Hop", "Instrumental", "International", "Pop", "Rock")

DECLARATION = Declaration(
    id="fma_small",
    title="FMA-small",
    citation="Defferrard et al., FMA: A Dataset for Music Analysis, ISMIR 2017",
    licence="metadata CC BY 4.0; each track its artist's Creative Commons licence",
    remotes=(
        remote("https://os.unil.cloud.switch.ch/fma/fma_metadata.zip", "sha1:f0df49ffe5f2a6008d7dc83c6915b31835dfe733"),
        remote("https://os.unil.cloud.switch.ch/fma/fma_small.zip", "sha1:ade154f733639d52e35e32f5593efe5be76c6d70"),
    ),
    domain="music",
    task="single_label",
    max_seconds=30,
    files=("fma_metadata/tracks.csv", "fma_small/*/*.mp3"),
    find_clips=find_clips,
    split=split,
    strict=StrictSplit(
        "artist-disjoint",
        "the official split of FMA, which keeps the tracks of an artist together.",
        lambda clips: splits.official(clips, "training", "validation", "test"),
    ),
    official=Counts(8000, {"training": 6400, "validation": 800, "test": 800}, dict.fromkeys(_GENRES, 1000)),
    classes_official=16,
    download_gb=8.1,
    notes=(
        "The split is random over tracks, as in the ARCH reference: tracks of one artist are in training and test.",
        "The probe has one output for each genre in tracks.csv, also for those without a track in this subset.",
        "In the official release the tracks 099134, 108925 and 133297 hold no audio.",
    ),
)
