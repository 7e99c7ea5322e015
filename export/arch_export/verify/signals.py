"""Test clips of the kinds that an audio encoder meets, synthesised from seeds.

Noise alone would be the kindest input there is: every frame looks like every other, and an embedding that is a mean
over frames averages the rounding away. So most clips change over time, hold silence or a click, or are far too quiet
or off-centre.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Sound = Callable[[np.random.Generator, NDArray[np.float64]], NDArray[np.float64]]


def _tone(random: np.random.Generator, time: NDArray[np.float64]) -> NDArray[np.float64]:
    """A tone that swells and fades in noise."""
    tone = np.sin(2 * np.pi * random.uniform(80, 3000) * time) * np.hanning(len(time))
    sound: NDArray[np.float64] = 0.6 * tone + 0.2 * random.standard_normal(len(time))
    return sound


def _voice(random: np.random.Generator, time: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vowels with gliding pitch and three formants, four syllables a second, pauses and hiss between them."""
    pitch = random.uniform(90, 240) * (1 + 0.1 * np.sin(2 * np.pi * random.uniform(0.5, 2) * time))
    phase = 2 * np.pi * np.cumsum(pitch) * (time[1] - time[0] if len(time) > 1 else 1 / 16000)
    formants = random.uniform([250, 800, 2000], [850, 2300, 3200])
    vowels = np.zeros_like(time)
    for harmonic in range(1, 30):
        gain = np.sum(1 / (1 + ((harmonic * pitch.mean() - formants) / 120) ** 2))
        if gain > 0.05:
            vowels += gain * np.sin(harmonic * phase) / harmonic**0.5
    syllables = np.clip(np.sin(2 * np.pi * random.uniform(3, 5) * time + random.uniform(0, 6)), 0, None)
    phrases = (np.sin(2 * np.pi * 0.4 * time + random.uniform(0, 6)) > -0.6).astype(np.float64)
    hiss = np.diff(random.standard_normal(len(time) + 1)) * (syllables < 0.1)
    quiet = 0.002 * random.standard_normal(len(time))
    sound: NDArray[np.float64] = phrases * (0.3 * vowels * syllables + 0.04 * hiss) + quiet
    return sound


def _music(random: np.random.Generator, time: NDArray[np.float64]) -> NDArray[np.float64]:
    """Chords of decaying partials, struck about twice a second, with a bass and a shaken rattle."""
    beat = random.uniform(0.35, 0.6)
    since = time % beat
    chord = np.zeros_like(time)
    for note in random.uniform(110, 880, 4):
        for partial in range(1, 9):
            chord += np.sin(2 * np.pi * note * partial * time) * np.exp(-partial * since * 2) / partial
    rattle = random.standard_normal(len(time)) * np.exp(-60 * (time % (beat / 2)))
    bass = np.sin(2 * np.pi * random.uniform(50, 100) * time)
    sound: NDArray[np.float64] = 0.12 * chord + 0.15 * bass + 0.2 * rattle
    return sound


def _event(random: np.random.Generator, time: NDArray[np.float64]) -> NDArray[np.float64]:
    """Near silence with a few short, loud events: clicks, chirps and bursts of coloured noise."""
    sound: NDArray[np.float64] = (
        0.001 * np.cumsum(random.standard_normal(len(time))) / np.sqrt(np.arange(1, len(time) + 1))
    )
    for kind in range(3):
        since = time - random.uniform(0, max(0.05, time[-1]))
        shape = np.where(since > 0, np.exp(-random.uniform(8, 80) * np.maximum(since, 0)), 0)
        chirp = np.sin(2 * np.pi * (random.uniform(200, 2000) + 3000 * since) * since)
        sound = sound + shape * (chirp if kind else random.standard_normal(len(time)))
    return sound


_KINDS: tuple[Sound, ...] = (_tone, _voice, _music, _event)
# Level and offset: as recorded, almost inaudible, far off-centre.
_LEVELS = ((0.5, 0.0), (0.003, 0.0), (0.3, 0.1))


@functools.cache  # the original and every variant are asked about the same few clips
def synthesise(index: int, samples: int, sample_rate: int, seed: int) -> NDArray[np.float32]:
    """The clip `index` of a seed: FP32 [samples] in [-1, 1]; kinds and levels alternate with the index."""
    random = np.random.default_rng([seed, index])
    sound = _KINDS[(index + seed) % len(_KINDS)](random, np.arange(samples) / sample_rate)
    level, offset = _LEVELS[index % len(_LEVELS)]
    clip: NDArray[np.float32] = np.clip(level * np.clip(sound, -1, 1) + offset, -1, 1).astype(np.float32)
    clip.flags.writeable = False
    return clip
