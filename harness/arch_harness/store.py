"""Embeddings and probes' outcomes on disk: what a run need not do again, and what models are compared by."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np

from arch_harness.files import whole_file
from arch_harness.probes.intervals import Outcomes
from arch_harness.results import Failure, Metric, ServerTimes
from arch_harness.stream import Embedded

_OUTCOMES = ("clips", "folds", "groups", "values", "truth")


def save(path: Path, embedded: Embedded, server: ServerTimes, fingerprint: str) -> None:
    """Write the embeddings and how they were measured to `path` (.npz), whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {
        "fingerprint": fingerprint,
        "audio_seconds": embedded.audio_seconds,
        "seconds": embedded.seconds,
        "failures": [failure.model_dump() for failure in embedded.failures],
        "server": server.model_dump(mode="json"),
    }
    with whole_file(path) as file:
        np.savez(
            file,
            embeddings=embedded.embeddings,
            layers=embedded.layers,
            succeeded=embedded.succeeded,
            latencies_ms=embedded.latencies_ms,
            facts=np.array(json.dumps(facts)),
        )


def load(path: Path, fingerprint: str) -> tuple[Embedded, ServerTimes] | None:
    """Read what `save` wrote; None if there is nothing, it is damaged, or it was made of something else."""
    try:
        with np.load(path, allow_pickle=False) as file:
            facts = json.loads(str(file["facts"]))
            if facts["fingerprint"] != fingerprint:
                return None
            embedded = Embedded(
                embeddings=file["embeddings"],
                layers=file["layers"],
                succeeded=file["succeeded"],
                latencies_ms=file["latencies_ms"],
                failures=[Failure.model_validate(failure) for failure in facts["failures"]],
                audio_seconds=facts["audio_seconds"],
                seconds=facts["seconds"],
            )
            return embedded, ServerTimes.model_validate(facts["server"])
    except (OSError, EOFError, TypeError, ValueError, KeyError, zipfile.BadZipFile):
        return None


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
