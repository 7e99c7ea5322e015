"""Speeds that are kept beside the embeddings: a run that computes none shows how fast they were computed, and where."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from arch_harness.bench.resuming.fingerprints import speed_fingerprint
from arch_harness.embeddings.speed import StoredSpeed, keep_speed, read_speed
from arch_harness.results.run import Origin

if TYPE_CHECKING:
    from pathlib import Path

    from arch_harness.datasets import Dataset
    from arch_harness.embeddings.store import EmbeddingStore
    from arch_harness.results.measurement import Measurement
    from arch_harness.results.run import ModelFacts, Run


class KeptSpeeds:
    """What is kept for later runs, and what earlier ones have kept.

    Args:
        store: that holds the embeddings.
        run: that measures or shows them; its settings, servers and machine.
    """

    def __init__(self, store: EmbeddingStore, run: Run) -> None:
        self._store = store
        self._run = run

    def keep(self, model: ModelFacts, dataset: Dataset, measurement: Measurement, started: datetime) -> None:
        """Keep what this run measured.

        Raises:
            ArchError: if it cannot be written.
        """
        run = self._run
        origin = Origin(started=started, arch_version=run.arch_version, machine=run.machine, servers=run.servers)
        kept = StoredSpeed(fingerprint=self._fingerprint(model, dataset), origin=origin, measurement=measurement)
        keep_speed(self._folder(model, dataset), kept)

    def find(self, model: ModelFacts, dataset: Dataset, clips: int) -> StoredSpeed | None:
        """What was kept of such a pass, where what this run has measured of so many clips says little beside it."""
        kept = read_speed(self._folder(model, dataset), self._fingerprint(model, dataset))
        return kept if kept is not None and kept.outweighs(clips) else None

    def _folder(self, model: ModelFacts, dataset: Dataset) -> Path:
        return self._store.open(model, dataset, self._run.settings.layers).folder

    def _fingerprint(self, model: ModelFacts, dataset: Dataset) -> str:
        return speed_fingerprint(model, dataset, self._run.settings, self._run.servers)
