"""WAV, AIFF, AU, CAF: how many bytes of sound the header declares, and how many there are."""

from __future__ import annotations

import os
import struct
from typing import BinaryIO, Literal

Order = Literal["little", "big"]

_RIFF: dict[bytes, Order] = {b"RIFF": "little", b"RIFX": "big", b"RF64": "little", b"BW64": "little"}
_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"


def lacks(file: BinaryIO) -> str | None:
    """What of a file is not there, in words. A size that stands for "not known", as streams have it, promises nothing.

    Args:
        file: from its start; other formats than those above lack nothing.
    """
    size = os.fstat(file.fileno()).st_size
    found = _find_sound(file, size)
    if found is None:
        return None
    start, declared = found
    # What sox, arecord and ffmpeg write into a pipe.
    unknown = declared <= 0 or 0x7FFF0000 <= declared <= 0x80000000 or 0xFFFF0000 <= declared <= 0xFFFFFFFF
    there = size - start
    if unknown or declared <= there:
        return None
    return f"its header declares {declared:,} bytes of sound, and {max(there, 0):,} are there"


def _find_sound(file: BinaryIO, size: int) -> tuple[int, int] | None:
    """Where the samples start, and how many bytes of them are declared."""
    file.seek(0)
    head = file.read(40)
    if head[:4] in _RIFF and head[8:12] == b"WAVE":
        return _chunk(file, size, b"data", _RIFF[head[:4]])
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return _chunk(file, size, b"SSND", "big")
    if head[:4] in (b".snd", b"dns.") and len(head) >= 12:
        start, declared = struct.unpack(">II" if head[:4] == b".snd" else "<II", head[4:12])
        return start, declared
    if head[:4] == b"caff":
        return _caf_chunk(file, size)
    return _w64_chunk(file, size) if head[:4] == b"riff" else None


def _chunk(file: BinaryIO, size: int, name: bytes, order: Order) -> tuple[int, int] | None:
    at, large = 12, None
    while at + 8 <= size:
        file.seek(at)
        head = file.read(24)
        length = int.from_bytes(head[4:8], order)
        if head[:4] == b"ds64" and len(head) == 24:
            large = int.from_bytes(head[16:24], "little")
        if head[:4] == name:
            return at + 8, large if large is not None and length == 0xFFFFFFFF else length
        at += 8 + length + length % 2
    return None


def _caf_chunk(file: BinaryIO, size: int) -> tuple[int, int] | None:
    at = 8
    while at + 12 <= size:
        file.seek(at)
        name, length = struct.unpack(">4sq", file.read(12))
        if name == b"data":
            return at + 12, length
        at += 12 + max(0, length)
    return None


def _w64_chunk(file: BinaryIO, size: int) -> tuple[int, int] | None:
    at = 40
    while at + 24 <= size:
        file.seek(at)
        head = file.read(24)
        length = int.from_bytes(head[16:24], "little")
        if head[:16] == _W64_DATA:
            return at + 24, length - 24
        at += max(24, length + -length % 8)
    return None
