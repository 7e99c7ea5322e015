"""What comes of a pass and its probes, as `results.json` holds it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from arch_harness.results.run import DatasetFacts, ModelFacts, Result, Unscored
from arch_harness.results.scores import Failure

if TYPE_CHECKING:
    from arch_harness.datasets import Dataset
    from arch_harness.embeddings.entry import Stored
    from arch_harness.embeddings.speed import StoredSpeed
    from arch_harness.results.embedding_pass import EmbeddingPass


def covers(earlier: EmbeddingPass, missing: Iterable[tuple[int, str]]) -> bool:
    """Whether an earlier run embedded the dataset, and only what cannot be decoded is missing."""
    failed = {failure.clip for failure in earlier.failures}
    return {path for _, path in missing} == failed and not is_refused(earlier.failures)


def is_refused(failures: Iterable[Failure]) -> bool:
    """Whether the server failed a clip: it may be mended, so it is asked again next time."""
    return any(failure.stage == "infer" for failure in failures)


def changed_clips(dataset: Dataset, stored: Stored, failures: Iterable[Failure]) -> list[Failure]:
    """The clips that neither failed nor are stored, because their file was not there when the run looked for it."""
    failed = {failure.clip for failure in failures}
    return [
        Failure(clip=clip.path, stage="decode", reason="its file appeared during the run: run arch bench again")
        for clip, succeeded in zip(dataset.clips, stored.succeeded, strict=True)
        if not succeeded and clip.path not in failed
    ]


def scored(
    model: ModelFacts,
    dataset: Dataset,
    passed: EmbeddingPass,
    carried: StoredSpeed | None,
    failures: list[Failure],
    fingerprint: str,
    found: dict[str, Any],
) -> Result:
    """What came of a pair.

    Args:
        model: its facts.
        dataset: likewise.
        passed: what was embedded.
        carried: the speed of an earlier run that stands for this one's.
        failures: clips without an embedding.
        fingerprint: of all that the result comes from.
        found: the scores, and what was looked at beside them, by field.
    """
    return Result(
        model=model.name,
        dataset=dataset.id,
        clips=len(dataset.clips),
        failed=len(failures),
        failures=failures,
        stored=max(0, len(dataset.clips) - len(failures) - passed.clips),
        measurement=carried.measurement if carried else passed.measurement,
        carried=carried.origin if carried else None,
        started=passed.started,
        fingerprint=fingerprint,
        **found,
    )


def unscored(model: ModelFacts, dataset: Dataset, failures: list[Failure], reason: str) -> Unscored:
    """A pair that has no score, and why."""
    return Unscored(model=model.name, dataset=dataset.id, reason=reason, clips=len(dataset.clips), failures=failures)


def dataset_facts(dataset: Dataset) -> DatasetFacts:
    """What `results.json` says of a dataset."""
    declaration = dataset.declaration
    return DatasetFacts(
        id=declaration.id,
        title=declaration.title,
        domain=declaration.domain,
        licence=declaration.licence,
        citation=declaration.citation,
        path=str(dataset.folder),
        classes=len(dataset.classes),
        classes_used=dataset.classes_used,
        classes_official=declaration.classes_used_official,
        clips=len(dataset.clips),
        clips_official=declaration.clips_official,
        incomplete=dataset.incomplete,
        max_seconds=declaration.max_seconds,
        folds=len(dataset.folds),
        notes=dataset.notes,
        reference=dataset.reference,
        listing=dataset.listing,
    )
