"""What probes made of each test clip, on disk: what models are compared by."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from arch_common.errors import ArchError
from arch_common.files import whole_file

from arch_harness.results.scores import ScoreMetric

if TYPE_CHECKING:
    from numpy.typing import NDArray

Unit = Literal["clip", "group", "fold"]


@dataclass(frozen=True)
class Predictions:
    """What a probe made of every test clip, from which its score can be computed over any sample of the clips.

    Attributes:
        metric: "accuracy", or "map_macro".
        clips: int64 [tests], each clip's position in the dataset.
        folds: int64 [tests], the fold that tested it.
        groups: int64 [tests], the clip's group in the dataset.
        values: for accuracy FP32 [tests], the share of seeds that were right; for mAP FP32 [seeds, tests, classes],
            the outputs.
        truth: for mAP bool [tests, classes]; for accuracy of no columns.
    """

    metric: Literal["accuracy", "map_macro"]
    clips: NDArray[np.int64]
    folds: NDArray[np.int64]
    groups: NDArray[np.int64]
    values: NDArray[np.float32]
    truth: NDArray[np.bool_]

    @property
    def unit(self) -> Unit:
        """What is drawn: folds where there are several, otherwise groups of the test clips, otherwise clips."""
        if len(np.unique(self.folds)) > 1:
            return "fold"
        return "group" if len(np.unique(self.groups)) > 1 else "clip"

    @property
    def units(self) -> int:
        """How many there are to draw from."""
        names = {"fold": self.folds, "group": self.groups, "clip": self.clips}[self.unit]
        return len(np.unique(names))

    def only(self, keep: NDArray[np.bool_]) -> Predictions:
        """Those of the test clips where `keep` (bool [tests]) is true."""
        values = self.values[keep] if self.metric == "accuracy" else self.values[:, keep]
        return Predictions(self.metric, self.clips[keep], self.folds[keep], self.groups[keep], values, self.truth[keep])


_ARRAYS = ("clips", "folds", "groups", "values", "truth")


def predictions_path(output: Path, model: str, dataset: str, probe: str) -> Path:
    """Where a run's folder keeps what a probe made of each test clip."""
    return output / "predictions" / f"{model}--{dataset}--{probe}.npz"


def save_predictions(path: Path, predictions: Predictions, fingerprint: str) -> None:
    """Write what a probe made of each test clip to `path` (.npz), whole or not at all.

    Raises:
        ArchError: if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArchError(f"cannot write {path}: {error.strerror}") from error
    arrays = {name: getattr(predictions, name) for name in _ARRAYS}
    with whole_file(path) as file:
        np.savez(file, metric=np.array(predictions.metric), fingerprint=np.array(fingerprint), **arrays)


def load_predictions(path: Path, fingerprint: str) -> Predictions | None:
    """Read what `save_predictions` wrote; None if there is nothing, it is damaged, or it is of another result."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["fingerprint"]) != fingerprint:
                return None
            metric: ScoreMetric = "map_macro" if str(file["metric"]) == "map_macro" else "accuracy"
            return Predictions(metric, *(file[name] for name in _ARRAYS))
    except (OSError, EOFError, TypeError, ValueError, KeyError, zipfile.BadZipFile):
        return None
