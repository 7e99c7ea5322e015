"""What all drawings share: their style, their files, and how they become SVG."""

from __future__ import annotations

import io
import re
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.figure import Figure

INK, FAINT = "#1F2328", "#6B7480"

_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: searchable, and in the reader's own fonts
    "svg.hashsalt": "arch",  # the same run gives the same file
    "text.parse_math": False,  # a name may hold dollar signs
    "font.size": 9,
    "figure.facecolor": "white",
    "figure.titlesize": 10,
    "figure.titleweight": "bold",
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.1,
    "figure.constrained_layout.hspace": 0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#AFB8C1",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E6E9ED",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.borderpad": 0,
    "legend.handlelength": 1.2,
    "legend.handleheight": 0.9,
    "legend.columnspacing": 1.4,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.color": "#AFB8C1",
    "ytick.color": "#AFB8C1",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}


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


@contextmanager
def styled() -> Iterator[None]:
    """Inside it, figures are drawn in the report's style."""
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # The reader's fonts draw the text; that a character is missing from ours does not matter.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


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
