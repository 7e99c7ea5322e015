"""What a preprocessing makes of a clip, and that the usual one changes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from arch_harness.datasets.audio import load_clip
from arch_harness.datasets.preprocessing import RMS_LEVEL_DB, USUAL, Preprocessing

RATE = 8000


@pytest.fixture
def ramp(tmp_path: Path) -> Path:
    """Three seconds whose samples tell where they stand."""
    path = tmp_path / "ramp.wav"
    soundfile.write(path, np.arange(3 * RATE) / (4 * RATE), RATE, subtype="FLOAT")
    return path


def whole(path: Path) -> np.ndarray:  # type: ignore[type-arg]
    return soundfile.read(path, dtype="float32")[0]  # type: ignore[no-any-return]


def test_the_usual_one_is_the_protocol_and_has_no_key(ramp: Path) -> None:
    np.testing.assert_array_equal(load_clip(ramp, RATE, 2), whole(ramp)[: 2 * RATE])
    assert USUAL.key == ""


@pytest.mark.parametrize(
    ("preprocessing", "start", "samples"),
    [
        (Preprocessing(part="centre"), RATE // 2, 2 * RATE),
        (Preprocessing(share=0.5), 0, RATE),
        (Preprocessing(part="centre", share=0.5), RATE, RATE),
    ],
)
def test_a_part_is_cut_out_where_it_says(ramp: Path, preprocessing: Preprocessing, start: int, samples: int) -> None:
    np.testing.assert_array_equal(load_clip(ramp, RATE, 2, preprocessing), whole(ramp)[start : start + samples])


def test_a_clip_that_is_short_enough_stays_whole(ramp: Path) -> None:
    np.testing.assert_array_equal(load_clip(ramp, RATE, 6, Preprocessing(part="centre", share=0.5)), whole(ramp))


def test_loudness_is_that_of_the_clip_and_not_of_the_file(ramp: Path) -> None:
    clip = whole(ramp)[:RATE]
    np.testing.assert_allclose(load_clip(ramp, RATE, 1, Preprocessing(loudness="peak")), clip / clip.max(), rtol=1e-6)
    scaled = load_clip(ramp, RATE, 1, Preprocessing(loudness="rms"))
    assert 20 * np.log10(np.sqrt(np.mean(scaled.astype(float) ** 2))) == pytest.approx(RMS_LEVEL_DB, abs=1e-4)
    np.testing.assert_allclose(np.corrcoef(scaled, clip)[0, 1], 1)


def test_normalised_is_mean_0_and_variance_1(ramp: Path) -> None:
    clip = load_clip(ramp, RATE, 2, Preprocessing(normalised=True)).astype(float)
    assert clip.mean() == pytest.approx(0, abs=1e-6)
    assert clip.var() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("preprocessing", [Preprocessing(loudness="peak"), Preprocessing(loudness="rms")])
def test_silence_stays_silent(tmp_path: Path, preprocessing: Preprocessing) -> None:
    soundfile.write(tmp_path / "x.wav", np.zeros(RATE), RATE)
    assert not load_clip(tmp_path / "x.wav", RATE, 1, preprocessing).any()


def test_the_resampler_is_the_one_that_is_named(ramp: Path) -> None:
    for quality in ("QQ", "LQ", "HQ", "VHQ"):
        expected = soxr.resample(whole(ramp)[: round(1.1 * RATE)], RATE, 2 * RATE, quality=quality)[: 2 * RATE]
        found = load_clip(ramp, 2 * RATE, 1, Preprocessing(quality=quality))
        np.testing.assert_array_equal(found, expected)


def test_keys_differ_wherever_samples_do() -> None:
    several = [
        USUAL,
        *(Preprocessing(quality=quality) for quality in ("QQ", "LQ", "VHQ")),
        *(Preprocessing(loudness=loudness) for loudness in ("peak", "rms")),
        Preprocessing(part="centre"),
        Preprocessing(share=0.5),
        Preprocessing(part="centre", share=0.5),
        Preprocessing(normalised=True),
    ]
    assert len({one.key for one in several}) == len(several)
