"""Two results compared by what their runs' folders keep of each test clip."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from arch_harness.probes import bootstrap
from arch_harness.results.predictions import load_predictions, predictions_path

if TYPE_CHECKING:
    from arch_harness.results.run import Result
    from arch_harness.results.scores import ProbeName


def paired_difference(
    one: tuple[Path, Result], other: tuple[Path, Result], probe: ProbeName, seed: int
) -> bootstrap.Difference | None:
    """The score of `one` less that of `other` on the test clips that both have, by a probe that both have.

    Args:
        one: the folder of a run, and a result of it.
        other: likewise.
        probe: whose predictions are read.
        seed: of the samples.

    Returns:
        None where either folder does not hold what the probe made of the test clips, or they share none.
    """
    first, second = (
        load_predictions(predictions_path(folder, result.model, result.dataset, probe), result.fingerprint)
        for folder, result in (one, other)
    )
    return None if first is None or second is None else bootstrap.compare(first, second, seed)
