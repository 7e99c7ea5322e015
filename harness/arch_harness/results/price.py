"""What the servers cost, from their price an hour and the speed of a saturated server."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from arch_common.errors import UsageError

from arch_harness.results.repeats import mean_of, rtfx_of

if TYPE_CHECKING:
    from arch_harness.results.measurement import Measurement

PRICES = ("price_per_1000_hours", "price_per_million_clips")
"""The metrics that are prices."""

_PRICE = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(?:/h(?:our)?)?", re.IGNORECASE)
_SECONDS = 3600


def parse_price(text: str) -> float:
    """The price of `2.49/h`, in any currency: of an hour of all servers together.

    Raises:
        UsageError: if it is no such price.
    """
    found = _PRICE.fullmatch(text.strip())
    if found is None or not 0 < float(found[1]) < 1e9:
        raise UsageError(f"--price {text}: a price of an hour is a number over 0 such as 2.49/h, without a currency")
    return float(found[1])


def prices(measurement: Measurement, price_per_hour: float) -> dict[str, Any]:
    """Of a million clips and of 1,000 hours of audio, by metric; None where no speed is known.

    Args:
        measurement: whose clips/s and RTFx are taken, the means over its runs.
        price_per_hour: of all servers together.
    """
    return {
        "price_per_million_clips": _price(price_per_hour, 1e6 / _SECONDS, mean_of(measurement, "clips_per_s")),
        "price_per_1000_hours": _price(price_per_hour, 1000, rtfx_of(measurement)),
    }


def _price(price_per_hour: float, amount: float, speed: float | None) -> float | None:
    return price_per_hour * amount / speed if speed else None
