"""Probes: small classifiers on frozen embeddings, their scores, and how sure these are."""

from __future__ import annotations

from arch_harness.probes.scoring import Scored, probe_dataset
from arch_harness.probes.training.optimiser import EPOCHS

__all__ = ["EPOCHS", "Scored", "probe_dataset"]
