"""Scores and their differences over several datasets, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A mean over datasets and its 95 % interval.

    Attributes:
        value: a share, or a difference of two.
        low: end of the interval; None where one of the datasets has none.
        high: the other end.
    """

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ScoreChange:
    """The mean score of one model less that of another, over the datasets that both have a score on.

    Attributes:
        other: the model that it is compared with.
        estimate: the difference, a share; its interval is of the same test clips (paired).
        clips: test clips that both have, over the datasets; None where the two were not compared clip by clip.
    """

    other: str
    estimate: Estimate
    clips: int | None

    @property
    def difference(self) -> float:
        """A share."""
        return self.estimate.value

    @property
    def is_real(self) -> bool | None:
        """Whether the interval leaves out 0; None where there is no interval."""
        if self.estimate.low is None or self.estimate.high is None:
            return None
        return self.estimate.low > 0 or self.estimate.high < 0

    @property
    def noise(self) -> float | None:
        """How far from 0 this difference would have to be to be told from noise, a share; None with no interval."""
        value, low, high = self.estimate.value, self.estimate.low, self.estimate.high
        if low is None or high is None:
            return None
        return value - low if value >= 0 else high - value

    @property
    def clips_needed(self) -> int | None:
        """With about how many test clips a difference of this size would be more than noise, to two digits.

        An interval narrows with the square root of the clips. None where it is already, where the two are equal, or
        where there is no interval.
        """
        if self.is_real is not False or not self.difference or not self.clips or not self.noise:
            return None
        needed = self.clips * (self.noise / abs(self.difference)) ** 2
        digits = max(0, math.floor(math.log10(needed)) - 1)
        return int(math.ceil(needed / 10**digits) * 10**digits)


def mean_of_estimates(parts: Sequence[Estimate]) -> Estimate:
    """The mean of estimates that are independent of one another, as those of several datasets are.

    Source: Zou and Donner, "Construction of confidence limits about effect measures: a general approach", Statistics in
    Medicine 27 (2008), equation 6, for a sum of parameters: the distances from estimate to limit add in quadrature.
    """
    count = len(parts)
    value = sum(one.value for one in parts) / count
    if any(one.low is None or one.high is None for one in parts):
        return Estimate(value, None, None)
    down = math.sqrt(sum((one.value - (one.low or 0.0)) ** 2 for one in parts)) / count
    up = math.sqrt(sum(((one.high or 0.0) - one.value) ** 2 for one in parts)) / count
    return Estimate(value, value - down, value + up)
