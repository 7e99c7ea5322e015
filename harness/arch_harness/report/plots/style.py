"""How drawings look: colours, markers, fonts, lines."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import matplotlib

if TYPE_CHECKING:
    from collections.abc import Iterator

# Okabe and Ito's colours, which colour-blind readers tell apart, without the yellow that is lost on white. Colours and
# markers have no common period, so the first 56 models differ in at least one of them.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#1F2328", "#882255")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
QUEUE, COMPUTE, OTHERS = "#C9CED6", "#6B7480", "#DCE0E5"
INK, FAINT = "#1F2328", "#6B7480"

DARK = {
    "#ffffff": "#12171d", "#1f2328": "#e6edf3", "#6b7480": "#9aa4af", "#afb8c1": "#59636e", "#e6e9ed": "#28303a",
    "#eef0f2": "#20272f", "#c9ced6": "#4a525c", "#dce0e5": "#343c46",
    "#0072b2": "#4aa8e8", "#d55e00": "#f08040", "#009e73": "#2fc79b", "#cc79a7": "#e29bc3", "#e69f00": "#f0b53a",
    "#56b4e9": "#8fd0f5", "#882255": "#d76b9f",
}  # fmt: skip
"""What stands for each colour of a drawing on a dark page, by the colour as it stands in an SVG."""

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


@contextmanager
def styled() -> Iterator[None]:
    """Inside it, figures are drawn in the report's style."""
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # The reader's fonts draw the text; that a character is missing from ours does not matter.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def variable_of(colour: str) -> str:
    """The CSS variable that a page gives the value of a colour of `DARK`."""
    return f"--c{colour.lower().removeprefix('#')}"


def colour_and_marker(index: int) -> tuple[str, str]:
    """Of the model at `index`."""
    return _COLOURS[index % len(_COLOURS)], _MARKERS[index % len(_MARKERS)]
