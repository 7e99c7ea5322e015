"""An entry of the store read without its dataset: what is stored of every clip that it knows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from arch_common.errors import ArchError

from arch_harness.embeddings.key import KEY_FILE
from arch_harness.embeddings.lock import lock
from arch_harness.embeddings.parts import as_matrix, is_whole, open_part

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class StoredClips:
    """What an entry holds.

    Attributes:
        paths: of the clips, as the files hold them.
        sizes: int64 [clips], bytes of each clip's file when it was embedded.
        embeddings: FP32 [clips, embedding size].
    """

    paths: list[str]
    sizes: NDArray[np.int64]
    embeddings: NDArray[np.float32]


def read_entry(folder: Path, note: Callable[[str], None] = lambda _text: None) -> StoredClips:
    """Read the newest embedding of each clip in an entry; other processes wait meanwhile.

    Args:
        folder: of the entry.
        note: told of a file that is damaged and left out.

    Raises:
        ArchError: if it is no entry, or cannot be read.
    """
    try:
        size = int(json.loads((folder / KEY_FILE).read_text(encoding="utf-8"))["embedding_size"])
        held = lock(folder, lambda holder: note(f"waiting for {holder}, which uses the embeddings in {folder}"))
        try:
            return _read(folder, size, note)
        finally:
            if held is not None:
                held.release()
    except OSError as error:
        raise ArchError(f"cannot read the embeddings in {folder}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise ArchError(f"{folder} is no entry of the embedding store, or it is damaged: {error}") from error


def _read(folder: Path, size: int, note: Callable[[str], None]) -> StoredClips:
    rows: dict[str, tuple[int, int, int]] = {}
    matrices: list[NDArray[np.float32]] = []
    for path in sorted(folder.glob("*.parquet")):
        if not is_whole(path):
            note(f"{path} is damaged and left out")
            continue
        with open_part(path) as file:
            table = file.read(columns=["path", "size", "embedding"]).combine_chunks()
        if not len(table):
            continue
        # Files are in the order of their numbers: of a clip the last row counts.
        for row, (name, clip_size) in enumerate(zip(table["path"].to_pylist(), table["size"].to_pylist(), strict=True)):
            rows[name] = (len(matrices), row, clip_size)
        matrices.append(np.concatenate([as_matrix(chunk, size) for chunk in table["embedding"].chunks]))
    kept = [matrices[file][row] for file, row, _ in rows.values()]
    embeddings = np.stack(kept) if kept else np.empty((0, size), dtype=np.float32)
    return StoredClips(list(rows), np.array([one[2] for one in rows.values()], dtype=np.int64), embeddings)
