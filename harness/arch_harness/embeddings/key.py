"""The key of an entry of the embedding store."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from arch_common.files import whole_file

KEY_FILE = "key.json"


@dataclass(frozen=True)
class StoreKey:
    """All that decides what an embedding is, beside the clip's file.

    Attributes:
        executed_by: what the server says that it computes in, and by what. Another precision gives other embeddings; an
            entry of which that is not known is not that of one of which it is.
        preprocessing: what was done to the clips otherwise than usual; empty where nothing was.
    """

    content_hash: str
    precision: str
    executed_by: str
    embedding_size: int
    layers: int
    dataset: str
    folder: str
    sample_rate: int
    max_seconds: float
    decoder: str
    format: int = 1
    preprocessing: str = ""

    @property
    def facts(self) -> dict[str, object]:
        """The fields. Without the preprocessing where it is the usual one: stores that are older know none."""
        return {name: value for name, value in asdict(self).items() if name != "preprocessing" or value}

    @property
    def digest(self) -> str:
        """The name of the entry's folder."""
        return hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()[:16]


def keep_key(folder: Path, key: StoreKey, model: str) -> None:
    """Have the key and the model's name in the folder of an entry, in a file whose date tells when it was last used.

    Raises:
        OSError: if it cannot be dated.
        ArchError: if it cannot be written.
    """
    facts = json.dumps({"model": model, **key.facts}, indent=2) + "\n"
    path = folder / KEY_FILE
    if path.exists() and path.read_bytes() == facts.encode():
        os.utime(path)
    else:
        with whole_file(path) as file:
            file.write(facts.encode())
