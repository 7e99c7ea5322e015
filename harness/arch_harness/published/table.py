"""The published scores of ARCH, as they ship in `arch.csv`, and where they come from."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

SOURCE = (
    "the results page of ARCH, https://huggingface.co/spaces/ALM/ARCH, of La Quatra et al., Benchmarking "
    "Representations for Speech, Music, and Acoustic Events, arXiv 2405.00934"
)
_FACTS = ("checkpoint", "size", "parameters_m", "source")


@dataclass(frozen=True)
class PublishedModel:
    """A checkpoint of the ARCH tables.

    Attributes:
        checkpoint: its id on the Hugging Face hub.
        size: as the tables group it: B for base, L for large, XL.
        parameters_m: of the encoder, in millions, about.
        scores: by the dataset's id, shares from 0 to 1: accuracy, or macro mAP where clips have several labels. What
            is not on file is missing.
        source: which state of `SOURCE` they were read from.
    """

    checkpoint: str
    size: str
    parameters_m: int
    scores: dict[str, float]
    source: str


@cache
def published_models() -> dict[str, PublishedModel]:
    """All checkpoints of the ARCH tables, by hub id, in their order; those of which no score is on file too."""
    with (files(__package__) / "arch.csv").open(encoding="utf-8") as file:
        return {
            row["checkpoint"]: PublishedModel(
                row["checkpoint"],
                row["size"],
                int(row["parameters_m"]),
                {name: float(text) / 100 for name, text in row.items() if name not in _FACTS and text},
                row["source"],
            )
            for row in csv.DictReader(file)
        }
