"""Files whose headers do not tell the truth: heard whole, and all ways of reading them agree on their length."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from arch_harness.datasets.audio import DecodeError, decode_clip, load_clip
from arch_harness.datasets.audio_files import mpeg
from arch_harness.datasets.audio_files.reader import READ_ERRORS, find_lack, read_blocks, read_header
from numpy.typing import NDArray
from support.sounds import (
    ENCODER_DELAY,
    declare_frames,
    encode,
    encode_mp3,
    forget_flac_length,
    mp3_frames,
    ogg_pages,
    tone,
)

LOW, HIGH = 300.0, 1100.0


def heard(path: Path) -> tuple[NDArray[np.float32], int]:
    """What decoding gives of a whole file, after the other ways of reading it have given the same length."""
    clip, rate = decode_clip(path, 1000)
    assert read_header(path).seconds == pytest.approx(len(clip) / rate, abs=2 / rate)
    assert sum(len(block) / its_rate for block, its_rate in read_blocks(path)) == pytest.approx(
        len(clip) / rate, abs=2 / rate
    )
    return clip, rate


def lack(path: Path) -> str | None:
    return find_lack(path, sum(len(block) for block, _ in read_blocks(path)))


def frequency(clip: NDArray[np.float32], rate: int) -> float:
    """Of the loudest tone."""
    return float(np.abs(np.fft.rfft(clip * np.hanning(len(clip)))).argmax()) * rate / len(clip)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("variable", [True, False])
@pytest.mark.parametrize("rate", [8000, 22050, 32000, 44100, 48000])
def test_an_mp3_without_a_header_is_heard_whole(tmp_path: Path, rate: int, variable: bool, channels: int) -> None:
    """All frames are heard, and they are the samples of the file with the header behind the encoder's delay."""
    whole = encode_mp3(tone(LOW, 6, rate, channels), rate, variable)
    frames = mp3_frames(whole)[1:]
    (tmp_path / "whole.mp3").write_bytes(whole)
    (tmp_path / "bare.mp3").write_bytes(b"".join(frames))
    clip, its_rate = heard(tmp_path / "bare.mp3")
    assert its_rate == rate
    assert len(clip) == len(frames) * (1152 if rate >= 32000 else 576)
    truth, _ = heard(tmp_path / "whole.mp3")
    assert len(truth) == 6 * rate
    np.testing.assert_allclose(clip[ENCODER_DELAY : ENCODER_DELAY + len(truth)], truth, atol=1e-6)
    assert lack(tmp_path / "bare.mp3") is None


def test_joined_mp3_files_of_other_rates_and_channels_are_heard_whole(tmp_path: Path) -> None:
    """The second is resampled to the first, as FFmpeg does."""
    first, second = encode_mp3(tone(LOW, 4, 44100), 44100), encode_mp3(tone(HIGH, 3, 22050, 2), 22050, False)
    path = tmp_path / "x.mp3"
    for content in (first + second, second + first, first + first, first + b"TAG" + bytes(125) + second):
        path.write_bytes(content)
        clip, rate = heard(path)
        assert len(clip) == rate * (8 if content == first + first else 7)
        assert lack(path) is None
    path.write_bytes(first + second)
    clip, rate = heard(path)
    assert frequency(clip[rate : 3 * rate], rate) == pytest.approx(LOW, abs=2)
    assert frequency(clip[5 * rate :], rate) == pytest.approx(HIGH, abs=2)
    # The same without headers: only the format tells where the second begins.
    bare = [b"".join(mp3_frames(data)[1:]) for data in (first, second)]
    path.write_bytes(b"".join(bare))
    clip, rate = heard(path)
    frames = [len(mp3_frames(data)) for data in bare]
    assert len(clip) == pytest.approx(frames[0] * 1152 + frames[1] * 576 * 2, abs=2)
    # The cut is kept.
    assert len(load_clip(path, 16000, 5)) == 5 * 16000


@pytest.mark.parametrize("declared", [0, 1, 100, 100_000])
def test_a_wrong_count_in_an_mp3_header_changes_nothing_but_the_end(tmp_path: Path, declared: int) -> None:
    """What the encoder calls padding is heard too, less than two frames: it counted from another end."""
    whole = encode_mp3(tone(LOW, 6, 44100), 44100)
    path = tmp_path / "x.mp3"
    path.write_bytes(declare_frames(whole, declared))
    clip, rate = heard(path)
    assert 6 * rate <= len(clip) <= 6 * rate + 2 * 1152
    path.write_bytes(whole)
    np.testing.assert_allclose(clip[: 6 * rate - 1152], heard(path)[0][: 6 * rate - 1152], atol=1e-6)


def test_what_is_no_audio_in_an_mp3_is_passed_over(tmp_path: Path) -> None:
    whole = encode_mp3(tone(LOW, 6, 44100), 44100)
    frames = mp3_frames(whole)
    looks_like_frames = mp3_frames(encode_mp3(tone(HIGH, 1, 48000), 48000))[2] * 40
    size = len(looks_like_frames)
    tag = b"ID3\3\0\0" + bytes([size >> 21, size >> 14 & 127, size >> 7 & 127, size & 127]) + looks_like_frames
    path = tmp_path / "x.mp3"
    truth = None
    for content in (
        whole,
        tag + whole,
        whole + b"TAG" + bytes(124) + b"\xff",
        b"APETAGEX" + bytes(4) + (1000).to_bytes(4, "little") + bytes(1016) + whole,
        bytes(3000) + whole,
        b"\xff" * 3000 + whole,
        # More than mpg123 passes over by itself.
        b"".join(frames[:100]) + bytes(5000) + b"".join(frames[100:]),
    ):
        path.write_bytes(content)
        clip, rate = heard(path)
        assert len(clip) == 6 * rate
        truth = clip if truth is None else truth
        np.testing.assert_allclose(clip, truth, atol=1e-6)
        assert lack(path) is None


def test_an_mp3_inside_a_wav_is_heard_whole(tmp_path: Path) -> None:
    frames = mp3_frames(encode_mp3(tone(LOW, 6, 44100), 44100))[1:]
    sound = b"".join(frames)
    layout = struct.pack("<HHIIHHHHIHHH", 0x55, 1, 44100, 8000, 1, 0, 12, 1, 2, 417, 1, 1393)
    parts = ((b"fmt ", layout), (b"data", sound + b"\0" * (len(sound) % 2)), (b"LIST", b"INFO"))
    chunks = b"WAVE" + b"".join(name + struct.pack("<I", len(part)) + part for name, part in parts)
    path = tmp_path / "x.wav"
    path.write_bytes(b"RIFF" + struct.pack("<I", len(chunks)) + chunks)
    assert len(heard(path)[0]) == len(frames) * 1152
    assert lack(path) is None
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert lack(path) is not None


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_chained_ogg_is_heard_whole(tmp_path: Path, subtype: str) -> None:
    first = encode(tone(LOW, 4, 48000), 48000, "OGG", subtype)
    second = encode(tone(HIGH, 3, 24000, 2), 24000, "OGG", subtype)
    path = tmp_path / "x.ogg"
    path.write_bytes(first + second)
    clip, rate = heard(path)
    assert len(clip) == 7 * rate
    assert frequency(clip[rate : 3 * rate], rate) == pytest.approx(LOW, abs=2)
    assert frequency(clip[5 * rate :], rate) == pytest.approx(HIGH, abs=2)
    assert lack(path) is None


def test_a_flac_of_unknown_length_is_heard_whole(tmp_path: Path) -> None:
    samples = tone(LOW, 3, 16000)
    (tmp_path / "x.flac").write_bytes(forget_flac_length(encode(samples, 16000, "FLAC", "PCM_16")))
    clip, _ = heard(tmp_path / "x.flac")
    np.testing.assert_allclose(clip, samples[:, 0], atol=2**-15)
    assert lack(tmp_path / "x.flac") is None
    np.testing.assert_array_equal(load_clip(tmp_path / "x.flac", 16000, 3), clip)
    np.testing.assert_array_equal(load_clip(tmp_path / "x.flac", 16000, 1), clip[:16000])


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0x80000000])
def test_a_wav_of_unknown_length_is_heard_whole(tmp_path: Path, size: int) -> None:
    content = encode(tone(LOW, 3, 16000), 16000, "WAV", "PCM_16")
    at = content.index(b"data") + 4
    (tmp_path / "x.wav").write_bytes(content[:at] + size.to_bytes(4, "little") + content[at + 4 :])
    clip, _ = heard(tmp_path / "x.wav")
    assert len(clip) == 3 * 16000
    assert lack(tmp_path / "x.wav") is None


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_what_macos_puts_beside_a_file_is_no_part_of_it(tmp_path: Path, suffix: str) -> None:
    subtypes = {"wav": "PCM_16", "flac": "PCM_16", "ogg": "VORBIS", "mp3": "MPEG_LAYER_III"}
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(encode(tone(LOW, 2, 16000), 16000, suffix.upper(), subtypes[suffix]))
    alone, _ = heard(path)
    (tmp_path / f"._x.{suffix}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(4000))
    np.testing.assert_array_equal(heard(path)[0], alone)


CUT = [
    ("WAV", "PCM_16"),
    ("WAV", "FLOAT"),
    ("WAVEX", "PCM_24"),
    ("RF64", "PCM_16"),
    ("W64", "PCM_16"),
    ("AIFF", "PCM_16"),
    ("AU", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
    ("FLAC", "PCM_16"),
    ("CAF", "PCM_16"),
]


@pytest.mark.parametrize(("container", "subtype"), CUT)
def test_a_file_that_was_cut_short_is_found(tmp_path: Path, container: str, subtype: str) -> None:
    """It lacks something, or cannot be decoded to its end; the whole file does neither."""
    whole = encode(tone(LOW, 4, 48000), 48000, container, subtype)
    path = tmp_path / "x"
    path.write_bytes(whole)
    assert lack(path) is None
    for length in (*range(5000, len(whole), len(whole) // 7), len(whole) - 1):
        path.write_bytes(whole[:length])
        try:
            found = lack(path)
        except READ_ERRORS as error:
            found = str(error)
        assert found, length


def test_an_mp3_of_constant_bitrate_without_a_header_that_was_cut_is_found(tmp_path: Path) -> None:
    """Anywhere but between two frames, where nothing can tell."""
    frames = mp3_frames(encode_mp3(tone(LOW, 4, 44100), 44100, False))[1:80]
    length = sum(map(len, frames))
    for missing in (0, 1, 50, len(frames[-1]) - 5, len(frames[-1]) - 2, len(frames[-1]) - 1, len(frames[-1])):
        (tmp_path / "x.mp3").write_bytes(b"".join(frames)[: length - missing])
        found = lack(tmp_path / "x.mp3")
        assert found == (None if missing in (0, len(frames[-1])) else "its last frame is cut short")


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_with_a_hole_is_found(tmp_path: Path, subtype: str) -> None:
    pages = ogg_pages(encode(tone(LOW, 12, 48000), 48000, "OGG", subtype))
    path = tmp_path / "x.ogg"
    path.write_bytes(b"".join(pages[:4] + pages[5:]))
    assert lack(path) == "pages are missing in its middle"
    path.write_bytes(b"".join(pages[:-1]))
    assert lack(path) == "it ends before its last page"
    path.write_bytes(b"".join(pages)[:-100])
    assert lack(path) == "its last page is cut short"
    # libsndfile leaves out a page whose checksum is wrong.
    flipped = pages[4][:200] + bytes([pages[4][200] ^ 1]) + pages[4][201:]
    path.write_bytes(b"".join([*pages[:4], flipped, *pages[5:]]))
    assert (lack(path) or "").startswith("its header declares 576,000 samples, and ")


def test_a_pipe_and_a_folder_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "folder.wav").mkdir()
    for name in ("pipe.wav", "folder.wav"):
        with pytest.raises(DecodeError, match="is not a file"):
            load_clip(tmp_path / name, 16000, 5)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("x" * 300 + ".wav", "cannot be read: File name too long"),
        ("x\0.wav", "no such file"),
        ("gone.wav", "no such file"),
    ],
)
def test_a_name_that_no_file_can_have_is_told(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        load_clip(tmp_path / name, 16000, 5)
    with pytest.raises(READ_ERRORS):
        read_header(tmp_path / name)


def test_an_mp3_with_a_true_header_is_not_searched_for_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding waits for it, so only what is left behind the last frame is looked at."""
    searched: list[int] = []
    find_runs = mpeg.find_runs

    def counted(data: bytes) -> list[mpeg.FrameRun]:
        searched.append(len(data))
        return find_runs(data)

    monkeypatch.setattr(mpeg, "find_runs", counted)
    (tmp_path / "x.mp3").write_bytes(encode_mp3(tone(LOW, 6, 44100), 44100) + b"TAG" + bytes(125))
    assert len(load_clip(tmp_path / "x.mp3", 16000, 10)) == 6 * 16000
    assert searched == [128]
