"""The comparisons that someone would ask for: variants of one checkpoint, neighbours on the front, the choice."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from arch_harness.report.choice.summary import front_on

if TYPE_CHECKING:
    from arch_harness.report.choice.choose import Choice


class AskedFor:
    """Whether a comparison of two models on a dataset is one that someone would ask for."""

    def __init__(self, choice: Choice) -> None:
        scores = choice.scores
        checkpoint = {one.name: (one.source, one.revision) for one in scores.run.models}
        self._everywhere = {
            frozenset(pair)
            for pair in itertools.combinations(checkpoint, 2)
            if len({checkpoint[one] for one in pair}) == 1
        }
        chosen = [row.name for row in (choice.deploy, choice.best, choice.fastest) if row is not None]
        self._everywhere |= {frozenset(pair) for pair in itertools.combinations(dict.fromkeys(chosen), 2)}
        over_all = sorted((row.clips_per_s or 0.0, row.name) for row in choice.rows if row.on_front)
        self._everywhere |= _neighbours([name for _, name in over_all])
        self._on = {}
        for dataset in scores.datasets:
            ahead = sorted((scores.speed(name, dataset) or 0.0, name) for name in front_on(scores, dataset))
            self._on[dataset] = _neighbours([name for _, name in ahead])

    def __call__(self, dataset: str, model: str, other: str) -> bool:
        """Of two models on a dataset."""
        pair = frozenset((model, other))
        return pair in self._everywhere or pair in self._on.get(dataset, ())


def _neighbours(names: list[str]) -> set[frozenset[str]]:
    return {frozenset(pair) for pair in itertools.pairwise(names)}
