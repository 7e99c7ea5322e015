"""Drawings as files: their names, and how they become SVG."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Plot:
    """A drawing: its file name, a text alternative, the SVG, and whether it needs a page's whole width."""

    file: str
    label: str
    svg: str
    wide: bool = False


@dataclass(frozen=True)
class PlotGroup:
    """The drawings that answer one question, one per dataset."""

    title: str
    text: str
    plots: list[Plot]


def file_names(kind: str, datasets: Sequence[str]) -> list[str]:
    """A file name for each dataset's drawing of a kind."""
    stems = [re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower() or "dataset" for name in datasets]
    names = []
    for index, stem in enumerate(stems):
        # Two names may differ only in what a file name leaves out.
        suffix = f"-{index + 1}" if stems.count(stem) > 1 else ""
        names.append(f"{kind}-{stem}{suffix}.svg")
    return names


def as_svg(figure: Figure) -> str:
    """The figure as the text of an SVG file, the same for the same figure."""
    # Once the layout is made it is taken away: with one, matplotlib draws everything twice.
    if (layout := figure.get_layout_engine()) is not None:
        layout.execute(figure)
        figure.set_layout_engine(None)
    buffer = io.BytesIO()
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=metadata)
    return buffer.getvalue().decode("utf-8")
