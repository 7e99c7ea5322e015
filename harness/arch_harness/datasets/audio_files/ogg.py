"""Ogg: its pages, and the chained streams that libsndfile hears the first of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_HEADER = 27
_FIRST, _LAST = 2, 4


@dataclass(frozen=True)
class _Page:
    """`end` may lie beyond the file; `number` counts the pages of the stream `serial`."""

    start: int
    end: int
    flags: int
    serial: int
    number: int


def _pages(data: bytes) -> Iterator[_Page]:
    at = data.find(b"OggS")
    while 0 <= at <= len(data) - _HEADER:
        segments = data[at + 26]
        end = at + _HEADER + segments + sum(data[at + _HEADER : at + _HEADER + segments])
        serial, number = (int.from_bytes(data[at + place : at + place + 4], "little") for place in (14, 18))
        yield _Page(at, end, data[at + 5], serial, number)
        at = data.find(b"OggS", end)


def split(data: bytes) -> list[bytes]:
    """The chained streams of a file, each a file of its own; empty if there is but one."""
    starts, heads = [], False
    for page in _pages(data):
        first = bool(page.flags & _FIRST)
        # What starts together is multiplexed, not chained.
        if first and not heads:
            starts.append(page.start)
        heads = first
    ends = [*starts[1:], len(data)]
    return [data[start:end] for start, end in zip(starts, ends, strict=True)] if len(starts) > 1 else []


def lacks(data: bytes) -> str | None:
    """What of a file is not there: pages between others, the end of the last page, or the page that says the end."""
    numbers: dict[int, int] = {}
    last: _Page | None = None
    for page in _pages(data):
        expected = 0 if page.flags & _FIRST else numbers.get(page.serial)
        if page.number != expected:
            return "pages are missing in its middle"
        numbers[page.serial] = page.number + 1
        last = page
    if last is None or last.end > len(data):
        return "its last page is cut short"
    return None if last.flags & _LAST else "it ends before its last page"
