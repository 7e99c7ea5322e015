"""Datasets that tests make: empty files, a declaration that lists nothing, the demo's clips many times over."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from arch_harness.datasets.declaration import Declaration, Listing

CSV = ["path,label,split", "a.wav,cat,train", "b.wav,dog,train", "sub/c.wav,cat,val", "d.wav,dog,test"]
"""A manifest of the files that `manifest` makes."""


def touch(folder: Path, *paths: str) -> Path:
    """Create empty files; in reverse, because nothing may hang on the order in which a folder lists them."""
    for path in reversed(paths):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    return folder


def manifest(folder: Path, lines: list[str], name: str = "manifest.csv") -> Path:
    """A folder with four files and a manifest."""
    touch(folder, "a.wav", "b.wav", "sub/c.wav", "d.wav")
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def made_declaration() -> Declaration:
    """Of a dataset whose clips and folds the test brings itself."""
    return Declaration(
        id="made",
        title="Made",
        citation="none",
        licence="none",
        domain="other",
        task="single_label",
        max_seconds=1,
        files=(),
        find_clips=lambda _: Listing([]),
        split=lambda _: [],
    )


def repeat_clips(demo: Path, folder: Path, count: int) -> Path:
    """The demo dataset's clips over and over, as links: enough to be interrupted among."""
    (folder / "audio").mkdir(parents=True)
    (folder / "meta").mkdir()
    with (demo / "meta" / "esc50.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    with (folder / "meta" / "esc50.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(header)
        for index in range(count):
            name, *rest = rows[index % len(rows)]
            os.link(demo / "audio" / name, folder / "audio" / f"{index}.wav")
            table.writerow([f"{index}.wav", *rest])
    return folder
