"""The model to deploy, and the alternatives: the rule, and what it was chosen from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from arch_harness.report.choice.summary import ModelSummary, Scores, summarise
from arch_harness.results.repeats import RESOLUTION

if TYPE_CHECKING:
    from arch_harness.report.choice.estimates import ScoreChange
    from arch_harness.results.run import Run

TOLERANCE = 0.01
"""What a faster model may score below the best one, a share: one point."""

NoChoice = Literal["no results", "not comparable", "chance"]
"""Why there is no model to deploy: nothing has a score, no model has one on every dataset, none does better than chance
anywhere."""


@dataclass(frozen=True)
class Choice:
    """What a run says to whoever must deploy one of its models.

    Attributes:
        rows: one a model, in the order in which they are shown: by falling mean score, incomplete ones last.
        deploy: the model to deploy by the rule of `choose`; None where there is none.
        why_not: why there is none; None where there is one.
        best: the model to take if accuracy is all, which may be `deploy` itself; None where nothing can be compared.
        fastest: the model to take if speed is all, likewise; None where no speed is known.
        given_up: mean score of `deploy` less that of `best`; None where they are the same model.
        times_best: clips/s of `deploy` over those of `best`; None where they are the same or one is not known.
        rivals: complete models that are no more than noise below `best`, in the order of the rows, without it.
        scores: the run's results, and how any two models differ.
    """

    rows: list[ModelSummary]
    deploy: ModelSummary | None
    why_not: NoChoice | None
    best: ModelSummary | None
    fastest: ModelSummary | None
    given_up: ScoreChange | None
    times_best: float | None
    rivals: list[ModelSummary]
    scores: Scores

    def row(self, model: str) -> ModelSummary:
        """The row of a model that has a score."""
        return next(row for row in self.rows if row.name == model)


def choose(run: Run) -> Choice:
    """The model to deploy: of the models that score at most one point below the best, the fastest.

    In full: only models count that have a score on every dataset on which any model has one. The best is the one with
    the highest mean score over the datasets. The candidates score at most `TOLERANCE` less, and do better than chance
    on at least one dataset. Of the candidates, the highest geometric mean of clips/s wins; speeds within 5 % of the
    highest (`RESOLUTION`: less is never called real) count as equal, and of those the higher score wins. Where the
    speed of no candidate is known, the best wins. Whether what is given up is noise, by the paired interval, decides
    nothing, for with few test clips everything is noise.
    """
    scores = Scores(run)
    rows = summarise(scores)
    complete = [row for row in rows if row.is_complete]
    if not complete:
        why: NoChoice = "not comparable" if rows else "no results"
        return Choice(rows, None, why, None, None, None, None, [], scores)
    best = complete[0]
    fastest = max(complete, key=lambda row: row.clips_per_s or 0.0)
    rivals = [row for row in complete[1:] if (change := scores.change(row.name, best.name)) and change.is_real is False]
    found = Choice(rows, None, "chance", best, fastest if fastest.clips_per_s else None, None, None, rivals, scores)
    near = [row for row in complete if row.score.value >= best.score.value - TOLERANCE - 1e-9 and is_above_chance(row)]
    if not near:
        return found
    top = max(row.clips_per_s or 0.0 for row in near)
    deploy = next(row for row in near if (row.clips_per_s or 0.0) >= top / (1 + RESOLUTION))
    ratio = None
    if deploy is not best and deploy.clips_per_s and best.clips_per_s:
        ratio = deploy.clips_per_s / best.clips_per_s
    return Choice(
        rows,
        deploy,
        None,
        best,
        found.fastest,
        scores.change(deploy.name, best.name) if deploy is not best else None,
        ratio,
        rivals,
        scores,
    )


def is_above_chance(row: ModelSummary) -> bool:
    """Whether a model does better than chance on at least one of its datasets."""
    return len(at_chance(row)) < len(row.results)


def at_chance(row: ModelSummary) -> list[str]:
    """The datasets on which a model does no better than chance: its interval reaches down to it."""
    return [
        name
        for name, result in row.results.items()
        if (result.interval.low if result.interval else result.score) <= result.chance
    ]
