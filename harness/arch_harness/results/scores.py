"""What probes make of embeddings: scores of folds, classes, layers and whole datasets."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from arch_harness.results.metric_definitions import meaning
from arch_harness.results.schema import Count, NonNegative, Share, StrictModel

ProbeName = Literal["linear", "logreg", "mlp", "knn"]
ScoreMetric = Literal["accuracy", "map_macro"]


class Failure(StrictModel):
    """A clip that gave no embedding; it takes part in no score."""

    clip: str = Field(description="path relative to the dataset's folder")
    stage: Literal["decode", "infer"]
    reason: str


class FoldScore(StrictModel):
    """A probe's score on one fold, the mean over seeds; `train`, `validation` and `test` count clips.

    Single-label datasets have accuracy, macro F1 and balanced accuracy, multi-label ones mean average precision.
    """

    fold: str
    train: Count
    validation: Count
    test: Count
    accuracy: Share | None = None
    macro_f1: Share | None = Field(default=None, description=meaning("macro_f1"))
    balanced_accuracy: Share | None = Field(default=None, description=meaning("balanced_accuracy"))
    map_macro: Share | None = None
    map_weighted: Share | None = Field(default=None, description=meaning("map_weighted"))
    chosen: NonNegative | None = Field(
        default=None,
        description="what was chosen, on other clips than test clips: C of logreg, the number of neighbours of knn",
    )

    @property
    def score(self) -> float:
        """The headline metric: accuracy, or macro mAP."""
        return (self.accuracy if self.accuracy is not None else self.map_macro) or 0.0

    @model_validator(mode="after")
    def _scored(self) -> FoldScore:
        if self.accuracy is None and self.map_macro is None:
            raise ValueError(f"fold {self.fold} has neither accuracy nor map_macro")
        return self


class Interval(StrictModel):
    """A 95 % bootstrap percentile interval of a score."""

    low: float = Field(description=meaning("score_low"))
    high: float = Field(description=meaning("score_high"))
    unit: Literal["clip", "group", "fold"] = Field(description="what was drawn with replacement")
    units: Count
    resamples: Count


class ClassScore(StrictModel):
    """One class over all test clips, the mean over seeds."""

    name: str
    clips: Count = Field(description="test clips that bear it")
    precision: Share | None = None
    recall: Share | None = None
    f1: Share | None = None
    average_precision: Share | None = None


class ProbeScore(StrictModel):
    """One probe on the embeddings of one model and dataset."""

    probe: ProbeName
    score: Share = Field(description=meaning("score"))
    std: NonNegative | None = Field(description=meaning("score_std", "Null for one seed or none."))
    seed_scores: list[Share] = Field(description="the score of each seed; one where the probe is deterministic")
    interval: Interval
    macro_f1: Share | None = Field(default=None, description=meaning("macro_f1"))
    balanced_accuracy: Share | None = Field(default=None, description=meaning("balanced_accuracy"))
    map_macro: Share | None = None
    map_weighted: Share | None = Field(default=None, description=meaning("map_weighted"))
    folds: list[FoldScore]
    classes: list[ClassScore]
    classes_without_test_clips: list[str] = Field(
        description="no test clip of any fold bears them; in macro mAP each counts as 0, elsewhere they are left out"
    )
    confusion: list[list[Count]] | None = Field(
        default=None, description="true class x predicted class, summed over folds and seeds; single-label only"
    )
    trained_on: str = Field(default="CPU", description=meaning("trained_on"))
    seconds: NonNegative = Field(description=meaning("probe_seconds"))


class LayerScore(StrictModel):
    """The linear probe on one layer's mean hidden state."""

    layer: Count = Field(description="0 is what enters the first transformer layer")
    score: Share = Field(description=meaning("score"))
    std: NonNegative | None = Field(description=meaning("score_std"))
    interval: Interval


class LayerScores(StrictModel):
    """The linear probe on every layer, and on a learned weighted sum of them, by the result's metric."""

    layers: Annotated[list[LayerScore], Field(min_length=1)]
    weighted_sum: Share = Field(description=meaning("weighted_sum_score"))
    weighted_sum_std: NonNegative | None
    weighted_sum_interval: Interval
    weights: list[Share] = Field(description="of each layer in the sum, the mean over folds and seeds")

    @property
    def best(self) -> LayerScore:
        """The layer with the highest score; of several, the lowest one."""
        return max(self.layers, key=lambda one: (one.score, -one.layer))


class Comparison(StrictModel):
    """Two models on the same test clips of a dataset, by the same probe."""

    dataset: str
    probe: ProbeName
    metric: ScoreMetric
    model: str
    other: str
    clips: Count = Field(description="test clips that both models have an embedding of")
    difference: float = Field(description="score of `model` less that of `other`")
    low: float = Field(description="of the 95 % interval of the difference, from a paired bootstrap")
    high: float
    more_than_noise: bool = Field(description="the interval leaves out 0")
