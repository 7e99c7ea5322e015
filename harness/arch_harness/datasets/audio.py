"""Audio files to waveforms: decode, mix to mono, resample, cut. Padding is added when a clip is sent."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import soxr

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


# What is read beyond the cut: it keeps the resampler's filter from seeing an end that is not there.
_MARGIN_S = 0.1
# To be raised with every change here that gives other samples: stored embeddings are of the old ones.
_VERSION = 1


def decoder() -> str:
    """What the samples of a clip depend on beside its file; another one may give other samples."""
    return f"arch {_VERSION}, libsndfile {soundfile.__libsndfile_version__}, soxr {soxr.__version__}"


class DecodeError(Exception):
    """A file that gives no audio; the message says why."""


def load_clip(path: Path, sample_rate: int, max_seconds: float) -> NDArray[np.float32]:
    """Decode a file as the ARCH protocol does: average the channels, resample, truncate.

    Args:
        path: an audio file of any format that libsndfile reads.
        sample_rate: of the result, in Hz.
        max_seconds: what comes later in the file is not read.

    Returns:
        FP32 [samples] in [-1, 1]; at most `max_seconds * sample_rate` samples and at least one.

    Raises:
        DecodeError: if the file is missing, cannot be decoded or holds no audio.
    """
    return resample_clip(*decode_clip(path, max_seconds), sample_rate, max_seconds)


def decode_clip(path: Path, max_seconds: float) -> tuple[NDArray[np.float32], int]:
    """Decode what `load_clip` needs of a file and average its channels: FP32 [samples] and their rate in Hz.

    Raises:
        DecodeError: if the file is missing or cannot be decoded.
    """
    try:
        with soundfile.SoundFile(path) as file:
            frames = file.read(math.ceil((max_seconds + _MARGIN_S) * file.samplerate), dtype="float32", always_2d=True)
            source_rate = int(file.samplerate)
    except (soundfile.LibsndfileError, OSError) as error:
        raise DecodeError(decode_reason(path, error)) from error
    channels = frames.shape[1]
    # A product, because NumPy's mean over so short an axis takes thirty times as long: more than decoding does.
    return frames[:, 0] if channels == 1 else frames @ np.full(channels, 1 / channels, dtype=np.float32), source_rate


def resample_clip(
    clip: NDArray[np.float32], source_rate: int, sample_rate: int, max_seconds: float
) -> NDArray[np.float32]:
    """The rest of `load_clip`: resample and truncate what `decode_clip` gave.

    Raises:
        DecodeError: if nothing is left, or not all of it is finite.
    """
    if source_rate != sample_rate:
        clip = soxr.resample(clip, source_rate, sample_rate, quality="HQ")
    clip = clip[: round(max_seconds * sample_rate)]
    if len(clip) == 0:
        raise DecodeError("holds no audio")
    if not np.isfinite(clip).all():
        raise DecodeError("holds samples that are not finite")
    result: NDArray[np.float32] = np.ascontiguousarray(clip, dtype=np.float32)
    return result


def decode_reason(path: Path, error: Exception) -> str:
    """Why libsndfile could not read a file, in words that fit behind its path."""
    if not path.exists():
        return "no such file"
    if path.is_file() and path.stat().st_size == 0:
        return "is empty"
    # libsndfile's own words, without the path that soundfile puts before them.
    text = (getattr(error, "error_string", None) or str(error)).strip().rstrip(".")
    if text.startswith("File does not exist"):  # what it says of an mp3 file without a single frame
        text = "no audio in it"
    return f"cannot be decoded: {text}"


def pad_clip(clip: NDArray[np.float32], samples: int) -> NDArray[np.float32]:
    """Zero-pad a clip FP32 [n] at the end to FP32 [samples]."""
    padded = np.zeros(samples, dtype=np.float32)
    padded[: len(clip)] = clip
    return padded
