"""Runs on the disk, with what their probes made of each clip and repeated speeds, to be compared and gated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from arch_harness.results.measurement import Measurement, Repeat
from arch_harness.results.predictions import Predictions, predictions_path, save_predictions
from arch_harness.results.run import RESULTS, Run, write_run
from arch_harness.results.scores import Failure
from numpy.typing import NDArray
from support.measurements import load_point
from support.runs import run_of

FOLDS = 5
P99 = 1.87
"""Of a latency of `load_point`, as a multiple of its p50."""


def right(clips: int, accuracy: float) -> NDArray[np.float32]:
    """FP32 [clips]: which ones a probe labels correctly, spread evenly over the folds; `accuracy` of them."""
    order = np.random.default_rng(7).permutation(clips)
    found = np.zeros(clips, dtype=np.float32)
    found[order[: round(accuracy * clips)]] = 1
    return found


def predictions(values: NDArray[np.float32], folds: int = FOLDS) -> Predictions:
    """Of one seed, or the mean over seeds."""
    clips = np.arange(len(values))
    return Predictions(
        "accuracy", clips, clips % folds, np.zeros_like(clips), values, np.empty((len(values), 0), dtype=np.bool_)
    )


def speeds(measurement: Measurement, values: Sequence[float], rate: float = 5.0, p50: float = 40.0) -> Measurement:
    """The measurement with so many clips/s in its pass and its repeats; latencies grow as the speed falls."""

    def loads(value: float) -> list[Any]:
        slower = p50 * values[0] / value
        kinds = (("alone", 1, None), ("equal rate", None, rate), ("saturated", 16, None))
        return [load_point(load, slower, 300, value, in_flight=places, rate=paced) for load, places, paced in kinds]

    first, *others = values
    document = measurement.model_dump() | {"clips_per_s": first, "loads": loads(first)}
    document["repeats"] = [
        Repeat.model_validate(
            {"started": "2026-03-01T12:00:00Z", "clips_per_s": one, "steadiness": "steady", "loads": loads(one)}
        ).model_dump()
        for one in others
    ]
    return Measurement.model_validate(document)


def write_folder(
    folder: Path,
    values: Mapping[tuple[str, str], NDArray[np.float32]],
    clips_per_s: Sequence[float] = (100.0, 101.0, 99.0),
    rate: float = 5.0,
    failed: Mapping[str, Sequence[str]] | None = None,
    folds: int = FOLDS,
) -> Run:
    """Write a run as `arch bench` does.

    Args:
        folder: made if it is not there.
        values: FP32 [clips] of each model and dataset: the share of seeds that labelled a clip correctly.
        clips_per_s: of each measurement.
        rate: of the load that is the same for all models.
        failed: files without an embedding by dataset, for every model.
        folds: that the test clips are in, in turn.
    """
    models, datasets = ([*dict.fromkeys(pair[place] for pair in values)] for place in (0, 1))
    run = run_of(tuple(models), tuple(datasets))
    run.settings.probes = ["linear"]
    run.results = [one for one in run.results if (one.model, one.dataset) in values]
    for result in run.results:
        of_clips = values[result.model, result.dataset]
        score = float(of_clips.mean())
        result.probes = [result.probes[0].model_copy(update={"score": score})]
        result.score, result.clips = score, len(of_clips)
        lost = (failed or {}).get(result.dataset, ())
        result.failures = [
            Failure(clip=clip, stage="decode", reason="the file ends inside its header") for clip in lost
        ]
        result.failed = len(lost)
        assert result.measurement is not None
        result.measurement = speeds(result.measurement, clips_per_s, rate)
        path = predictions_path(folder, result.model, result.dataset, "linear")
        save_predictions(path, predictions(of_clips, folds), result.fingerprint)
    run = Run.model_validate(run.model_dump())
    write_run(run, folder / RESULTS)
    return run
