"""Audio files with damaged headers: a clip or a reason in one line, never another error and never a hang."""

from __future__ import annotations

import functools
from contextlib import suppress

import numpy as np
import pytest
from arch_harness.datasets.audio import DecodeError, load_clip
from arch_harness.datasets.audio_files.reader import READ_ERRORS, find_lack, read_blocks, read_header
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.sounds import encode, encode_mp3, forget_flac_length, mp3_frames, tone

RATE, SECONDS = 16000, 5
FORMATS = (
    ("WAV", "PCM_16"),
    ("WAV", "FLOAT"),
    ("WAV", "IMA_ADPCM"),
    ("WAV", "GSM610"),
    ("WAVEX", "PCM_24"),
    ("RF64", "PCM_16"),
    ("W64", "PCM_16"),
    ("AIFF", "PCM_16"),
    ("AIFF", "DOUBLE"),
    ("AU", "FLOAT"),
    ("CAF", "ALAC_16"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
)
# What counts and lengths are cut off at, by whoever reads them.
WORDS = tuple(bytes.fromhex(word) for word in ("00000000", "ffffffff", "7fffffff", "ffffff7f", "80000000", "00000080"))


@functools.cache
def sound_files() -> tuple[bytes, ...]:
    mono, stereo = tone(300, 0.5, RATE), tone(300, 0.5, RATE, 2)
    files = [encode(samples, RATE, *names) for names in FORMATS for samples in (mono, stereo) if names[1] != "GSM610"]
    files += [encode(mono, RATE, "WAV", "GSM610"), forget_flac_length(encode(mono, RATE, "FLAC", "PCM_16"))]
    mp3 = [
        encode_mp3(tone(300, 0.5, rate, channels), rate, variable)
        for rate in (8000, 22050, 44100)
        for channels in (1, 2)
        for variable in (True, False)
    ]
    bare = [b"".join(mp3_frames(file)[1:]) for file in mp3]
    tag = b"ID3\3\0\0\0\0\2\0" + bytes(256)
    return (*files, *mp3, *bare, mp3[0] + mp3[-1], tag + mp3[2])


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A sound file of which some bytes, mostly near the front, are others, gone, doubled or from another file."""
    data = bytearray(draw(st.sampled_from(sound_files())))
    reach = draw(st.sampled_from((16, 64, 200, 2000, len(data))))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, min(reach, len(data)) - 1)))
        how = draw(st.sampled_from(("byte", "word", "bit", "drop", "cut", "put", "copy", "splice")))
        if how == "byte":
            data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        elif how == "word":
            data[at : at + 4] = draw(st.sampled_from(WORDS))
        elif how == "bit":
            data[at : at + 1] = bytes(byte ^ 1 << draw(st.integers(0, 7)) for byte in data[at : at + 1])
        elif how == "drop":
            del data[at : at + draw(st.integers(1, 100))]
        elif how == "cut":
            del data[at:]
        elif how == "put":
            data[at:at] = draw(st.binary(max_size=100)) * draw(st.sampled_from((1, 50)))
        elif how == "copy":
            start = draw(st.integers(0, len(data)))
            data[at : at + 16] = data[start : start + 16]
        else:
            other = draw(st.sampled_from(sound_files()))
            data[at:] = other[draw(st.integers(0, len(other))) :]
    return bytes(data)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("error")
@settings(max_examples=5000, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(content=damaged())
@example(content=b"")
def test_a_damaged_file_is_told_in_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content)
    clip, told = None, list[str | None]()
    try:
        clip = load_clip(path, RATE, SECONDS)
    except DecodeError as error:
        told.append(str(error))
    else:
        assert clip.dtype == np.float32
        assert 0 < len(clip) <= SECONDS * RATE
        assert np.isfinite(clip).all()
    header = None
    with suppress(*READ_ERRORS):
        header = read_header(path)
    # What can be decoded can be described.
    assert header is not None or clip is None
    with suppress(*READ_ERRORS):
        told.append(find_lack(path, sum(len(block) for block, _ in read_blocks(path))))
    assert all(words is None or (words.strip() and "\n" not in words) for words in told)
