"""What probes made of each test clip, on disk: what models are compared by."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from arch_harness.files import whole_file
from arch_harness.probes.intervals import Outcomes
from arch_harness.results import Metric

_OUTCOMES = ("clips", "folds", "groups", "values", "truth")


def save_outcomes(path: Path, outcomes: Outcomes, fingerprint: str) -> None:
    """Write what a probe made of each test clip to `path` (.npz), whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {name: getattr(outcomes, name) for name in _OUTCOMES}
    with whole_file(path) as file:
        np.savez(file, metric=np.array(outcomes.metric), fingerprint=np.array(fingerprint), **arrays)


def load_outcomes(path: Path, fingerprint: str) -> Outcomes | None:
    """Read what `save_outcomes` wrote; None if there is nothing, it is damaged, or it is of another result."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["fingerprint"]) != fingerprint:
                return None
            metric: Metric = "map_macro" if str(file["metric"]) == "map_macro" else "accuracy"
            return Outcomes(metric, *(file[name] for name in _OUTCOMES))
    except (OSError, EOFError, TypeError, ValueError, KeyError, zipfile.BadZipFile):
        return None
