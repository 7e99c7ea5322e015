"""Which clips choose a probe's setting: the validation clips, or groups held out where those would flatter it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arch_harness.datasets import Clip, Fold

# Groups are held out in so many turns at most: each turn is one more training for each setting.
TURNS = 5


def choosing_parts(fold: Fold, clips: Sequence[Clip]) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Training clips, and others to compare settings by, in turns.

    A setting is to be good for the test clips. Where validation clips share recordings, speakers or official folds with
    training clips but test clips do not, validation would choose what recognises a recording: fewer neighbours, weaker
    regularisation. There whole groups are held out in turns: their training and validation clips compare, the training
    clips of the others train.

    Args:
        fold: indices into `clips`.
        clips: of the dataset, with their groups and sources.

    Returns:
        Indices into `clips` (trained on, compared by); nothing where there is nothing to choose by.
    """
    both = np.concatenate([fold.train, fold.validation])
    for groups in ([clip.source for clip in clips], [clip.group for clip in clips]):
        train, validation, test = (
            {groups[index] for index in part.tolist()} for part in (fold.train, fold.validation, fold.test)
        )
        together = train | validation
        if "" in together or len(together) < 2 or not train & validation or test & together:
            continue
        # Dealt out in their order, so that recordings that are listed class by class give turns of all classes.
        turn_of = {group: place % TURNS for place, group in enumerate(sorted(together))}
        turns = np.array([turn_of[groups[index]] for index in both.tolist()])
        of_train = turns[: len(fold.train)]
        pairs = [(fold.train[of_train != turn], both[turns == turn]) for turn in range(min(TURNS, len(together)))]
        if usable := [pair for pair in pairs if len(pair[0])]:
            return usable
    return [(fold.train, fold.validation)] if len(fold.validation) else []
