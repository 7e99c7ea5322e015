"""`arch data info`: splits, durations and class balance of a dataset, as numbers and as a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from arch_common.files import whole_file

from arch_harness.datasets.audio_files.reader import READ_ERRORS, read_header

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arch_harness.datasets import Dataset

_READERS = 8
_MOST_BARS = 60


@dataclass(frozen=True)
class Info:
    """What the headers of the files and the labels say.

    Attributes:
        seconds: FP64 [readable clips], durations.
        formats: "wav 44100 Hz, 2 channels" -> clips.
        unreadable: clips whose header cannot be read.
        classes: label -> clips, in the order of the label ids; classes without clips included.
    """

    seconds: NDArray[np.float64]
    formats: dict[str, int]
    unreadable: int
    classes: dict[str, int]

    def quantiles(self, *shares: float) -> list[float]:
        """The durations in seconds that these shares of the readable clips do not exceed."""
        found: list[float] = np.quantile(self.seconds, shares).tolist()
        return found


def describe(dataset: Dataset, on_clip: Callable[[], None] = lambda: None) -> Info:
    """Read the header of every clip, and count where none tells how long it is."""
    seconds, formats, unreadable = [], Counter[str](), 0
    with ThreadPoolExecutor(_READERS) as readers:
        for header in readers.map(_header, (dataset.folder / clip.path for clip in dataset.clips)):
            on_clip()
            if header is None:
                unreadable += 1
            else:
                seconds.append(header[0])
                formats[header[1]] += 1
    counted = Counter(label for clip in dataset.clips for label in clip.labels)
    return Info(
        np.array(seconds),
        dict(formats.most_common()),
        unreadable,
        {label: counted[label] for label in dataset.classes},
    )


def _header(path: Path) -> tuple[float, str] | None:
    try:
        header = read_header(path)
    except READ_ERRORS:
        return None
    channels = "1 channel" if header.channels == 1 else f"{header.channels} channels"
    return header.seconds, f"{path.suffix[1:]} {header.rate} Hz, {channels}"


def draw(dataset: Dataset, info: Info, path: Path) -> None:
    """Write class balance and durations as a picture; the suffix of `path` (.svg, .png) gives the format."""
    from matplotlib.figure import Figure

    labels = sorted(info.classes, key=lambda label: -info.classes[label])
    shown = labels[:_MOST_BARS]
    figure = Figure(figsize=(11, max(3.0, 0.9 + 0.19 * len(shown))), layout="constrained")
    balance, durations = figure.subplots(1, 2)
    balance.barh(range(len(shown)), [info.classes[label] for label in shown], color="#4c72b0")
    balance.set_yticks(range(len(shown)), [label.replace("$", r"\$") for label in shown], fontsize=8)
    balance.invert_yaxis()
    rest = f" (the {len(shown)} largest of {len(labels)})" if len(labels) > len(shown) else ""
    balance.set(title=f"Clips per class{rest}", xlabel="clips", ylim=(len(shown) - 0.4, -0.6))
    limit = dataset.declaration.max_seconds
    if len(info.seconds):
        durations.hist(info.seconds, bins=40, range=(0, max(limit, info.seconds.max()) * 1.05), color="#4c72b0")
    durations.axvline(limit, color="#c44e52", linestyle="--", label=f"cut or padded to {limit:g} s")
    durations.set(title="Durations", xlabel="seconds", ylabel="clips")
    durations.legend()
    figure.suptitle(f"{dataset.declaration.title}: {len(dataset.clips):,} clips", fontweight="bold")
    for axes in (balance, durations):
        axes.spines[["top", "right"]].set_visible(False)
    with whole_file(path) as file:
        figure.savefig(file, format=path.suffix[1:].lower(), dpi=110)
