"""Probes: small classifiers on frozen embeddings, their scores, and how sure these are."""

from __future__ import annotations

from arch_harness.probes.optimiser import EPOCHS
from arch_harness.probes.scoring import Scored, probe_dataset

__all__ = ["EPOCHS", "Scored", "probe_dataset"]
