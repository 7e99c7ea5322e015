"""What a gate allows: thresholds as options and YAML files write them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml
from arch_common.errors import UsageError

EXACT = 1e-9
"""What rounding may add to a difference."""

_NUMBER = r"(\d{1,12}(?:\.\d{1,12})?)"


@dataclass(frozen=True)
class LatencyLimit:
    """The most that a 99th percentile may be at a load.

    Attributes:
        milliseconds: of it.
        rate: clips/s at which they are sent; None for one request in flight.
    """

    milliseconds: float
    rate: float | None

    @property
    def figure(self) -> str:
        """The metric that it is of, by its id."""
        return "alone_p99_ms" if self.rate is None else "equal_p99_ms"

    def __str__(self) -> str:
        return f"{self.milliseconds:g}ms@" + ("alone" if self.rate is None else f"{self.rate:g}/s")


@dataclass(frozen=True)
class Thresholds:
    """What a gate allows; None, or none, where it does not ask.

    Attributes:
        max_drop: of the score against the baseline, a share.
        min_speed: clips/s as a ratio to the baseline's.
        max_p99: limits, each at a load.
        max_failed: share of a dataset's files without an embedding.
        min_cosine: smallest cosine similarity of a clip's embedding to that of the baseline.
    """

    max_drop: float | None = None
    min_speed: float | None = None
    max_p99: tuple[LatencyLimit, ...] = ()
    max_failed: float | None = None
    min_cosine: float | None = None

    def __bool__(self) -> bool:
        return any(getattr(self, one.name) not in (None, ()) for one in fields(self))

    @property
    def needs_embeddings(self) -> bool:
        """Whether the embedding store is to be read."""
        return self.min_cosine is not None


def read_thresholds(asked: Mapping[str, Any], file: Path | None = None) -> Thresholds:
    """The thresholds of a YAML file, and those asked for in its place.

    Args:
        asked: by name, `max-drop` or `max_drop`; None where the file's holds.
        file: a mapping of the same names.

    Raises:
        UsageError: if the file cannot be read, a name is unknown, a value cannot be meant, or there is no threshold.
    """
    found = _of_file(file) if file is not None else {}
    for name, value in asked.items():
        if value is not None and value != ():
            found[name.replace("_", "-")] = ("--" + name.replace("_", "-"), value)
    parsed: dict[str, Any] = {}
    for name, (where, value) in found.items():
        if name not in _PARSERS:
            near = difflib.get_close_matches(name, _PARSERS, 1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(_PARSERS)}"
            raise UsageError(f"{where}: unknown threshold {name!r}; {hint}")
        parsed[name.replace("-", "_")] = _PARSERS[name](where, value)
    thresholds = Thresholds(**parsed)
    if not thresholds:
        raise UsageError(f"no threshold is given: use one or more of {', '.join('--' + name for name in _PARSERS)}")
    return thresholds


def _of_file(path: Path) -> dict[str, tuple[str, Any]]:
    try:
        # As text, so that what is quoted and what is not are read alike.
        found = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=yaml.BaseLoader)  # noqa: S506 - makes strings
    except OSError as error:
        raise UsageError(f"cannot read the thresholds in {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{path} is no YAML file of thresholds: {reason}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{path} is no YAML file of thresholds: it wants lines such as 'max-drop: 1pt'")
    return {str(name): (f"{path}: {name}", value) for name, value in found.items()}


def _drop(where: str, value: Any) -> float:
    found = re.fullmatch(rf"{_NUMBER} ?(?:pt|pts|points?)", _text(value))
    if found is None:
        raise UsageError(f"{where} cannot be {_text(value)!r}: wants percentage points, such as 1pt")
    return _within(where, value, float(found[1]) / 100, 0, 1)


def _speed(where: str, value: Any) -> float:
    found = re.fullmatch(rf"{_NUMBER}( ?%)?", _text(value))
    ratio = float(found[1]) / (100 if found[2] else 1) if found else 0.0
    if not 0 < ratio <= 1:
        raise UsageError(
            f"{where} cannot be {_text(value)!r}: wants a ratio to the baseline's clips/s, above 0 and up to 1, "
            "such as 0.95"
        )
    return ratio


def _p99(where: str, value: Any) -> tuple[LatencyLimit, ...]:
    limits = []
    for one in value if isinstance(value, list | tuple) else [value]:
        found = re.fullmatch(rf"{_NUMBER} ?(ms|s) ?@ ?(?:{_NUMBER} ?/ ?s|(alone))", _text(one))
        if found is None:
            raise UsageError(
                f"{where} cannot be {_text(one)!r}: wants a latency and its load, such as 200ms@16/s (clips sent at "
                "that rate: arch bench --rate 16) or 200ms@alone (one request in flight)"
            )
        rate = None if found[4] else float(found[3])
        if rate == 0:
            raise UsageError(f"{where} cannot be {_text(one)!r}: no clip is sent at a rate of 0")
        limits.append(LatencyLimit(float(found[1]) * (1000 if found[2] == "s" else 1), rate))
    return tuple(dict.fromkeys(limits))


def _failed(where: str, value: Any) -> float:
    found = re.fullmatch(rf"{_NUMBER} ?%|0", _text(value))
    if found is None:
        raise UsageError(f"{where} cannot be {_text(value)!r}: wants a share of a dataset's files, such as 1%")
    return _within(where, value, float(found[1] or 0) / 100, 0, 1)


def _cosine(where: str, value: Any) -> float:
    found = re.fullmatch(rf"-?{_NUMBER}", _text(value))
    if found is None:
        raise UsageError(f"{where} cannot be {_text(value)!r}: wants a cosine similarity, such as 0.999")
    return _within(where, value, float(found[0]), -1, 1)


def _within(where: str, value: Any, number: float, low: float, high: float) -> float:
    if not low <= number <= high:
        raise UsageError(f"{where} cannot be {_text(value)!r}: it is out of its range")
    return number


def _text(value: Any) -> str:
    return " ".join(str(value).split())


_PARSERS: dict[str, Callable[[str, Any], Any]] = {
    "max-drop": _drop,
    "min-speed": _speed,
    "max-p99": _p99,
    "max-failed": _failed,
    "min-cosine": _cosine,
}
