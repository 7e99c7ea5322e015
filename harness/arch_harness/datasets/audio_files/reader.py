"""Reading audio files through libsndfile: all that is in them, though it stops early in some."""

from __future__ import annotations

import errno
import io
import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import soundfile

from arch_harness.datasets.audio_files import chunks, mpeg, ogg

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

READ_ERRORS = (soundfile.LibsndfileError, OSError)
"""What the functions here raise for a file that cannot be read."""

_BLOCK_SAMPLES = 1 << 20
# Of a file that libsndfile does not recognise: so much is searched for MPEG frames, and so many prove that it is some.
_SEARCHED_BYTES = 1 << 20
_LEAST_FRAMES = 3
_UNKNOWN = (1 << 63) - 1


class _Sound(soundfile.SoundFile):  # type: ignore[misc]
    """Reads on and on: otherwise soundfile seeks after each read, which the end of a FLAC of unknown length refuses."""

    def seekable(self) -> bool:
        return False

    @property
    def is_mpeg(self) -> bool:
        """Also inside a WAV file."""
        return bool(self.subtype.startswith("MPEG"))

    def read_up_to(self, samples: int) -> NDArray[np.float32]:
        """The next FP32 [samples, channels], or as many as are left."""
        # libsndfile fills what it cannot read with zeros, which takes time.
        frames: NDArray[np.float32] = self.read(min(samples, self.frames), dtype="float32", always_2d=True)
        return frames

    def blocks_left(self) -> Iterator[NDArray[np.float32]]:
        """All that is left, in blocks FP32 [samples, channels]."""
        while len(block := self.read_up_to(max(1, _BLOCK_SAMPLES // self.channels))):
            yield block


@dataclass(frozen=True)
class Header:
    """How long a file is in seconds; sample rate in Hz and number of channels at its start."""

    seconds: float
    rate: int
    channels: int


def read_start(path: Path, seconds: float) -> list[tuple[NDArray[np.float32], int]]:
    """The first seconds of a file: FP32 [samples, channels] and their rate in Hz; several where that changes inside."""
    with _open(path) as (file, sound):
        if sound is not None:
            wanted = math.ceil(seconds * sound.samplerate)
            try:
                frames = sound.read_up_to(wanted)
            except soundfile.LibsndfileError:
                if not sound.is_mpeg or not (streams := _streams(file, sound)):
                    raise
            else:
                streams = _streams_beyond(file, sound, len(frames)) if len(frames) < wanted else []
            if not streams:
                return [(frames, sound.samplerate)]
        else:
            streams = _streams(file, None)
    parts = []
    for stream in streams:
        with _open_stream(stream) as sound:
            frames = sound.read_up_to(math.ceil(seconds * sound.samplerate))
            parts.append((frames, sound.samplerate))
            seconds -= len(frames) / sound.samplerate
        if seconds <= 0:
            break
    return parts


def read_blocks(path: Path) -> Iterator[tuple[NDArray[np.float32], int]]:
    """All of a file in blocks: FP32 [samples, channels] and their rate in Hz."""
    with _open(path) as (file, sound):
        streams = _streams(file, sound)
        if sound is not None and not streams:
            for block in sound.blocks_left():
                yield block, sound.samplerate
    for stream in streams:
        with _open_stream(stream) as sound:
            for block in sound.blocks_left():
                yield block, sound.samplerate


def read_header(path: Path) -> Header:
    """What a file holds; decoded is only what no header tells."""
    with _open(path) as (file, sound):
        streams = _streams(file, sound)
        if sound is not None and not streams:
            samples = sound.frames if sound.frames < _UNKNOWN else sum(map(len, sound.blocks_left()))
            return Header(samples / sound.samplerate, sound.samplerate, sound.channels)
    headers = []
    for stream in streams:
        with _open_stream(stream) as sound:
            samples = sound.frames if stream.samples is None else stream.samples
            headers.append(Header(samples / sound.samplerate, sound.samplerate, sound.channels))
    return Header(sum(header.seconds for header in headers), headers[0].rate, headers[0].channels)


def find_lack(path: Path, samples: int) -> str | None:
    """What is missing of a file that was cut short or is damaged, in words; None for a whole one.

    Args:
        path: a file that can be read.
        samples: of each channel, that `read_blocks` gave.
    """
    with _open(path) as (file, sound):
        if (sound is None or sound.is_mpeg) and (lack := mpeg.lacks(_content(file))):
            return lack
        if sound is None:
            return None
        if sound.format == "OGG" and (lack := ogg.lacks(_content(file))):
            return lack
        if sound.format in {"OGG", "FLAC"}:
            declared = sound.frames if sound.frames < _UNKNOWN else 0
            return (
                f"its header declares {declared:,} samples, and {samples:,} are there" if samples < declared else None
            )
        return chunks.lacks(file)


@contextmanager
def _open(path: Path) -> Iterator[tuple[io.FileIO, _Sound | None]]:
    """A file, and what libsndfile makes of it; None for MPEG audio that it does not recognise."""
    if not path.is_file():  # a pipe would be waited for
        raise OSError(errno.EINVAL, "not a file", str(path))
    with path.open("rb", buffering=0) as file:
        # By number: of a name, libsndfile believes the suffix, and that a `._name` beside it is a part of it.
        try:
            sound = _Sound(file.fileno(), closefd=False)
        except soundfile.LibsndfileError:
            file.seek(0)
            runs = mpeg.find_runs(file.read(_SEARCHED_BYTES))
            if max((run.frames for run in runs), default=0) < _LEAST_FRAMES:
                raise
            yield file, None
        else:
            with sound:
                yield file, sound


def _streams_beyond(file: io.FileIO, sound: _Sound, heard: int) -> list[mpeg.Stream]:
    """The same as `_streams`, after so many samples were read and no more; none if these are all.

    Decoding a short clip waits for it, so it looks no further into an mp3 file than it must: where the decoder has met
    every frame, only an estimate of the length can have stopped it, and only inside the last one.
    """
    if sound.is_mpeg and not mpeg.find_runs(file.read()):
        estimated = heard == sound.frames and not mpeg.has_header(file)
        return _streams(file, sound, heard) if estimated else []
    return _streams(file, sound)


def _streams(file: io.FileIO, sound: _Sound | None, heard: int = 0) -> list[mpeg.Stream]:
    """Streams that libsndfile hears whole, one behind the other; none where it hears the whole file as it is."""
    if sound is None or sound.is_mpeg:
        content = _content(file)
        runs = mpeg.find_runs(content)
        if sound is not None and mpeg.are_read_whole(runs, heard):
            return []
        return [mpeg.make_stream(content, run) for run in runs]
    return [mpeg.Stream(part, None) for part in ogg.split(_content(file))] if sound.format == "OGG" else []


def _content(file: io.FileIO) -> bytes:
    """All of a file; its position, which is the decoder's too, stays."""
    at = file.tell()
    file.seek(0)
    try:
        return file.readall()
    finally:
        file.seek(at)


@contextmanager
def _open_stream(stream: mpeg.Stream) -> Iterator[_Sound]:
    if stream.samples is None:
        with _Sound(io.BytesIO(stream.data)) as sound:
            yield sound
        return
    # Through a pipe, whose length libsndfile cannot ask for: it reads to the end, and estimates none.
    readable, writable = os.pipe()
    feeder = threading.Thread(target=_feed, args=(writable, stream.data), daemon=True)
    feeder.start()
    try:
        with _Sound(readable, closefd=False) as sound:
            yield sound
    finally:
        os.close(readable)
        feeder.join()


def _feed(writable: int, data: bytes) -> None:
    with suppress(BrokenPipeError), open(writable, "wb") as pipe:
        pipe.write(data)
