"""Decoding: every format, width, rate and channel count gives the same sound; nothing beyond the cut is read."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from arch_harness.datasets.audio import DecodeError, is_beyond_full_scale, load_clip, pad_clip
from numpy.typing import NDArray

FREQUENCY = 440.0
RATE = 16000


def tone(rate: int, seconds: float = 1.0, channels: int = 1) -> NDArray[np.float64]:
    """A 440 Hz tone of amplitude 0.5; [samples, channels], all channels alike."""
    wave = 0.5 * np.sin(2 * np.pi * FREQUENCY * np.arange(round(seconds * rate)) / rate)
    return np.repeat(wave[:, None], channels, axis=1)


def relative_error(clip: NDArray[np.float32]) -> float:
    """RMS difference from the ideal tone at 16 kHz, away from the ends, relative to the tone's RMS."""
    ideal = tone(RATE, len(clip) / RATE)[:, 0]
    middle = slice(RATE // 10, len(clip) - RATE // 10)
    return float(np.sqrt(np.mean((clip[middle] - ideal[middle]) ** 2)) / np.sqrt(np.mean(ideal[middle] ** 2)))


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 32000, 44100, 48000, 96000])
@pytest.mark.parametrize(
    ("subtype", "tolerance"),
    [("PCM_U8", 2e-2), ("PCM_16", 1e-3), ("PCM_24", 1e-3), ("PCM_32", 1e-3), ("FLOAT", 1e-3), ("DOUBLE", 1e-3)],
)
def test_wav(tmp_path: Path, subtype: str, tolerance: float, rate: int, channels: int) -> None:
    soundfile.write(tmp_path / "x.wav", tone(rate, channels=channels), rate, subtype=subtype)
    clip = load_clip(tmp_path / "x.wav", RATE, 5)
    assert clip.dtype == np.float32
    assert clip.shape == (RATE,)
    assert relative_error(clip) < tolerance


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [16000, 44100, 48000])
@pytest.mark.parametrize(
    ("suffix", "subtype", "tolerance"),
    [("flac", "PCM_16", 1e-3), ("flac", "PCM_24", 1e-3), ("ogg", "VORBIS", 5e-2), ("ogg", "OPUS", 5e-2)],
)
def test_flac_and_ogg(tmp_path: Path, suffix: str, subtype: str, tolerance: float, rate: int, channels: int) -> None:
    if subtype == "OPUS" and rate == 44100:
        pytest.skip("Opus knows no 44.1 kHz")
    path = tmp_path / f"x.{suffix}"
    soundfile.write(path, tone(rate, channels=channels), rate, subtype=subtype)
    clip = load_clip(path, RATE, 5)
    assert clip.shape == (RATE,)
    assert relative_error(clip) < tolerance


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
def test_mp3(tmp_path: Path, rate: int, channels: int) -> None:
    soundfile.write(tmp_path / "x.mp3", tone(rate, channels=channels), rate)
    clip = load_clip(tmp_path / "x.mp3", RATE, 5)
    # An mp3 encoder may add up to some frames of 1152 samples at either end.
    assert RATE <= len(clip) <= RATE + 4 * 1152 * RATE // rate
    spectrum = np.abs(np.fft.rfft(clip[:RATE] * np.hanning(RATE)))
    assert abs(int(np.argmax(spectrum)) - FREQUENCY) <= 1
    assert np.sqrt(np.mean(clip[2000 : RATE - 2000] ** 2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


def test_channels_are_averaged(tmp_path: Path) -> None:
    left = tone(RATE)[:, 0]
    soundfile.write(tmp_path / "x.wav", np.stack([left, np.zeros_like(left), -left / 2], axis=1), RATE, subtype="FLOAT")
    np.testing.assert_allclose(load_clip(tmp_path / "x.wav", RATE, 5), left / 6, atol=1e-6)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_what_is_cut_away_is_not_read(tmp_path: Path, suffix: str) -> None:
    """A two-minute file whose second half is overwritten gives the same first seconds as before."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 120 * 22050)
    path = tmp_path / f"x.{suffix}"
    with soundfile.SoundFile(path, "w", 22050, 1) as file:
        for second in np.split(noise, 120):  # libsndfile crashes on long Vorbis writes
            file.write(second)
    before = load_clip(path, RATE, 3)
    assert before.shape == (3 * RATE,)
    data = bytearray(path.read_bytes())
    half = len(data) // 2
    if suffix == "ogg":
        # Its length stands in the last page, which the library looks up when it opens the file; that stays.
        last = data.rindex(b"OggS")
        data[half:last] = bytes(last - half)
    else:
        data[half:] = bytes(len(data) - half)
    path.write_bytes(data)
    np.testing.assert_array_equal(load_clip(path, RATE, 3), before)


def test_reading_stops_soon_after_the_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames: list[int] = []
    read = soundfile.SoundFile.read

    def counted(self: soundfile.SoundFile, count: int = -1, **options: object) -> object:
        frames.append(count)
        return read(self, count, **options)

    monkeypatch.setattr(soundfile.SoundFile, "read", counted)
    soundfile.write(tmp_path / "x.wav", tone(44100, 20), 44100)
    load_clip(tmp_path / "x.wav", RATE, 3)
    assert len(frames) == 1
    assert 3 * 44100 < frames[0] < 3.5 * 44100


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 96000])
def test_the_cut_does_not_bend_the_end(tmp_path: Path, rate: int) -> None:
    """The last samples before the cut are what they would be without one."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 6 * rate)
    soundfile.write(tmp_path / "x.wav", noise, rate, subtype="FLOAT")
    cut, whole = load_clip(tmp_path / "x.wav", RATE, 2), load_clip(tmp_path / "x.wav", RATE, 6)
    np.testing.assert_allclose(cut, whole[: 2 * RATE], atol=1e-6)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no such file"),
        (b"", "is empty"),
        (b"nothing that is audio" * 50, "cannot be decoded: Format not recognised"),
        ("no samples", "holds no audio"),
        ("nan", "holds samples that are not finite"),
    ],
)
def test_a_clip_without_audio_says_why(tmp_path: Path, content: bytes | str | None, reason: str) -> None:
    path = tmp_path / "x.wav"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        samples = np.zeros(0) if content == "no samples" else np.array([0.0, np.nan])
        soundfile.write(path, samples, RATE, subtype="FLOAT")
    with pytest.raises(DecodeError, match=reason):
        load_clip(path, RATE, 5)


def test_a_broken_mp3_says_why(tmp_path: Path) -> None:
    (tmp_path / "x.mp3").write_bytes(np.random.default_rng(0).bytes(3000))
    with pytest.raises(DecodeError, match=r"cannot be decoded: (no audio in it|Format not recognised)"):
        load_clip(tmp_path / "x.mp3", RATE, 5)


def test_a_truncated_wav_gives_what_is_there(tmp_path: Path) -> None:
    whole = io.BytesIO()
    soundfile.write(whole, tone(RATE), RATE, format="WAV", subtype="PCM_16")
    (tmp_path / "x.wav").write_bytes(whole.getvalue()[: 44 + RATE])
    assert load_clip(tmp_path / "x.wav", RATE, 5).shape == (RATE // 2,)


@pytest.mark.filterwarnings("error")
def test_channels_that_are_not_finite_say_so(tmp_path: Path) -> None:
    for samples in ([np.inf, -np.inf], [1e300, 0], [np.nan, 0]):
        soundfile.write(tmp_path / "x.wav", np.tile(samples, (100, 1)), RATE, subtype="DOUBLE")
        with pytest.raises(DecodeError, match="holds samples that are not finite"):
            load_clip(tmp_path / "x.wav", RATE, 5)


def test_samples_beyond_full_scale_stay_as_they_are(tmp_path: Path) -> None:
    """As in the ARCH protocol, which neither clips nor scales."""
    loud = tone(RATE)[:, 0] * 32768
    soundfile.write(tmp_path / "x.wav", loud, RATE, subtype="FLOAT")
    np.testing.assert_allclose(load_clip(tmp_path / "x.wav", RATE, 5), loud, rtol=1e-6)


@pytest.mark.parametrize(
    ("samples", "beyond"),
    [([0.0, 4.0, -4.0], False), ([0.0, 4.001], True), ([-4.001, 0.0], True), ([32767.0], True), ([0.3], False)],
)
def test_what_was_never_scaled_is_told_by_either_side(samples: list[float], beyond: bool) -> None:
    assert is_beyond_full_scale(np.array(samples, dtype=np.float32)) == beyond


def test_padding_is_at_the_end() -> None:
    assert pad_clip(np.array([1, 2], np.float32), 4).tolist() == [1, 2, 0, 0]
