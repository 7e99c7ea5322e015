"""Suspiciously high: what training and test clips of a fold share, and what a score is without it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from arch_harness.report.text.numbers import clean, percent, plural
from arch_harness.results.checks.diagnoses import Diagnosis

if TYPE_CHECKING:
    from arch_harness.results.checks.diagnoses import ClipPair, FileFacts, Severity
    from arch_harness.results.run import DatasetFacts, Result, Run

_MANY = 0.01
"""Share of the test clips from which on copies are worth more than noise in most scores."""


def copies(run: Run) -> Iterator[Diagnosis]:
    """Test clips whose file is that of a training clip."""
    for dataset, files in _files(run):
        if not files.copies:
            continue
        yield Diagnosis(
            rule="copies",
            severity=_severity(files.copies, files.test_clips),
            models=[],
            datasets=[dataset.id],
            finding=f"{plural(files.copies, 'test clip')} of {files.test_clips:,} of {clean(dataset.id)} "
            f"{'is' if files.copies == 1 else 'are'} a training clip too, byte for byte "
            f"({_example(files.copy_examples)})." + _without(_of(run, dataset.id)),
            advice=_MEND,
        )


def near_copies(run: Run) -> Iterator[Diagnosis]:
    """Test clips that are the sound of a training clip in another file, found by their embeddings and heard."""
    for dataset in run.datasets:
        results = _of(run, dataset.id)
        found = [(one.embeddings.near_same, one.model, one.embeddings) for one in results if one.embeddings]
        # Collapsed embeddings find all copies too, among much else.
        same, model, seen = max(found, key=lambda one: one[0] ** 2 / max(1, one[2].near_heard), default=(0, "", None))
        if not same or seen is None:
            continue
        everywhere = seen.near if seen.near_same == seen.near_heard else same
        tests = sum(fold.test for fold in results[0].folds)
        yield Diagnosis(
            rule="near copies",
            severity=_severity(everywhere, tests),
            models=[],
            datasets=[dataset.id],
            finding=f"{plural(seen.near, 'test clip')} of {tests:,} of {clean(dataset.id)} "
            f"{'has' if seen.near == 1 else 'have'} nearly a training clip's embedding (cosine above 0.999, by "
            f"{clean(model)}); the audio of {seen.near_heard} was compared, and {seen.near_same} "
            f"{'is' if same == 1 else 'are'} the same sound ({_example(seen.near_examples)})." + _without(results),
            advice=_MEND,
        )


def shared_sources(run: Run) -> Iterator[Diagnosis]:
    """Test clips of a speaker or recording that training clips are of too, as clips name them or file names seem to."""
    for dataset, files in _files(run):
        if not files.shared_sources:
            continue
        published = dataset.clips_official is not None
        yield Diagnosis(
            rule="shared sources",
            severity="note" if published else "warning",
            models=[],
            datasets=[dataset.id],
            finding=f"{files.shared_source_clips:,} of {files.test_clips:,} test clips of {clean(dataset.id)} are of "
            f"speakers or recordings that its training clips are of too ({files.shared_sources} of {files.sources}): "
            "a probe may recognise these instead of the labels, and scores are too high for ones not heard before.",
            advice="The published protocol is so; where --splits strict has another split, it tests on other ones."
            if published
            else "Give all clips of a source the same split or fold in the manifest.",
        )

    for dataset in run.datasets:
        named = [(one.embeddings.names, one) for one in _of(run, dataset.id) if one.embeddings and one.embeddings.names]
        if dataset.clips_official is not None or not named:  # of a published protocol it is known who is where
            continue
        names, result = max(named, key=lambda one: one[0].same - one[0].expected)
        yield Diagnosis(
            rule="shared sources",
            severity="warning",
            models=[],
            datasets=[dataset.id],
            finding=f"Part {names.part} of the file names of {clean(dataset.id)} ({clean(names.example)}, say; "
            f"{names.values} values) may name speakers or recordings that training and test clips share: by the "
            f"embeddings of {clean(result.model)}, {percent(names.same)} % of the test clips are nearest to a training "
            f"clip with the same value, where labels alone would make it {percent(names.expected)} %.",
            advice="If it does, scores are too high for ones not heard before: write a manifest with folds that keep "
            "each of them together, and name it in the column group. That names hold labels too is no leak: an encoder "
            "is sent samples, not names.",
        )


_MEND = (
    "Take them out of the training or test clips, or give both the same split or fold; what scores are without them "
    "is said where they change them."
)


def _files(run: Run) -> Iterator[tuple[DatasetFacts, FileFacts]]:
    """The datasets whose files were looked at and that have results."""
    for dataset in run.datasets:
        if dataset.files is not None:
            yield dataset, dataset.files


def _of(run: Run, dataset: str) -> list[Result]:
    return [one for one in run.results if one.dataset == dataset]


def _severity(copied: int, tests: int) -> Severity:
    return "fault" if copied >= _MANY * tests else "warning"


def _example(pairs: Sequence[ClipPair]) -> str:
    first = pairs[0]
    if first.train == first.test:
        return f"{clean(first.test)}, listed more than once"
    return f"{clean(first.test)}, say, is {clean(first.train)}"


def _without(results: Sequence[Result]) -> str:
    """What scores are without copies, of the model that they change most."""
    known = [
        (one.score - one.embeddings.score_without_copies, one, one.embeddings.score_without_copies)
        for one in results
        if one.embeddings is not None and one.embeddings.score_without_copies is not None
    ]
    if not known:
        return ""
    _, result, without = max(known, key=lambda one: abs(one[0]))
    return (
        f" Without all copies, {clean(result.model)} scores {percent(without)} % instead of {percent(result.score)} %."
    )
