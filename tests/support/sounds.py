"""Audio files made in a test, and taken apart again: without the code that is to read them."""

from __future__ import annotations

import io
import struct

import numpy as np
import soundfile
from numpy.typing import NDArray

ENCODER_DELAY = 1105
"""Samples in front that LAME's header tells a decoder to leave out: its own 576, and 529 of the decoder."""

_BITRATES = {
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def tone(frequency: float, seconds: float, rate: int, channels: int = 1) -> NDArray[np.float32]:
    """A tone of amplitude 0.5 that starts with a burst of noise: FP32 [samples, channels], all channels alike.

    Where the bitrate varies, the noise takes a high one and the tone a low one.
    """
    samples = 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)
    noise = rate // 4
    samples[:noise] += 0.2 * np.random.default_rng(0).standard_normal(noise).clip(-2, 2)
    return np.repeat(samples[:, None], channels, axis=1).astype(np.float32)


def encode(samples: NDArray[np.float32], rate: int, container: str, subtype: str, **options: object) -> bytes:
    """A file as libsndfile writes it."""
    content = io.BytesIO()
    channels = samples.shape[1]
    with soundfile.SoundFile(content, "w", rate, channels, format=container, subtype=subtype, **options) as file:
        for start in range(0, len(samples), rate):  # libsndfile crashes on long Vorbis writes
            file.write(samples[start : start + rate])
    return content.getvalue()


def encode_mp3(samples: NDArray[np.float32], rate: int, variable: bool = True) -> bytes:
    """An mp3 file with LAME's header."""
    mode = "VARIABLE" if variable else "CONSTANT"
    level = 0.1 if variable else 0.5
    return encode(samples, rate, "MP3", "MPEG_LAYER_III", bitrate_mode=mode, compression_level=level)


def mp3_frames(data: bytes) -> list[bytes]:
    """The frames of a file of Layer III that has nothing else in it; the first is the encoder's header."""
    frames, at = [], 0
    while at < len(data):
        (header,) = struct.unpack_from(">I", data, at)
        assert header >> 21 == 0x7FF, at
        version = header >> 19 & 3
        bits = 1000 * _BITRATES[1 if version == 3 else 2][header >> 12 & 15]
        length = (144 if version == 3 else 72) * bits // _RATES[version][header >> 10 & 3] + (header >> 9 & 1)
        frames.append(data[at : at + length])
        at += length
    return frames


def declare_frames(data: bytes, frames: int) -> bytes:
    """An mp3 file whose header declares another number of frames."""
    at = max(data.find(b"Xing"), data.find(b"Info")) + 8
    return data[:at] + struct.pack(">I", frames) + data[at + 4 :]


def ogg_pages(data: bytes) -> list[bytes]:
    """The pages of an Ogg file."""
    pages, at = [], 0
    while at < len(data):
        segments = data[at + 26]
        length = 27 + segments + sum(data[at + 27 : at + 27 + segments])
        pages.append(data[at : at + length])
        at += length
    return pages


def forget_flac_length(data: bytes) -> bytes:
    """A FLAC as it comes out of a pipe: its header says that the number of samples is not known."""
    assert data.startswith(b"fLaC\0")
    return data[:21] + bytes([data[21] & 0xF0]) + bytes(4) + data[26:]
