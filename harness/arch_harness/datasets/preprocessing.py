"""What may be done to a clip before it is sent: as the ARCH protocol has it, or in one thing otherwise."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

RMS_LEVEL_DB = -20.0
"""Of full scale: loud enough that 16 bits matter nowhere, and seldom beyond 1 for speech and music."""

# transformers' own, inside the root: a silent clip stays silent.
_EPSILON = 1e-7


@dataclass(frozen=True)
class Preprocessing:
    """How a clip is made out of a file. The defaults are those of the ARCH protocol.

    Attributes:
        quality: soxr's name of its resampler: QQ is cubic interpolation, the others are band-limited.
        loudness: `peak` scales each clip until its largest sample is 1, `rms` to `RMS_LEVEL_DB`; neither clips.
        part: which seconds of a longer file are kept.
        share: of the dataset's longest clip; the rest is zeros, as the padding of a shorter clip is.
        normalised: zero mean and unit variance of the clip's own samples, as transformers' Wav2Vec2FeatureExtractor
            makes them of a clip that it does not pad.
    """

    quality: Literal["QQ", "LQ", "MQ", "HQ", "VHQ"] = "HQ"
    loudness: Literal["file", "peak", "rms"] = "file"
    part: Literal["first", "centre"] = "first"
    share: float = 1.0
    normalised: bool = False

    @property
    def key(self) -> str:
        """What differs from the defaults, in words that name embeddings: empty where nothing does."""
        usual = asdict(Preprocessing())
        words = [f"{name} {value}" for name, value in asdict(self).items() if value != usual[name]]
        if self.loudness == "rms":
            words.append(f"{RMS_LEVEL_DB:g} dBFS")
        return ", ".join(words)

    def cut(self, clip: NDArray[np.float32], samples: int) -> NDArray[np.float32]:
        """The part that is kept of a clip FP32 [n], of whose dataset the longest has so many samples."""
        kept = max(1, round(self.share * samples))
        start = max(0, (len(clip) - kept) // 2) if self.part == "centre" else 0
        return clip[start : start + kept]

    def scale(self, clip: NDArray[np.float32]) -> NDArray[np.float32]:
        """The values of a clip FP32 [n], n > 0, at the level asked for; a silent clip stays as it is."""
        if self.loudness == "file" and not self.normalised:
            return clip
        wide = clip.astype(np.float64)
        if self.loudness == "peak":
            wide /= np.abs(wide).max() or 1.0
        elif self.loudness == "rms":
            wide *= 10 ** (RMS_LEVEL_DB / 20) / (np.sqrt(np.mean(wide**2)) or 1.0)
        if self.normalised:
            wide = (wide - wide.mean()) / np.sqrt(wide.var() + _EPSILON)
        scaled: NDArray[np.float32] = wide.astype(np.float32)
        return scaled


USUAL = Preprocessing()
"""The protocol's."""
