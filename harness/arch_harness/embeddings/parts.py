"""The files of an entry: Parquet, numbered, with the CRC-32 of all their bytes in their name.

They are opened by Python, for pyarrow takes no path that is not UTF-8; and what no Parquet text can hold, such as the
name of a clip that is not UTF-8, is written in another form.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from arch_common.files import sync_folder, whole_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UNFINISHED = "unfinished"
_FILE = re.compile(r"(\d{8})-([0-9a-f]{8})\.parquet")
_BLOCK = 2**20


def write_part(folder: Path, number: int, schema: pa.Schema, groups: Iterable[pa.Table], rows_per_group: int) -> Path:
    """Write a file, whole or not at all, and give its path.

    Raises:
        ArchError: if it cannot be written.
        OSError: if it cannot be given its name.
    """
    unfinished = folder / UNFINISHED
    with whole_file(unfinished) as file:
        counted = Counted(file)
        # Embeddings hardly compress, and no one asks for the smallest one.
        with pq.ParquetWriter(
            counted, schema, compression="none", use_dictionary=False, write_statistics=False
        ) as writer:
            for group in groups:
                writer.write_table(group, row_group_size=rows_per_group)
    path = folder / f"{number:08d}-{counted.crc:08x}.parquet"
    unfinished.rename(path)
    sync_folder(folder)
    return path


@contextmanager
def open_part(path: Path) -> Iterator[pq.ParquetFile]:
    """A file to read from; pyarrow reads no further ahead than it is asked to."""
    with path.open("rb") as file:
        # The default holds a whole file's worth.
        yield pq.ParquetFile(file, pre_buffer=False)


def number_of(path: Path) -> int:
    """Which is newer: of two files the one with the higher number."""
    return int(path.name[:8])


def is_whole(path: Path) -> bool:
    """Whether a file is what was written under its name."""
    name = _FILE.fullmatch(path.name)
    crc = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            crc = zlib.crc32(block, crc)
    return name is not None and int(name[2], 16) == crc


class Counted(io.RawIOBase):
    """Passes on what is written, and keeps the CRC-32 of it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.crc = 0

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, data: memoryview | bytes) -> int:  # type: ignore[override]  # any buffer in the base class
        """Pass it on."""
        self.crc = zlib.crc32(data, self.crc)
        return self._file.write(data)

    def tell(self) -> int:
        """Where the file stands."""
        return self._file.tell()


def as_stored(path: str) -> str:
    """A clip's path as the files hold it: as it is, or behind a NUL, which no path has, where it is not UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return "\0" + path.encode(errors="surrogatepass").decode("latin-1")
    return path


def as_lists(values: NDArray[np.float32], kind: pa.DataType) -> pa.FixedSizeListArray:
    """A column of lists."""
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), type=kind)


def as_matrix(lists: pa.FixedSizeListArray, size: int) -> NDArray[np.float32]:
    """A column of lists as FP32 [rows, size], without a copy."""
    matrix: NDArray[np.float32] = lists.flatten().to_numpy().reshape(-1, size)
    return matrix
