"""A synthesised dataset in ESC-50's layout: 10 kinds of sound, 5 folds, made by code and free to share.

Loudness says nothing about the class: every clip is scaled to a random level, and sits in noise of a random level.
Some pairs (rising and falling sweeps, steady and vibrating tones) differ only in how the sound moves, so statistics
over time such as log-mel means cannot tell them well apart.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from arch_harness.datasets.catalog import esc50
from arch_harness.datasets.declaration import Declaration

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLE_RATE = 22050
FOLDS = 5
CLIPS_PER_CLASS = 40

_Synth = Callable[[np.random.Generator, "NDArray[np.float64]"], "NDArray[np.float64]"]


def _harmonics(random: np.random.Generator, phase: NDArray[np.float64]) -> NDArray[np.float64]:
    """A tone of 1 to 5 harmonics of random strength; `phase` in radians."""
    strengths = random.uniform(0.2, 1, random.integers(1, 6))
    tone: NDArray[np.float64] = np.sum([s * np.sin((k + 1) * phase) for k, s in enumerate(strengths)], axis=0)
    return tone


def _phase(frequency: NDArray[np.float64]) -> NDArray[np.float64]:
    phase: NDArray[np.float64] = 2 * np.pi * np.cumsum(frequency) / SAMPLE_RATE
    return phase


def _tone(random: np.random.Generator, time: NDArray[np.float64]) -> NDArray[np.float64]:
    return _harmonics(random, 2 * np.pi * random.uniform(150, 1200) * time)


def _vibrato(random: np.random.Generator, time: NDArray[np.float64]) -> NDArray[np.float64]:
    swing = 1 + random.uniform(0.02, 0.06) * np.sin(2 * np.pi * random.uniform(4, 8) * time)
    return _harmonics(random, _phase(random.uniform(150, 1200) * swing))


def _tremolo(random: np.random.Generator, time: NDArray[np.float64]) -> NDArray[np.float64]:
    envelope: NDArray[np.float64] = 1 + np.sin(2 * np.pi * random.uniform(3, 9) * time)
    return _tone(random, time) * envelope


def _sweep(random: np.random.Generator, time: NDArray[np.float64]) -> NDArray[np.float64]:
    low, octaves = random.uniform(150, 600), random.uniform(1, 3)
    return _harmonics(random, _phase(low * 2 ** (octaves * time / time[-1])))


def _falling_sweep(random: np.random.Generator, time: NDArray[np.float64]) -> NDArray[np.float64]:
    return _sweep(random, time)[::-1]


def _noise(random: np.random.Generator, time: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    size = 1 << (len(time) - 1).bit_length()  # a power of two: other lengths are many times slower
    spectrum = np.fft.rfft(random.standard_normal(size))
    frequency = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    noise: NDArray[np.float64] = np.fft.irfft(np.where((frequency > low) & (frequency < high), spectrum, 0), size)
    return noise[: len(time)]


def _rumble(random: np.random.Generator, time: NDArray[np.float64]) -> NDArray[np.float64]:
    return _noise(random, time, 50, random.uniform(400, 1500))


def _hiss(random: np.random.Generator, time: NDArray[np.float64]) -> NDArray[np.float64]:
    return _noise(random, time, random.uniform(1000, 3000), 7500)


def _events(random: np.random.Generator, time: NDArray[np.float64], decay: tuple[float, float]) -> Iterator[slice]:
    gap, length = random.uniform(0.12, 0.5), decay[1]
    for start in np.arange(random.uniform(0, gap), time[-1] - length, gap):
        first = int(start * SAMPLE_RATE)
        yield slice(first, first + int(length * SAMPLE_RATE))


def _struck(
    random: np.random.Generator, time: NDArray[np.float64], decay: tuple[float, float], sound: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Repeated strikes of `sound`, each dying away; `decay` is (time constant, length) in seconds."""
    signal = np.zeros_like(time)
    for strike in _events(random, time, decay):
        signal[strike] += (sound * np.exp(-time / decay[0]))[: len(signal[strike])]
    return signal


def _pluck(random: np.random.Generator, time: NDArray[np.float64]) -> NDArray[np.float64]:
    return _struck(random, time, (random.uniform(0.05, 0.12), 0.4), _tone(random, time))


def _clicks(random: np.random.Generator, time: NDArray[np.float64]) -> NDArray[np.float64]:
    return _struck(random, time, (random.uniform(0.001, 0.004), 0.05), random.standard_normal(len(time)))


def _bursts(random: np.random.Generator, time: NDArray[np.float64]) -> NDArray[np.float64]:
    return _struck(random, time, (random.uniform(0.04, 0.15), 0.4), random.standard_normal(len(time)))


SOUNDS: dict[str, _Synth] = {
    "tone": _tone,
    "vibrato": _vibrato,
    "tremolo": _tremolo,
    "rising_sweep": _sweep,
    "falling_sweep": _falling_sweep,
    "pluck": _pluck,
    "clicks": _clicks,
    "bursts": _bursts,
    "rumble": _rumble,
    "hiss": _hiss,
}


def synthesise(sound: str, random: np.random.Generator) -> NDArray[np.float32]:
    """One clip of the named sound: FP32 [samples] at 22.05 kHz, 2 to 5 s, peak below 1."""
    time = np.arange(int(random.uniform(2, 5) * SAMPLE_RATE)) / SAMPLE_RATE
    signal = SOUNDS[sound](random, time)
    signal /= np.sqrt(np.mean(signal**2)) + 1e-12
    mixed = signal + 10 ** (-random.uniform(0, 20) / 20) * random.standard_normal(len(time))
    level = 10 ** (random.uniform(-40, -15) / 20)
    mixed *= min(level / np.sqrt(np.mean(mixed**2)), 0.99 / np.max(np.abs(mixed)))
    result: NDArray[np.float32] = mixed.astype(np.float32)
    return result


def write_demo(folder: Path, clips_per_class: int = CLIPS_PER_CLASS, seed: int = 0) -> Path:
    """Write the dataset into `folder` as ESC-50 is laid out; the same seed gives the same files.

    A folder that is complete already is left as it is.
    """
    table = folder / "meta" / "esc50.csv"
    if table.is_file():
        return folder
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    table.parent.mkdir(exist_ok=True)
    rows = []
    for take in range(clips_per_class):
        for target, sound in enumerate(SOUNDS):
            fold = take % FOLDS + 1
            name = f"{fold}-{take:03d}-A-{target}.wav"
            clip = synthesise(sound, np.random.default_rng([seed, take, target]))
            soundfile.write(folder / "audio" / name, clip, SAMPLE_RATE, subtype="PCM_16")
            rows.append((name, fold, target, sound))
    # The table comes last, and in one move: without it the folder does not count as a dataset.
    partial = table.with_suffix(".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("filename", "fold", "target", "category"), *rows])
    partial.replace(table)
    return folder


DECLARATION = Declaration(
    id="demo",
    title="Synthesised sounds",
    citation="arch-bench, arch_harness.datasets.catalog.demo",
    licence="Apache-2.0",
    domain="synthetic",
    task="single_label",
    max_seconds=5,
    files=esc50.DECLARATION.files,
    find_clips=esc50.find_clips,
    split=esc50.DECLARATION.split,
    strict="its clips have no common source",
    manual="`arch demo` synthesises it.",
    class_key=int,
    notes=("Synthesised for demonstration: its scores say nothing about real audio.",),
)
