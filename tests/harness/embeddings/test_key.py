"""Keys of the embedding store: what is stored stays found, and other preprocessing is another entry."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from arch_harness.bench.ablation.plan import BY_CLIENT
from arch_harness.datasets.preprocessing import Preprocessing
from arch_harness.embeddings.key import KEY_FILE
from arch_harness.embeddings.store import EmbeddingStore
from support.store_writer import CLIPS, SIZE, dataset_of, model_of, rows_of, write_data


def test_the_usual_preprocessing_has_the_key_that_it_always_had(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    entry = EmbeddingStore(tmp_path / "cache").open(model_of(), dataset_of(data), layers=False)
    # The fields of the first format, hashed here as they were before there was any other preprocessing.
    fields = {
        "content_hash": "sha256:0",
        "precision": "fp32",
        "executed_by": "",
        "embedding_size": SIZE,
        "layers": 0,
        "dataset": "esc50",
        "folder": str(data.resolve()),
        "sample_rate": 16000,
        "max_seconds": 5,
        "decoder": entry.key.decoder,
        "format": 1,
    }
    assert entry.folder.name == hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]
    with entry:
        assert json.loads((entry.folder / KEY_FILE).read_text()) == {"model": "sharp", **fields}


def test_every_setting_has_an_entry_of_its_own(tmp_path: Path) -> None:
    store, dataset = EmbeddingStore(tmp_path / "cache"), dataset_of(write_data(tmp_path / "data"))
    entries = [store.open(model_of(), dataset, False, one) for one in (Preprocessing(), *BY_CLIENT.values())]
    assert len({entry.folder for entry in entries}) == len(BY_CLIENT) + 1


def test_embeddings_of_other_preprocessing_are_not_taken_over(tmp_path: Path) -> None:
    """Neither from the usual entry nor from the one with layers."""
    store, dataset = EmbeddingStore(tmp_path / "cache"), dataset_of(write_data(tmp_path / "data"))
    with store.open(model_of(2), dataset, layers=True) as entry:
        entry.append((index, rows_of(index, 2)) for index in range(CLIPS))
    with store.open(model_of(2), dataset, layers=False) as entry:
        assert not entry.missing()
        np.testing.assert_array_equal(entry.read().embeddings[0], rows_of(0, 2)[0])
    with store.open(model_of(2), dataset, False, Preprocessing(loudness="peak")) as entry:
        assert len(entry.missing()) == CLIPS
        entry.append([(0, rows_of(0, version=1))])
    with store.open(model_of(2), dataset, layers=False) as entry:
        np.testing.assert_array_equal(entry.read().embeddings[0], rows_of(0, 2)[0])
    assert sorted(one.preprocessing for one in store.entries()) == ["", "", "loudness peak"]
