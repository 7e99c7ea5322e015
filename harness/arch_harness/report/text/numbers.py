"""How numbers, times and names from a run are put into text, the same way in every format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arch_harness.results.metric_definitions import METRICS

if TYPE_CHECKING:
    from datetime import datetime

UNKNOWN = "–"
"""What a table shows where a value is not known."""


def number(value: float) -> str:
    """`value` with about three significant digits and no exponent: 0.042, 1.23, 45.6, 1,234."""
    size = abs(value)
    if value == 0:
        return "0"
    if size < 0.001:
        return "<0.001" if value > 0 else ">-0.001"
    # The bounds lie where rounding would add a digit.
    for bound, digits in ((0.9995, 3), (9.995, 2), (99.95, 1)):
        if size < bound:
            return f"{value:.{digits}f}"
    return f"{value:,.0f}"


def percent(share: float) -> str:
    """A share (0 to 1) in percent, without the sign."""
    return f"{100 * share:.1f}"


def format_metric(identifier: str, value: Any) -> str:
    """The value of a metric as every table shows it; a dash where it is not known, and a text as it stands."""
    if value is None:
        return UNKNOWN
    if isinstance(value, str):
        return value
    metric = METRICS[identifier]
    shown = 100 * value if metric.unit == "%" else value
    if metric.form == ".1e":
        return scientific(shown)
    if metric.form:
        return format(shown, metric.form)
    return f"{shown:,}" if isinstance(shown, int) else number(shown)


def optional_percent(share: float | None) -> str:
    """A share in percent, or a dash where there is none."""
    return UNKNOWN if share is None else percent(share)


def points(difference: float) -> str:
    """A difference of two shares, in percentage points with its sign."""
    return f"{100 * difference:+.1f}"


def scientific(value: float) -> str:
    """A very small number: 1.2e-05."""
    return f"{value:.1e}" if value else "0"


def plural(count: int, noun: str) -> str:
    """`count` and `noun`, in the plural unless it is one."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def timestamp(moment: datetime) -> str:
    """Date, minute and, where known, time zone."""
    return moment.strftime("%Y-%m-%d %H:%M %Z").strip()


def clean(text: str) -> str:
    """`text` on one line, without control characters: names and error texts come from outside."""
    line = " ".join(text.split())
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)


def shorten(text: str, limit: int) -> str:
    """`text`, or its start and end around an ellipsis if it is longer than `limit` characters."""
    if len(text) <= limit:
        return text
    head = limit // 2
    return f"{text[:head]}…{text[len(text) - (limit - 1 - head) :]}"
