"""Audio files to waveforms: decode, mix to mono, resample, cut. Padding is added when a clip is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import soundfile
import soxr

from arch_harness.datasets.audio_files.reader import READ_ERRORS, read_blocks, read_start
from arch_harness.datasets.preprocessing import USUAL

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from arch_harness.datasets.preprocessing import Preprocessing


# What is read beyond the cut: it keeps the resampler's filter from seeing an end that is not there.
_MARGIN_S = 0.1
# To be raised with every change here that gives other samples: stored embeddings are of the old ones.
_VERSION = 2

LARGEST_SAMPLE = 4.0
"""Where full scale is 1. Lossy decoders and floating-point mixes go beyond 1; this far only what was never scaled."""


def decoder() -> str:
    """What the samples of a clip depend on beside its file; another one may give other samples."""
    return f"arch {_VERSION}, libsndfile {soundfile.__libsndfile_version__}, soxr {soxr.__version__}"


class DecodeError(Exception):
    """A file that gives no audio; the message says why."""


def load_clip(
    path: Path, sample_rate: int, max_seconds: float, preprocessing: Preprocessing = USUAL
) -> NDArray[np.float32]:
    """Decode a file as the ARCH protocol does: average the channels, resample, truncate.

    Args:
        path: an audio file of any format that libsndfile reads.
        sample_rate: of the result, in Hz.
        max_seconds: what comes later in the file is not read.
        preprocessing: what is done otherwise.

    Returns:
        FP32 [samples], at most `max_seconds * sample_rate` of them and at least one. Full scale is 1; what a file of
        floating-point samples holds beyond that stays as it is.

    Raises:
        DecodeError: if the file is missing, cannot be decoded or holds no audio.
    """
    decoded = decode_clip(path, max_seconds, preprocessing)
    return resample_clip(*decoded, sample_rate, max_seconds, preprocessing)


def decode_clip(
    path: Path, max_seconds: float, preprocessing: Preprocessing = USUAL
) -> tuple[NDArray[np.float32], int]:
    """Decode what `load_clip` needs of a file and average its channels: FP32 [samples] and their rate in Hz.

    Raises:
        DecodeError: if the file is missing or cannot be decoded.
    """
    try:
        # The centre is known once the end is.
        parts = read_start(path, max_seconds + _MARGIN_S) if preprocessing.part == "first" else _whole(path)
    except READ_ERRORS as error:
        raise DecodeError(decode_reason(path, error)) from error
    (frames, rate), *others = parts
    clip = _mix(frames)
    if others:
        quality = preprocessing.quality
        clip = np.concatenate([clip, *(_resample(_mix(more), its_rate, rate, quality) for more, its_rate in others)])
    return clip, rate


def _whole(path: Path) -> list[tuple[NDArray[np.float32], int]]:
    """All of a file as `read_start` gives its start: a part for each run of blocks of one rate and so many channels."""
    parts: list[tuple[list[NDArray[np.float32]], int]] = []
    for block, rate in read_blocks(path):
        if not parts or parts[-1][1] != rate or parts[-1][0][0].shape[1] != block.shape[1]:
            parts.append(([], rate))
        parts[-1][0].append(block)
    return [(np.concatenate(blocks), rate) for blocks, rate in parts]


def _mix(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    channels = frames.shape[1]
    # A product, because NumPy's mean over so short an axis takes thirty times as long: more than decoding does.
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is told later
        return frames[:, 0] if channels == 1 else frames @ np.full(channels, 1 / channels, dtype=np.float32)


def _resample(clip: NDArray[np.float32], source_rate: int, rate: int, quality: str) -> NDArray[np.float32]:
    resampled: NDArray[np.float32] = (
        clip if source_rate == rate else soxr.resample(clip, source_rate, rate, quality=quality)
    )
    return resampled


def resample_clip(
    clip: NDArray[np.float32],
    source_rate: int,
    sample_rate: int,
    max_seconds: float,
    preprocessing: Preprocessing = USUAL,
) -> NDArray[np.float32]:
    """The rest of `load_clip`: resample, truncate and scale what `decode_clip` gave.

    Raises:
        DecodeError: if nothing is left, or not all of it is finite.
    """
    clip = _resample(clip, source_rate, sample_rate, preprocessing.quality)
    clip = preprocessing.cut(clip, round(max_seconds * sample_rate))
    if len(clip) == 0:
        raise DecodeError("holds no audio")
    if not np.isfinite(clip).all():
        raise DecodeError("holds samples that are not finite")
    result: NDArray[np.float32] = np.ascontiguousarray(preprocessing.scale(clip), dtype=np.float32)
    return result


def is_beyond_full_scale(clip: NDArray[np.float32]) -> bool:
    """Whether a clip FP32 [n], n > 0, has samples beyond `LARGEST_SAMPLE` in either direction."""
    return bool(clip.max() > LARGEST_SAMPLE or clip.min() < -LARGEST_SAMPLE)


def decode_reason(path: Path, error: Exception) -> str:
    """Why libsndfile could not read a file, in words that fit behind its path."""
    try:
        if not path.exists():
            return "no such file"
        if not path.is_file():
            return "is not a file"
        if path.stat().st_size == 0:
            return "is empty"
    except OSError as problem:  # of its name, or of a folder above it
        return f"cannot be read: {problem.strerror}"
    # libsndfile's own words, without the path that soundfile puts before them.
    text = (getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)).strip().rstrip(".")
    if text.startswith("File does not exist"):  # what it says of an mp3 file without a single frame
        text = "no audio in it"
    return f"cannot be decoded: {text}"


def pad_clip(clip: NDArray[np.float32], samples: int) -> NDArray[np.float32]:
    """Zero-pad a clip FP32 [n] at the end to FP32 [samples]."""
    padded = np.zeros(samples, dtype=np.float32)
    padded[: len(clip)] = clip
    return padded
