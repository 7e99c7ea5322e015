"""What a result comes from, as digests: a run that is resumed keeps what matches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from arch_harness.results.run import ServerFacts, Settings

if TYPE_CHECKING:
    from arch_harness.datasets import Dataset
    from arch_harness.results.run import ModelFacts

# Facts that the content hash stands for already, or that no figure comes from: a run begun without them goes on.
_IN_THE_HASH = {
    *("cut_after_layer", "lengths", "licence"),
    *("normalization", "checkpoint_normalization", "checkpoint_sample_rate", "untrained"),
}


def digest(*parts: object) -> str:
    """A SHA-256 over anything that JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def embedding_fingerprint(model: ModelFacts, dataset: Dataset, settings: Settings) -> str:
    """Of all that the embeddings and their measurement come from."""
    how = (settings.concurrency, settings.workers, settings.layers, settings.transport)
    return digest(_facts(model, _IN_THE_HASH), dataset.fingerprint, *how)


def _facts(model: ModelFacts, without: set[str]) -> dict[str, object]:
    """What counts of a model: threads only where they were asked for, so that a run that knew none goes on."""
    return model.model_dump(exclude=without if model.threads else without | {"threads"})


def speed_fingerprint(model: ModelFacts, dataset: Dataset, settings: Settings, servers: Iterable[ServerFacts]) -> str:
    """Of all that a speed comes from but for the hardware and versions: what a run may take over from another one.

    That is the clips as they lie on the disk, what the model is and how it is served (content, what executes it,
    instances, threads, batch limit, queue delay and bound), the number and kind of the servers, and how they are asked.
    A model's name is none of it.
    """
    how = (settings.concurrency, settings.workers, settings.layers, settings.transport)
    served = sorted((server.same_machine, server.tls) for server in servers)
    return digest("speed", _facts(model, _IN_THE_HASH | {"name"}), dataset.fingerprint, served, *how)


def result_fingerprint(measured: str, settings: Settings) -> str:
    """Of the embeddings and all that their probes come from."""
    return digest(measured, "probes", settings.probes, settings.seed, settings.seeds, settings.epochs)


def server_identity(server: ServerFacts) -> tuple[str, ...]:
    """What makes figures of two servers comparable; one started for the run has another port each time."""
    return (server.name, server.version, "" if server.started_by_arch else server.address)
