"""Clips per second of processor time: decode 44.1 kHz stereo, average the channels, resample to 16 kHz FP32.

Beside arch's own path stand the libraries that are installed of: librosa, PyAV (FFmpeg), miniaudio. Each opens the
file, decodes, mixes and resamples with its own means; miniaudio resamples by linear interpolation, which is faster and
worse than the others. None of them is needed to use arch:

    pip install av librosa miniaudio
    python benchmarks/decode.py
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import soundfile
from arch_harness.datasets.audio import load_clip
from arch_harness.datasets.audio_files.mpeg import find_runs
from numpy.typing import NDArray

RATE, SECONDS, CLIPS, ROUNDS = 44100, 5, 8, 7
TARGET_RATE = 16000
FORMATS = {"wav": "PCM_16", "flac": "PCM_16", "ogg": "VORBIS", "mp3": "MPEG_LAYER_III"}

Loader = Callable[[Path], NDArray[np.float32]]


def arch(path: Path) -> NDArray[np.float32]:
    """Our own: libsndfile and soxr."""
    return load_clip(path, TARGET_RATE, SECONDS)


def with_librosa(path: Path) -> NDArray[np.float32]:
    """Librosa with its default resampler, soxr."""
    import librosa

    clip: NDArray[np.float32] = librosa.load(path, sr=TARGET_RATE, mono=True, duration=SECONDS)[0]
    return clip


def with_av(path: Path) -> NDArray[np.float32]:
    """FFmpeg's decoders and resampler through PyAV."""
    import av

    resampler = av.AudioResampler("fltp", "mono", TARGET_RATE)
    blocks = []
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            blocks += [block.to_ndarray() for block in resampler.resample(frame)]
    blocks += [block.to_ndarray() for block in resampler.resample(None)]
    clip: NDArray[np.float32] = np.concatenate(blocks, axis=1)[0]
    return clip


def with_miniaudio(path: Path) -> NDArray[np.float32]:
    """miniaudio: dr_libs and stb_vorbis, linear resampling."""
    import miniaudio

    decoded = miniaudio.decode_file(str(path), miniaudio.SampleFormat.FLOAT32, 1, TARGET_RATE)
    return np.frombuffer(decoded.samples, dtype=np.float32)


LOADERS: dict[str, tuple[str, Loader]] = {
    "arch": ("soundfile", arch),
    "librosa": ("librosa", with_librosa),
    "PyAV": ("av", with_av),
    "miniaudio": ("miniaudio", with_miniaudio),
}


def music(seed: int, seconds: float) -> NDArray[np.float32]:
    """A chord that decays and returns, over a bed of noise: FP32 [samples, 2]."""
    random = np.random.default_rng(seed)
    time_s = np.arange(round(seconds * RATE)) / RATE
    tones = sum(np.sin(2 * np.pi * f * k * time_s) / k for f in random.uniform(80, 800, 4) for k in range(1, 9))
    beat = np.exp(-3 * (time_s % random.uniform(0.3, 0.7)))
    noise = 0.02 * random.standard_normal((len(time_s), 2))
    mixed: NDArray[np.float32] = (0.08 * (tones * beat)[:, None] + noise).astype(np.float32)
    return mixed


def write(path: Path, clip: NDArray[np.float32], subtype: str) -> None:
    """Write a file in blocks: libsndfile crashes on long Vorbis writes."""
    with soundfile.SoundFile(path, "w", RATE, 2, subtype=subtype) as file:
        for start in range(0, len(clip), RATE):
            file.write(clip[start : start + RATE])


def write_headerless(path: Path, clip: NDArray[np.float32]) -> None:
    """Write an mp3 file of variable bitrate without the encoder's header: libsndfile cannot know its length."""
    options = {"bitrate_mode": "VARIABLE", "compression_level": 0.3}
    with soundfile.SoundFile(path, "w", RATE, 2, format="MP3", subtype="MPEG_LAYER_III", **options) as file:
        file.write(clip)
    content = path.read_bytes()
    path.write_bytes(b"".join(content[start:end] for run in find_runs(content) for start, end in run.spans))


def clips_per_s(loaders: dict[str, Loader], files: list[Path]) -> dict[str, float]:
    """The best of the rounds by library, over the processor time of all threads together.

    The libraries take turns within each round, so that what else the machine does falls on all of them.
    """
    best = dict.fromkeys(loaders, 0.0)
    for _ in range(ROUNDS):
        for name, load in loaders.items():
            started = time.process_time()
            for file in files:
                samples = len(load(file))
                if abs(samples - SECONDS * TARGET_RATE) > 0.2 * TARGET_RATE:
                    raise SystemExit(f"{name} gave {samples} samples of {file.name}")
            best[name] = max(best[name], len(files) / (time.process_time() - started))
    return best


def main() -> None:
    """Print a table of clips/s, then what the cut saves on long files."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    found = {}
    for name, (package, load) in LOADERS.items():
        try:
            found[f"{name} {version(package) if name != 'arch' else ''}".strip()] = load
        except PackageNotFoundError:
            print(f"{name}: not installed, left out")
    with tempfile.TemporaryDirectory() as folder:
        print(f"clips per second of processor time, {SECONDS} s, {RATE} Hz stereo to {TARGET_RATE} Hz mono")
        for suffix, subtype in FORMATS.items():
            for clip in range(CLIPS):
                write(Path(folder, f"{clip:02d}.{suffix}"), music(clip, SECONDS), subtype)
        rates = {suffix: clips_per_s(found, sorted(Path(folder).glob(f"*.{suffix}"))) for suffix in FORMATS}
        print(f"{'':20}" + "".join(f"{suffix:>8}" for suffix in FORMATS))
        for name in found:
            print(f"{name:20}" + "".join(f"{rates[suffix][name]:8.0f}" for suffix in FORMATS))
        for clip in range(CLIPS):
            write_headerless(Path(folder, f"{clip:02d}.vbr"), music(clip, SECONDS))
        rate = clips_per_s({"arch": arch}, sorted(Path(folder).glob("*.vbr")))["arch"]
        print(f"\narch, mp3 of variable bitrate without a header: {rate:.0f}")
        print("\nmilliseconds of processor time for the first 30 s of a file of 300 s, and for all of it")
        for suffix, subtype in FORMATS.items():
            path = Path(folder, f"long.{suffix}")
            write(path, music(0, 300), subtype)
            spent = []
            for limit in (30, 300):
                started = time.process_time()
                load_clip(path, TARGET_RATE, limit)
                spent.append(1e3 * (time.process_time() - started))
            print(f"{suffix:20}{spent[0]:8.0f}{spent[1]:8.0f}")


if __name__ == "__main__":
    main()
