"""What is kept of the pass of a dataset's clips through the servers, from its end to the scores."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from arch_common.errors import ArchError
from arch_common.files import whole_file

from arch_harness.results.measurement import Measurement
from arch_harness.results.schema import StrictModel
from arch_harness.results.scores import Failure


class EmbeddingPass(StrictModel):
    """One pass, as `measurements/<model>--<dataset>.json` in a run's folder."""

    fingerprint: str
    started: datetime
    failures: list[Failure]
    measurement: Measurement | None

    def measured_by(self, earlier: EmbeddingPass) -> EmbeddingPass:
        """This one with the figures of an earlier one: clips that were mended say little about the speed."""
        return self.model_copy(update={"started": earlier.started, "measurement": earlier.measurement})

    @property
    def clips(self) -> int:
        """How many clips its figures are of."""
        return self.measurement.clips if self.measurement else 0


def pass_path(output: Path, model: str, dataset: str) -> Path:
    """Where a run's folder keeps the pass of a model and dataset."""
    return output / "measurements" / f"{model}--{dataset}.json"


def write_pass(one: EmbeddingPass, path: Path) -> None:
    """Write a pass, whole or not at all.

    Raises:
        ArchError: if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArchError(f"cannot write {path}: {error.strerror}") from error
    with whole_file(path) as file:
        file.write(one.to_json() + b"\n")


def read_pass(path: Path, fingerprint: str) -> EmbeddingPass | None:
    """Read what `write_pass` wrote; None if there is nothing, it is damaged, or it is of something else."""
    try:
        found = EmbeddingPass.from_json(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return found if found.fingerprint == fingerprint else None
