"""Preprocessing ablations: the same clips under another preprocessing, and what that does to the score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from arch_common.errors import UsageError
from pydantic import Field

from arch_harness.results.metric_definitions import meaning
from arch_harness.results.schema import Count, NonNegative, Share, StrictModel
from arch_harness.results.scores import ProbeName, ScoreMetric

AblationSetting = Literal[
    "padding=exact",
    "normalisation=off",
    "normalisation=on",
    "resampler=soxr-qq",
    "resampler=soxr-lq",
    "resampler=soxr-vhq",
    "loudness=peak",
    "loudness=rms",
    "length=centre",
    "length=first-half",
    "length=centre-half",
]
"""An aspect of the preprocessing, and what it is instead of the protocol's."""

SETTINGS: tuple[AblationSetting, ...] = get_args(AblationSetting)


class Ablation(StrictModel):
    """One model on one dataset under another preprocessing, beside its result under the protocol's."""

    model: str
    dataset: str
    setting: AblationSetting
    variant: str | None = Field(
        default=None, description="the model of this run that has the setting in its graph; null: the client did it"
    )
    probe: ProbeName
    metric: ScoreMetric
    score: Share = Field(description=meaning("score", "Of the first probe, under the setting."))
    clips: Count = Field(description="test clips that have an embedding under both")
    difference: float = Field(description="score under the setting less that under the protocol's preprocessing")
    low: float = Field(description="of the 95 % interval of the difference, from a paired bootstrap")
    high: float
    more_than_noise: bool = Field(description="the interval leaves out 0")
    mean_cosine: float = Field(description="of each clip's two embeddings, the mean over all clips")
    largest_change: NonNegative = Field(
        description="how far the setting moves a clip's embedding, relative to its length, at most"
    )
    failed: Count = Field(description=meaning("failed", "Under the setting; those that fail without it are left out."))
    fingerprint: str = Field(description="of what it comes from; a resumed run keeps what matches")


def aspect_of(setting: str) -> str:
    """What of the preprocessing a setting changes."""
    return setting.partition("=")[0]


ASPECTS = tuple(dict.fromkeys(map(aspect_of, SETTINGS)))


def settings_of(asked: Sequence[str]) -> list[AblationSetting]:
    """The settings of aspects, or settings, that are named: each once, in their own order.

    Args:
        asked: names, several of them in one with commas between.

    Raises:
        UsageError: if there is no such aspect or setting.
    """
    names = [name.strip() for words in asked for name in words.split(",") if name.strip()]
    for name in names:
        if name not in ASPECTS and name not in SETTINGS:
            of_aspect = [one for one in SETTINGS if aspect_of(one) == aspect_of(name)]
            raise UsageError(f"--ablate {name!r}: there is {', '.join(of_aspect or ASPECTS)}")
    return [one for one in SETTINGS if one in names or aspect_of(one) in names]
