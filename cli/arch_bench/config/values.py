"""What a value in the file may be: decided by the key's type, and not by what YAML takes an unquoted word for.

`on`, `1e3` and `2024-01-01` are a switch, a number and a date to some readers of YAML and words to others. Here every
value is kept as it is written, with or without quotes, until its key says what it must be.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

from arch_common.errors import UsageError
from pydantic import BeforeValidator, ValidationInfo, WithJsonSchema

NO_VALUE = "has no value: give it one, or leave the key out"
_LONGEST = 60


class Plain(str):
    """A value that is written without quotes, so that it may be a number or a switch."""

    __slots__ = ()


def shown(value: str) -> str:
    """A value as a message names it."""
    text = repr(str(value if len(value) <= _LONGEST else value[: _LONGEST - 1] + "…"))
    return text if isinstance(value, Plain) else f"the text {text}: take its quotes away"


def nearest(word: str, known: Sequence[str]) -> str:
    """What may be meant by a word that is none of those known."""
    near = difflib.get_close_matches(word, known, 1)
    return f"did you mean {near[0]}?" if near else f"there is {', '.join(known)}"


def _scalar(value: Any) -> str:
    if value is None:
        raise ValueError(NO_VALUE)
    if not isinstance(value, str):
        raise ValueError(f"must be one value, not {'a list' if isinstance(value, list) else 'several keys'}")
    return value


def text_of(value: Any) -> str:
    """One line of text, quoted or not."""
    found = str(_scalar(value))
    if not found.strip() or len(found.splitlines()) > 1 or "\0" in found:
        raise ValueError("must be text of one line")
    return found


def _whole(value: Any) -> int:
    if isinstance(_scalar(value), Plain) and re.fullmatch(r"-?(?:0|[1-9]\d{0,17})", value):
        return int(value)
    raise ValueError(f"must be a whole number such as 3, not {shown(value)}")


def _number(value: Any) -> float:
    if isinstance(_scalar(value), Plain) and re.fullmatch(
        r"-?(?:0|[1-9]\d{0,17})(?:\.\d{1,18})?(?:[eE][+-]?\d{1,3})?", value
    ):
        found = float(value)
        if math.isfinite(found):
            return found
    raise ValueError(f"must be a number such as 2.5, not {shown(value)}")


def _switch(value: Any) -> bool:
    if isinstance(_scalar(value), Plain) and value.lower() in ("true", "false"):
        return str(value).lower() == "true"
    raise ValueError(f"must be true or false, not {shown(value)}")


def _path(value: Any, info: ValidationInfo) -> Path:
    return placed(text_of(value), info.context or Path())


def placed(text: str, folder: Path) -> Path:
    """A path of the file, which counts from the file's folder; `~` is the user's."""
    return folder / Path(text).expanduser()


Text = Annotated[str, BeforeValidator(text_of), WithJsonSchema({"type": ["string", "number"]})]
FilePath = Annotated[Path, BeforeValidator(_path), WithJsonSchema({"type": "string"})]
Switch = Annotated[bool, BeforeValidator(_switch)]


def bounded(kind: type[int] | type[float], bounds: Iterable[Any]) -> Any:
    """A number within bounds, which are those of annotated_types."""
    return Annotated[(kind, *bounds, BeforeValidator(_whole if kind is int else _number))]


def choice(of: type[Enum]) -> Any:
    """One of the values of an enumeration, as text."""
    values = [str(one.value) for one in of]

    def chosen(value: Any) -> str:
        if (found := text_of(value)) not in values:
            raise ValueError(f"cannot be {found!r}; {nearest(found, values)}")
        return found

    return Annotated[Literal[tuple(values)], BeforeValidator(chosen)]


def judged(check: Callable[[str], Any]) -> Callable[[Any], str]:
    """Text that passes a check; what the check says of it, as a UsageError, is what is wrong with the value."""

    def right(value: Any) -> str:
        found = text_of(value)
        try:
            check(found)
        except UsageError as error:
            raise ValueError(str(error)) from error
        return found

    return right


def checked(kind: Any, check: Callable[[str], Any]) -> Any:
    """Text that must also pass a check, which raises a UsageError where it does not."""
    return Annotated[kind, BeforeValidator(judged(check))]
