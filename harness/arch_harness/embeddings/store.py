"""The embedding store: each embedding computed once, in an entry for each model, dataset and preprocessing.

`entry.py` holds what an entry is made of.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from arch_common.errors import ArchError

from arch_harness.datasets.audio import decoder
from arch_harness.datasets.dataset import STRICT
from arch_harness.datasets.preprocessing import USUAL
from arch_harness.embeddings.entry import Entry
from arch_harness.embeddings.key import KEY_FILE, StoreKey
from arch_harness.embeddings.lock import LOCK_FILE, lock
from arch_harness.embeddings.parts import open_part

if TYPE_CHECKING:
    from arch_harness.datasets import Dataset
    from arch_harness.datasets.preprocessing import Preprocessing
    from arch_harness.results.run import ModelFacts


@dataclass(frozen=True)
class EntryFacts:
    """What is known of an entry without opening it.

    Attributes:
        key: what `key.json` says; None where it cannot be read.
        clips: rows of its files; a clip that was embedded again counts twice until its run has ended.
        size: of its files, in bytes.
        idle_days: since it was last opened.
    """

    folder: Path
    key: dict[str, object] | None
    clips: int
    size: int
    idle_days: float

    def value(self, name: str) -> str:
        """A field of the key in words, the content hash cut to 12 digits; `?` where the key cannot be read."""
        if self.key is None:
            return "?"
        found = str(self.key.get(name, "?"))
        return found.removeprefix("sha256:")[:12] if name == "content_hash" else found

    @property
    def preprocessing(self) -> str:
        """What was done to the clips otherwise than usual; empty where nothing was."""
        return str((self.key or {}).get("preprocessing", ""))

    def is_of(self, model: str) -> bool:
        """Whether it is of a model of this name, or whose content hash begins so."""
        content = str((self.key or {}).get("content_hash", "")).removeprefix("sha256:")
        wanted = model.removeprefix("sha256:")
        # Eight digits of a hash are no model's name by chance.
        return self.value("model") == model or (len(wanted) >= 8 and content.startswith(wanted))


class EmbeddingStore:
    """A folder of entries.

    Args:
        root: made when an entry is opened for writing.
        note: told what the user should know: a wait for another process, a damaged file.
    """

    def __init__(self, root: Path, note: Callable[[str], None] = lambda _text: None) -> None:
        self.root = root
        self._note = note

    def open(self, model: ModelFacts, dataset: Dataset, layers: bool, preprocessing: Preprocessing = USUAL) -> Entry:
        """The entry, for reading and writing; to be used as a context manager, and by one process at a time.

        Args:
            model: any name of it will do: what counts is its content.
            dataset: its stricter split shares the entry.
            layers: whether it holds the layer embeddings too, if the model has them. An entry without them takes what
                it lacks from the one with them.
            preprocessing: what was done to the clips.
        """
        key = StoreKey(
            content_hash=model.content_hash,
            precision=model.precision,
            executed_by=model.executed_by,
            embedding_size=model.embedding_size,
            layers=model.layer_embeddings if layers else 0,
            dataset=dataset.id.removesuffix(STRICT),
            folder=str(dataset.folder.resolve()),
            sample_rate=model.sample_rate,
            max_seconds=dataset.declaration.max_seconds,
            decoder=decoder(),
            preprocessing=preprocessing.key,
        )
        richer = None
        if model.layer_embeddings and not layers:
            richer = self.open(model, dataset, layers=True, preprocessing=preprocessing)
        return Entry(self.root / key.digest, key, model.name, dataset, self._note, richer)

    def entries(self) -> list[EntryFacts]:
        """All entries, the one used last first."""
        found = [_facts(folder) for folder in self._folders()]
        return sorted(found, key=lambda one: one.idle_days)

    def _folders(self) -> list[Path]:
        # Whatever else lies there is not ours to list or delete.
        try:
            return [path for path in self.root.iterdir() if re.fullmatch("[0-9a-f]{16}", path.name) and path.is_dir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ArchError(f"cannot read the embedding store {self.root}: {error.strerror}") from error

    def remove(self, entry: EntryFacts) -> bool:
        """Delete an entry; False, and nothing is deleted, if a process is using it.

        Raises:
            ArchError: if it cannot be deleted.
        """
        try:
            held = lock(entry.folder, None)
            if held is None:
                return False
            try:
                shutil.rmtree(entry.folder)
            finally:
                held.release()
        except OSError as error:
            raise ArchError(f"cannot delete {entry.folder}: {error.strerror}") from error
        return True


def _facts(folder: Path) -> EntryFacts:
    size = clips = 0
    used = 0.0
    with _vanishing():
        used = (folder / (KEY_FILE if (folder / KEY_FILE).exists() else LOCK_FILE)).stat().st_mtime
    for path in folder.glob("*"):  # no error if it is just being deleted
        with _vanishing():
            size += path.stat().st_size
            if path.suffix == ".parquet":
                with open_part(path) as file:
                    clips += file.metadata.num_rows
    key = None
    with _vanishing():
        key = json.loads((folder / KEY_FILE).read_text(encoding="utf-8"))
    return EntryFacts(folder, key if isinstance(key, dict) else None, clips, size, (time.time() - used) / 86400)


def _vanishing() -> suppress:
    """Pass over a file that its process is just replacing, or that is damaged: opening the entry will tell."""
    return suppress(OSError, ValueError, pa.ArrowException)
