"""The probing part of a run: stored embeddings to scores, and models compared on the clips they share."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from arch_common import interrupt
from arch_common.errors import ScoreError

from arch_harness.probes import probe_dataset
from arch_harness.probes.layers import probe_layers
from arch_harness.probes.scoring import Scored, epochs_of
from arch_harness.results.predictions import load_predictions, predictions_path, save_predictions
from arch_harness.results.run import Result, Settings
from arch_harness.results.scores import FoldScore, LayerScores, ProbeScore

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arch_harness.bench.progress import Display
    from arch_harness.datasets import Dataset
    from arch_harness.embeddings.entry import Stored
    from arch_harness.results.scores import Failure


@dataclass(frozen=True)
class Probed:
    """What the probes add to a result; the first probe gives the headline."""

    scored: list[Scored]
    layers: LayerScores | None
    seconds: float

    def fields(self) -> dict[str, Any]:
        """The fields of `Result` that the probes decide."""
        first = self.scored[0]
        score: ProbeScore = first.score
        folds: list[FoldScore] = score.folds
        return {
            "metric": first.metric,
            "score": score.score,
            "chance": first.chance,
            "macro_f1": score.macro_f1,
            "folds": folds,
            "std": score.std,
            "interval": score.interval,
            "probes": [one.score for one in self.scored],
            "layers": self.layers,
            "probe_seconds": self.seconds,
        }


def _all_alike(embeddings: NDArray[np.float32]) -> bool:
    """Whether FP32 [clips, size] is one row again and again: a probe of it would score the classes' sizes."""
    return len(embeddings) > 1 and not (embeddings != embeddings[0]).any()


def is_done(output: Path, result: Result, fingerprint: str) -> bool:
    """Whether `result` is the one asked for, and what comparisons need of it is stored."""
    return result.fingerprint == fingerprint and all(
        load_predictions(predictions_path(output, result.model, result.dataset, one.probe), fingerprint) is not None
        for one in result.probes
    )


def probe_pair(
    output: Path,
    model: str,
    dataset: Dataset,
    stored: Stored,
    failures: Sequence[Failure],
    settings: Settings,
    fingerprint: str,
    display: Display,
) -> Probed:
    """Run every probe of `settings` on the embeddings and keep what each made of the test clips.

    Raises:
        ScoreError: if there are no embeddings, too few for a fold, or all are the same.
    """
    interrupt.check()
    if not stored.succeeded.any():
        first = failures[0]
        raise ScoreError(f"none of its {len(dataset.clips)} clips gave an embedding; {first.clip}: {first.reason}")
    failed = {failure.clip for failure in failures}
    # The store may hold what failed here: another run has mended it.
    succeeded = stored.succeeded & np.array([clip.path not in failed for clip in dataset.clips])
    if _all_alike(stored.embeddings[succeeded]):
        raise ScoreError(
            f"all of its {int(succeeded.sum())} embeddings are the same, so the model tells nothing of the clips: look "
            "at what the server runs"
        )
    clock = time.perf_counter()
    total = sum(epochs_of(probe, len(dataset.folds), settings) for probe in settings.probes)
    layers = stored.layers.shape[1]
    if layers:
        total += (layers + 1) * epochs_of("linear", len(dataset.folds), settings)
    with display.probing(model, dataset.id, total) as on_epoch:
        scored = [
            probe_dataset(probe, dataset, stored.embeddings, succeeded, settings, on_epoch) for probe in settings.probes
        ]
        of_layers = probe_layers(dataset, stored.layers, succeeded, settings, on_epoch) if layers else None
    interrupt.check()
    for one in scored:
        save_predictions(predictions_path(output, model, dataset.id, one.score.probe), one.predictions, fingerprint)
    return Probed(scored, of_layers, time.perf_counter() - clock)
