"""MPEG audio, that is mp3: its frames, counted, and streams of them that libsndfile hears whole.

libsndfile reads as many frames as the file's header declares (Xing, Info), else as many as it estimates from the first
bitrate that it meets, and never on behind a second header or a change of format. So it stops early in a file of
variable bitrate without a header, in files that were joined, and where the header is wrong.
"""

from __future__ import annotations

import io
import os
import struct
from dataclasses import dataclass, field

_BITRATES = {
    (1, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""kbit/s by version (2 is also 2.5) and layer; the first, a free bitrate, is not read here."""
_RATES = (44100, 48000, 32000)
_DIVISORS = {3: 1, 2: 2, 0: 4}
# Version, layer and sample rate in the second and third byte of a header; mono or not is in the fourth.
_FORMAT_BITS = 0x1E0C
_DELAYS = 21
"""Where behind the fields of an encoder's header its delay and padding stand, of 12 bits each."""


def _frame_lengths() -> dict[int, int]:
    """The second and third byte of each valid header -> bytes of the frame."""
    lengths = {}
    for code in range(0xE000, 0x10000):
        divisor, layer, bitrate, rate, padding = (
            _DIVISORS.get(code >> 11 & 3),
            4 - (code >> 9 & 3),
            code >> 4 & 15,
            code >> 2 & 3,
            code >> 1 & 1,
        )
        if divisor is None or layer == 4 or bitrate in (0, 15) or rate == 3:
            continue
        version = 1 if divisor == 1 else 2
        bits_per_s = 1000 * _BITRATES[version, layer][bitrate]
        if layer == 1:
            lengths[code] = 4 * (12 * bits_per_s // (_RATES[rate] // divisor) + padding)
        else:
            lengths[code] = _samples(layer, divisor) // 8 * bits_per_s // (_RATES[rate] // divisor) + padding
    return lengths


def _samples(layer: int, divisor: int) -> int:
    return 384 if layer == 1 else 576 if layer == 3 and divisor > 1 else 1152


_LENGTHS = _frame_lengths()
_LARGEST_FRAME = max(_LENGTHS.values())


@dataclass
class FrameRun:
    """Frames of one format up to the next encoder's header; tags and what is no audio between them are left out.

    Attributes:
        header: the four bytes that the first frame starts with.
        info: the encoder's header (Xing, Info), a frame without sound; empty if there is none.
        declared: how many frames it declares.
        spans: first byte and end of frames that touch.
        frames: in all spans.
        cut: whether one more frame starts, which ends beyond the file.
    """

    header: bytes
    info: bytes = b""
    declared: int | None = None
    spans: list[list[int]] = field(default_factory=list)
    frames: int = 0
    cut: bool = False

    @property
    def samples(self) -> int:
        """Samples of each channel in all frames; the encoder's and the decoder's delay are among them."""
        return self.frames * _samples(4 - (self.header[1] >> 1 & 3), _DIVISORS[self.header[1] >> 3 & 3])


@dataclass(frozen=True)
class Stream:
    """What libsndfile hears whole, if it cannot ask how long it is: then it does not estimate.

    `samples` is of each channel; None where the stream has a header, which tells it.
    """

    data: bytes
    samples: int | None


def find_runs(data: bytes) -> list[FrameRun]:
    """The runs of a file. A frame counts where it follows another of its format, or one or the end follows it."""
    runs: list[FrameRun] = []
    at, size, key, expected, mark = 0, len(data), -1, -1, _find_mark(data, 0)
    while at + 4 <= size:
        code = data[at + 1] << 8 | data[at + 2] if data[at] == 0xFF else 0
        length = _LENGTHS.get(code)
        if length is None:
            at = _skip(data, at)
            continue
        end = at + length
        its_key = _key(code, data[at + 3])
        if at != expected or its_key != key:
            if end != size and not _starts(data, end, its_key):
                at += 1
                continue
        elif end > size:
            runs[-1].cut = True
            break
        # One behind frames without a header is heard as silence, as mpg123 and FFmpeg do: it divides nothing.
        same = its_key == key
        header = mark < end and at + _mark_offset(data[at : at + 4]) == mark and not (same and not runs[-1].info)
        if header or not same:
            runs.append(FrameRun(data[at : at + 4]))
            key = its_key
        run = runs[-1]
        if header:
            run.info = data[at:end]
            run.declared = _declared(run)
        else:
            if run.spans and run.spans[-1][1] == at:
                run.spans[-1][1] = end
            else:
                run.spans.append([at, end])
            run.frames += 1
        if mark < end:
            mark = _find_mark(data, end)
        at = expected = end
    if runs and at == expected < size and data[at] == 0xFF:  # too few bytes for a header
        runs[-1].cut = True
    return [run for run in runs if run.frames]


def has_header(file: io.FileIO) -> bool:
    """Whether the first frame of a file looks like an encoder's header; the file's position stays."""
    start = _behind_tag(os.pread(file.fileno(), 10, 0), 0)
    frame = os.pread(file.fileno(), _LARGEST_FRAME, start)
    return _find_mark(frame, 0) < len(frame)


def are_read_whole(runs: list[FrameRun], heard: int = 0) -> bool:
    """Whether libsndfile reads all runs of a file: it is one, of frames that touch, and its header is true.

    Without a header it depends; all is read where so many samples of each channel were heard.
    """
    if len(runs) > 1 or any(len(run.spans) > 1 for run in runs):
        return False
    return all(run.declared == run.frames or (run.declared is None and run.samples <= heard) for run in runs)


def make_stream(data: bytes, run: FrameRun) -> Stream:
    """A stream of one run of a file, with a header that is true or without one."""
    body = b"".join(data[start:end] for start, end in run.spans)
    if run.declared is None:
        return Stream(body, run.samples)
    info, at = bytearray(run.info), _mark_offset(run.header)
    fields = info[at + 7]
    struct.pack_into(">I", info, at + 8, run.frames)
    if fields & 2 and at + 16 <= len(info):
        struct.pack_into(">I", info, at + 12, len(info) + len(body))
    # The encoder also says how many samples to leave out at the end: not of these frames, if it counted others.
    sizes = (4, 4, 100, 4)  # of the fields: frames, bytes, places to seek, quality
    delays = at + 8 + sum(size for bit, size in enumerate(sizes) if fields >> bit & 1) + _DELAYS
    if run.declared != run.frames and delays + 3 <= len(info):
        info[delays + 1] &= 0xF0
        info[delays + 2] = 0
    return Stream(bytes(info + body), None)


def lacks(data: bytes) -> str | None:
    """What of a file is not there: frames that its header declares, or the end of the last one."""
    runs = find_runs(data)
    for run in runs:
        # One more or less is a matter of taste: some encoders count their header.
        if run.declared is not None and run.declared > run.frames + 1:
            return f"its header declares {run.declared:,} frames, and {run.frames:,} are there"
    return "its last frame is cut short" if runs and runs[-1].cut else None


def _key(code: int, mode: int) -> int:
    return code & _FORMAT_BITS | (mode >= 0xC0)


def _starts(data: bytes, at: int, key: int) -> bool:
    """Whether a frame of this format starts there."""
    if at + 4 > len(data) or data[at] != 0xFF:
        return False
    code = data[at + 1] << 8 | data[at + 2]
    return code in _LENGTHS and _key(code, data[at + 3]) == key


def _skip(data: bytes, at: int) -> int:
    """Where to look on where no frame starts: behind a tag, whose pictures may look like frames, else further on."""
    if (behind := _behind_tag(data, at)) > at:
        return behind
    if data.startswith(b"TAG", at) and at + 128 <= len(data):
        return at + 128
    if data.startswith(b"APETAGEX", at) and at + 32 <= len(data):
        return at + 32 + int.from_bytes(data[at + 12 : at + 16], "little")
    found = data.find(b"\xff", at + 1)
    return found if found >= 0 else len(data)


def _behind_tag(data: bytes, at: int) -> int:
    """The end of an ID3v2 tag; `at` where there is none."""
    if not data.startswith(b"ID3", at) or at + 10 > len(data):
        return at
    a, b, c, d = (byte & 0x7F for byte in data[at + 6 : at + 10])
    return at + 10 + (a << 21 | b << 14 | c << 7 | d)


def _find_mark(data: bytes, start: int) -> int:
    """Where the next word that may be of an encoder's header stands; beyond the end if there is none."""
    found = [at for at in (data.find(b"Xing", start), data.find(b"Info", start)) if at >= 0]
    return min(found, default=len(data))


def _mark_offset(header: bytes) -> int:
    """Where in its frame an encoder's header starts: behind the frame's header and its side information; Layer III."""
    if header[1] >> 1 & 3 != 1:
        return -1
    mono, first_version = header[3] >= 0xC0, header[1] >> 3 & 3 == 3
    return 4 + ((17 if mono else 32) if first_version else (9 if mono else 17))


def _declared(run: FrameRun) -> int | None:
    at = _mark_offset(run.header)
    flags, frames = struct.unpack_from(">II", run.info.ljust(at + 12, b"\0"), at + 4)
    return frames if flags & 1 else None
