"""What makes a result no reproduction of a published one, and what is to be known although it may be one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arch_harness.datasets.dataset import FIXTURE_NOTE, NOT_COMPARABLE, STRICT
from arch_harness.probes import EPOCHS

if TYPE_CHECKING:
    from arch_harness.published.table import PublishedModel
    from arch_harness.results.run import DatasetFacts, ModelFacts, Result, Settings
    from arch_harness.results.scores import ProbeScore

# The probe of the ARCH tables.
PROBE = "linear"
_PRECISION = "fp32"
_OTHER_PRECISIONS = ("fp16", "bf16", "int8", "tf32")
# Of a checkpoint's parameters: the tables round them.
_SAME_SIZE = 0.05
# Releases have a few files that cannot be decoded (three of 8,000 in FMA-small); a score hardly moves with them.
_FEW_FAILURES = 0.005

# The reference lists these files in whatever order a file system gives them, and draws from that list.
_DRAWN = {
    "ravdess": "the reference drew the clips that test from a list whose order differs from machine to machine",
    "irmas": "the reference drew the clips that train from a list whose order differs from machine to machine",
    "emovo": "the reference drew the clips that train from a list whose order differs from machine to machine",
}


def obstacles(
    model: ModelFacts, published: PublishedModel, dataset: DatasetFacts, result: Result, settings: Settings
) -> list[str]:
    """What makes a result no reproduction of the published score, a clause each; none where nothing is known to.

    Args:
        model: that the result is of.
        published: the checkpoint that it is set beside.
        dataset: that the result is of.
        result: of the two.
        settings: of the run.
    """
    return [
        *_of_model(model, published),
        *_of_dataset(dataset),
        *_of_clips(result),
        *_of_probe(result, settings),
    ]


def caveats(dataset: DatasetFacts, result: Result) -> list[str]:
    """What the comparison is uncertain by, though it is no obstacle; a clause each."""
    found = [_DRAWN[dataset.id]] if dataset.id in _DRAWN else []
    if dataset.clips_official is None and FIXTURE_NOTE not in dataset.notes:
        found.append("how many clips the official release has is not known here, so nothing tells that all are there")
    if 0 < result.failed <= _FEW_FAILURES * result.clips:
        found.append(f"{result.failed:,} of {result.clips:,} clips cannot be decoded")
    return found


def probe_of(result: Result) -> ProbeScore | None:
    """The probe that can be set beside the tables; None where the run did not train it."""
    return next((one for one in result.probes if one.probe == PROBE), None)


def _of_model(model: ModelFacts, published: PublishedModel) -> list[str]:
    found = []
    if model.source != published.checkpoint:
        place = "a local folder" if model.source.startswith("local:") else model.source
        found.append(f"the weights are of {place} and not of {published.checkpoint} on the hub")
    millions = model.parameter_count / 1e6
    if abs(millions / published.parameters_m - 1) > _SAME_SIZE:
        # So a small stand-in is told even where it bears the checkpoint's name.
        found.append(f"the encoder has {millions:.3g} M parameters and the published one {published.parameters_m} M")
    served = next((one for one in _OTHER_PRECISIONS if model.executed_by.startswith(f"{one} ")), None)
    other = model.precision if model.precision != _PRECISION else served
    if other:
        found.append(f"the encoder computes in {other} and not in {_PRECISION}")
    if model.parity_missed:
        found.append("the export misses the limits of its precision")
    return found


def _of_dataset(dataset: DatasetFacts) -> list[str]:
    if FIXTURE_NOTE in dataset.notes:
        return ["the dataset is an imitation with synthesised audio"]
    found = ["the split is a stricter one than ARCH's"] if dataset.id.endswith(STRICT) else []
    if any(note.endswith(NOT_COMPARABLE) for note in dataset.notes):
        official = f" of {dataset.clips_official:,}" if dataset.clips_official else ""
        found.append(
            f"the dataset is not the official release: {dataset.clips:,}{official} clips, {dataset.classes} classes"
        )
    return found


def _of_clips(result: Result) -> list[str]:
    refused = sum(failure.stage == "infer" for failure in result.failures)
    if refused:
        return [f"the server gave no embedding of {refused:,} clips"]
    if result.failed > _FEW_FAILURES * result.clips:
        return [f"{result.failed:,} of {result.clips:,} clips gave no embedding"]
    return []


def _of_probe(result: Result, settings: Settings) -> list[str]:
    if probe_of(result) is None:
        return [f"the {PROBE} probe was not trained"]
    if settings.epochs != EPOCHS:
        return [f"the probe was trained for {settings.epochs} epochs and not for {EPOCHS}"]
    return []
