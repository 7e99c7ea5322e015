"""Unpacking zip and tar archives, those in parts too, without ever writing outside the folder given."""

from __future__ import annotations

import gzip
import io
import lzma
import shutil
import struct
import tarfile
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from arch_common.errors import ArchError, DamagedArchiveError

from arch_harness.datasets.listing import is_leftover

_COPY_BYTES = 1 << 20
# BadGzipFile is an OSError, yet nothing that ails the disk. What zipfile and tarfile make of bytes that are not theirs
# is a ValueError or LookupError at times; a RuntimeError is a member that wants a password.
_DAMAGES = (
    *(zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError),
    *(struct.error, ValueError, LookupError, OverflowError, RuntimeError),
)


def unpack(parts: Sequence[Path], destination: Path, strip_root: bool) -> None:
    """Unpack an archive into a folder; files that are there already are replaced.

    Args:
        parts: the archive, or its parts in order: bytes simply cut up (`.zip.001`), or the disks of a split zip
            (`.z01` ... `.zip`).
        destination: created if it is not there.
        strip_root: leave out the single folder that everything sits in.

    Raises:
        DamagedArchiveError: if it is no archive or its contents do not match their checksums.
        ArchError: if a member would land outside `destination`; nothing is written then.
        OSError: if it cannot be written.
    """
    name = parts[-1].name
    try:
        with _Joined(parts) as joined:
            if ".zip" in name:
                _unpack_zip(joined, destination, strip_root, name)
            else:
                _unpack_tar(joined, destination, strip_root, name)
    except _DAMAGES as error:
        raise DamagedArchiveError(f"{name} is damaged: {error}") from error


class _Joined(io.RawIOBase):
    """Several files, read as one."""

    def __init__(self, parts: Sequence[Path]) -> None:
        self._files: list[BinaryIO] = []
        for part in parts:
            self._files.append(part.open("rb"))
        sizes = [part.stat().st_size for part in parts]
        self.starts = [0, *accumulate(sizes)][:-1]
        self.size = sum(sizes)
        self._position = 0
        # (place, bytes): what is read there instead of what the files hold.
        self.overlay: tuple[int, bytes] | None = None

    def close(self) -> None:
        for file in self._files:
            file.close()
        super().close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        place = bisect_right(self.starts, self._position) - 1
        while place < len(self._files):
            file = self._files[place]
            file.seek(self._position - self.starts[place])
            data = file.read(len(buffer))
            if data:
                buffer[: len(data)] = self._overlaid(data)
                self._position += len(data)
                return len(data)
            place += 1
        return 0

    def _overlaid(self, data: bytes) -> bytes:
        if self.overlay is None:
            return data
        place, other = self.overlay
        start = max(self._position, place)
        end = min(self._position + len(data), place + len(other))
        if start >= end:
            return data
        here = self._position
        return data[: start - here] + other[start - place : end - place] + data[end - here :]


def _unpack_zip(joined: _Joined, destination: Path, strip_root: bool, name: str) -> None:
    directory_offset = _read_end_of_split_zip(joined)
    with zipfile.ZipFile(io.BufferedReader(joined, _COPY_BYTES)) as archive:
        if directory_offset is not None:
            shift = archive.start_dir - directory_offset  # zipfile added this, taking the offsets for those of one file
            for member in archive.filelist:
                member.header_offset += joined.starts[member.volume] - shift
        members = [member for member in archive.infolist() if not member.is_dir()]
        targets = _targets([member.filename for member in members], destination, strip_root, name)
        for member, target in zip(members, targets, strict=True):
            if target is not None:
                with archive.open(member) as source:
                    _write(source, target)


def _read_end_of_split_zip(joined: _Joined) -> int | None:
    """The offset of the central directory on its disk; None if the archive is not split.

    In a split zip (APPNOTE.TXT 4.3 and 8) every offset counts from the start of a disk, which zipfile does not know.
    A zip64 locator, which zipfile refuses to read for several disks, is overlaid with one for a single file.
    """
    tail = min(joined.size, 22 + 0xFFFF)
    joined.seek(-tail, io.SEEK_END)
    data = io.BufferedReader(joined, _COPY_BYTES)
    try:
        end = data.read(tail)
        place = end.rfind(b"PK\x05\x06")
        if place < 0:
            return None  # zipfile says what is wrong
        last_disk, _, _, _, _, directory_offset = struct.unpack_from("<4H2L", end, place + 4)
        locator = place - 20
        if locator >= 0 and end[locator : locator + 4] == b"PK\x06\x07":
            disk, offset, disks = struct.unpack_from("<LQL", end, locator + 4)
            if disks > 1 and disk < len(joined.starts):
                offset += joined.starts[disk]
                data.seek(offset + 16)
                last_disk, _, _, _, _, directory_offset = struct.unpack("<2L4Q", data.read(40))
                single = struct.pack("<4sLQL", b"PK\x06\x07", 0, offset, 1)
                joined.overlay = (joined.size - tail + locator, single)
    finally:
        data.detach()
    if last_disk == 0:
        return None
    if last_disk != len(joined.starts) - 1:
        raise zipfile.BadZipFile(f"it has {last_disk + 1} parts, not {len(joined.starts)}")
    return int(directory_offset)


def _unpack_tar(joined: _Joined, destination: Path, strip_root: bool, name: str) -> None:
    with tarfile.open(fileobj=io.BufferedReader(joined, _COPY_BYTES)) as archive:
        members = [member for member in archive.getmembers() if member.isfile()]
        targets = _targets([member.name for member in members], destination, strip_root, name)
        for member, target in zip(members, targets, strict=True):
            source = archive.extractfile(member)
            if target is not None and source is not None:
                with source:
                    _write(source, target)
        _read_end_of_tar(archive)


def _read_end_of_tar(archive: tarfile.TarFile) -> None:
    """Read on where tarfile stops, so that an archive that lost its end is told from a whole one.

    Raises:
        tarfile.ReadError: if no block of zeros follows the last member; tarfile takes any end of the file for the end.
        OSError, EOFError: if the checksum at the end of a compressed archive differs or is cut off.
    """
    rest = archive.fileobj
    assert rest is not None  # noqa: S101 - for the type checker
    rest.seek(archive.offset)
    if rest.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it is cut off after a member")
    while rest.read(_COPY_BYTES):
        pass


def _targets(names: Sequence[str], destination: Path, strip_root: bool, archive: str) -> list[Path | None]:
    """Where each member goes; None for what a system left. Links and devices are no members to begin with.

    Raises:
        ArchError: if a name leads outside.
    """
    paths = [PurePosixPath(name.replace("\\", "/")) for name in names]
    for path in paths:
        if path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":")) or not path.parts:
            raise ArchError(f"{archive} is not unpacked: its member {str(path)!r} would land outside the folder")
    data = [not any(map(is_leftover, path.parts)) for path in paths]
    kept = [path for path, is_data in zip(paths, data, strict=True) if is_data]
    inside = all(len(path.parts) > 1 for path in kept)
    skip = 1 if strip_root and inside and len({path.parts[0] for path in kept}) == 1 else 0
    return [
        destination.joinpath(*path.parts[skip:]) if is_data else None for path, is_data in zip(paths, data, strict=True)
    ]


def _write(source: IO[bytes], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    with target.open("xb") as file:
        shutil.copyfileobj(source, file, _COPY_BYTES)
