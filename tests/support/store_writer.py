"""What a process does that fills an entry of the embedding store, for the tests to kill; and what it fills it with."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import numpy as np
from arch_common.errors import ArchError
from arch_harness.datasets import Dataset, load_dataset
from arch_harness.datasets.catalog import DECLARATIONS
from arch_harness.embeddings import entry as entry_module
from arch_harness.embeddings.store import EmbeddingStore
from arch_harness.results.run import ModelFacts
from numpy.typing import NDArray
from support.waiting import until

CLIPS, SIZE = 150, 24
PART = 10


def write_data(folder: Path) -> Path:
    """ESC-50's layout; the store reads no audio."""
    (folder / "meta").mkdir(parents=True)
    (folder / "audio").mkdir()
    rows = ["filename,fold,target"]
    for index in range(CLIPS):
        (folder / "audio" / f"{index}.wav").touch()
        rows.append(f"{index}.wav,{index % 5 + 1},{index // 5 % 3}")
    (folder / "meta" / "esc50.csv").write_text("\n".join(rows))
    return folder


def dataset_of(folder: Path) -> Dataset:
    return load_dataset(DECLARATIONS["esc50"], folder)


def model_of(layers: int = 0) -> ModelFacts:
    return ModelFacts(
        name="sharp",
        source="builtin",
        revision="",
        family="hubert",
        precision="fp32",
        sample_rate=16000,
        embedding_size=SIZE,
        layer_embeddings=layers,
        parameter_count=1,
        opset=20,
        content_hash="sha256:0",
        parity_max_relative_error=0,
        parity_min_cosine=1,
        max_batch_size=1,
        max_queue_delay_us=0,
    )


def rows_of(index: int, layers: int = 0, version: int = 0) -> NDArray[np.float32]:
    """FP32 [1 + layers, SIZE] that belongs to one clip only."""
    return np.random.default_rng((index, version)).standard_normal((1 + layers, SIZE), dtype=np.float32)


def write(root: Path, data: Path, log: Path, go: Path | None = None, part: int = PART) -> None:
    """Store what is missing in parts of `part` clips, once `go` is there; `log` tells each clip that was appended."""
    entry_module.PART_BYTES = part * 4 * SIZE
    with log.open("w", buffering=1) as said:
        store = EmbeddingStore(root, lambda text: print(text, file=said))
        with store.open(model_of(), dataset_of(data), layers=False) as entry:
            print("begun", file=said)
            if go is not None:
                until(go.exists)
            for index, _ in entry.missing():
                entry.append([(index, rows_of(index))])
                print(index, file=said)
            entry.finish()


def write_little(root: Path, data: Path, log: Path, limit: int) -> None:
    """As `write`, in one part, where the system lets no file grow beyond `limit` bytes; `log` tells the error."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        write(root, data, log, part=CLIPS)
    except ArchError as error:
        log.write_text(str(error))
