"""What is looked at beside scores, in files, embeddings and answers; and what is found wrong by it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from arch_harness.results.schema import Count, NonNegative, Share, StrictModel

RuleName = Literal[
    "poor everywhere",
    "collapsed embeddings",
    "out of line",
    "copies",
    "near copies",
    "shared sources",
    "batch mates",
    "padding",
    "precision",
]
"""The rules of a diagnosis; docs/diagnoses.md describes each."""

Severity = Literal["fault", "warning", "note"]
"""fault: the scores named are not what they seem. warning: they may not be, look before they are used. note: they are
right, and mean something else than a reader may think."""


class ClipPair(StrictModel):
    """A clip that trains and one that tests, both as paths relative to the dataset's folder."""

    train: str
    test: str


class FileFacts(StrictModel):
    """What a dataset's files are, and what training and test clips of a fold share.

    Clips count once for each fold that tests them.
    """

    looked_at: Count = Field(description="files whose headers were read, spread evenly over the dataset")
    sample_rates: dict[int, Count] = Field(description="in Hz -> files")
    channels: dict[int, Count] = Field(description="-> files")
    median_seconds: NonNegative
    padded: Share = Field(description="mean share of what is sent that is padding")
    cut: Share = Field(description="share of the files of which not all is heard, being longer than a clip may be")
    test_clips: Count
    copies: Count = Field(description="test clips whose file is, byte for byte, that of a training clip")
    copy_examples: list[ClipPair]
    sources: Count = Field(description="speakers or recordings that the test clips name; 0 where they name none")
    shared_sources: Count = Field(description="those of them that training clips of the same fold have too")
    shared_source_clips: Count = Field(description="test clips of these")


class NameFacts(StrictModel):
    """A part of the file names that neighbours among the embeddings share: it may name speakers or recordings."""

    part: Count = Field(
        description="its place in the names, from 1, where they are split at what is no letter or digit"
    )
    values: Count = Field(description="different ones")
    example: str
    same: Share = Field(description="test clips whose nearest training clip has the same value")
    expected: Share = Field(description="likewise, if a training clip of that one's label were drawn at random")


class EmbeddingFacts(StrictModel):
    """What the embeddings of a model and dataset look like, whatever the labels."""

    clips: Count
    dimensions: Count
    effective_rank: NonNegative = Field(
        description="of the embeddings less their mean: the exponential of the entropy of the singular values, each "
        "divided by their sum; Roy and Vetterli, The effective rank, EUSIPCO 2007. 0 where all embeddings are the same"
    )
    spread: NonNegative = Field(
        description="root mean square distance of the embeddings from their mean, divided by their root mean square "
        "length; 0 where all are the same"
    )
    near: Count = Field(
        description="test clips whose nearest training clip has a cosine above 0.999, the mean embedding taken off; "
        "without copies of files"
    )
    near_heard: Count = Field(description="those of them whose audio was compared with that of the training clip")
    near_same: Count = Field(description="those of these that are the same sound")
    near_examples: list[ClipPair]
    names: NameFacts | None = Field(
        description="null where clips name their sources, have several labels, or no part of the names is such"
    )
    score_without_copies: Share | None = Field(
        description="of the first probe, on the test clips that are no copies of training clips, neither by file nor "
        "by sound; null where none is one, or all are"
    )


class ResentFacts(StrictModel):
    """A few clips that were sent again to see whether what shares a request with them moves their embeddings.

    A distance is divided by the root mean square distance of the dataset's embeddings from their mean: 1 is as far as
    another clip.
    """

    clips: Count
    batch_distance: NonNegative | None = Field(
        description="the largest between a clip's embedding alone, and in a batch of all of them or as it is stored; "
        "null where the model takes no batches"
    )
    batch_cosine: float | None = Field(description="the smallest cosine, likewise")
    unpadded_clips: Count = Field(description="those that are shorter than what is sent")
    unpadded_distance: NonNegative | None = Field(
        description="the largest between a clip's embedding with and without padding; null where no clip is padded, "
        "or the model takes padding into its embedding on purpose"
    )
    unpadded_cosine: float | None = Field(description="the smallest cosine, likewise")


class Diagnosis(StrictModel):
    """One thing that is found wrong with results."""

    rule: RuleName
    severity: Severity
    models: list[str] = Field(description="whose results it is about; none where it is about the data")
    datasets: list[str]
    finding: str = Field(description="what is seen, with its figures")
    advice: str = Field(description="what can be done about it")
