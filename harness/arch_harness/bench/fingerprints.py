"""What a result comes from, as digests: a run that is resumed keeps what matches."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from arch_harness.results.run import Settings

if TYPE_CHECKING:
    from arch_harness.datasets import Dataset
    from arch_harness.results.run import ModelFacts


def digest(*parts: object) -> str:
    """A SHA-256 over anything that JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def embedding_fingerprint(model: ModelFacts, dataset: Dataset, settings: Settings) -> str:
    """Of all that the embeddings and their measurement come from."""
    how = (settings.concurrency, settings.workers, settings.layers, settings.transport)
    # What the content hash tells besides, which earlier versions did not write.
    facts = model.model_dump(exclude={"lengths", "normalization", "cut_after_layer"})
    return digest(facts, dataset.fingerprint, *how)


def result_fingerprint(measured: str, settings: Settings) -> str:
    """Of the embeddings and all that their probes come from."""
    return digest(measured, "probes", settings.probes, settings.seed, settings.seeds, settings.epochs)
