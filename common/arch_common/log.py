"""Structured logs: what happens, as one JSON object a line, in one form for the server's log and for a run's.

What a part tells goes to Python's logger `arch`, which nobody hears unless a handler is added; `appended_log` adds one.
"""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from arch_common.errors import ArchError, UsageError
from arch_common.interrupt import INTERRUPTED

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

LOGGER = logging.getLogger("arch")
LOGGER.addHandler(logging.NullHandler())  # or Python would print warnings where no handler is


def json_line(moment: datetime, level: str, component: str, message: str, **fields: Any) -> str:
    """One record, without a line break.

    Args:
        moment: when it was, with a time zone; it is written as ISO 8601 in UTC, with microseconds.
        level: debug, info, warning, error or critical.
        component: what tells it.
        message: in words.
        fields: what else is to be found by a machine; what JSON has no form for is written as text, no number as null.
    """
    time = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    record = {"time": time, "level": level, "component": component, "message": message, **fields}
    line = json.dumps(_plain(record), ensure_ascii=False, default=str)
    # A name of a file need not be UTF-8; JSON must.
    return line.encode(errors="replace").decode()


def _plain(value: Any) -> Any:
    """The same without numbers that JSON does not know."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(one) for one in value]
    return value


def tell(event: str, message: str, level: int = logging.INFO, **fields: Any) -> None:
    """Tell those who listen to the logger `arch`.

    Args:
        event: its kind, by which a machine finds it.
        message: in words.
        level: one of Python's logging.
        fields: what else belongs to it.
    """
    LOGGER.log(level, message, extra={"fields": {"event": event, **fields}})


class JsonFormatter(logging.Formatter):
    """Records of the logger as lines of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as a line."""
        fields = dict(getattr(record, "fields", {}))
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        moment = datetime.fromtimestamp(record.created, UTC)
        return json_line(moment, record.levelname.lower(), record.name, record.getMessage(), **fields)


class _LogFile(logging.FileHandler):
    """A file that is appended to, a line at a time; one that cannot be written any more ends no run."""

    _failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - the name is Python's
        """Say it once."""
        if not self._failed:
            self._failed = True
            sys.stderr.write(f"warning: cannot write the log to {self.baseFilename}: {sys.exc_info()[1]}\n")


@contextmanager
def appended_log(given: str | Path | None) -> Iterator[None]:
    """Append what is told in the block to a file, and how the block ended if that was badly.

    Only the process that calls this writes to it; each line is written out at once.

    Args:
        given: path of the file, which is made if it is not there; None writes nothing.

    Raises:
        UsageError: if it cannot be written; before the block begins.
    """
    if given is None:
        yield
        return
    path = Path(given)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = _LogFile(path, encoding="utf-8", errors="replace")
    except OSError as error:
        raise UsageError(f"--log-file {path} cannot be written: {error.strerror or error}") from error
    handler.setFormatter(JsonFormatter())
    level = LOGGER.level
    LOGGER.setLevel(logging.INFO)
    LOGGER.addHandler(handler)
    try:
        with _told_end():
            yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(level)
        with suppress(OSError):  # that it cannot be written was told
            handler.close()


def logged(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Have a function append what it tells to the file that its keyword `log_file` names, see `appended_log`."""

    @wraps(function)
    def call(*arguments: _Arguments.args, **named: _Arguments.kwargs) -> _Result:
        given: Any = named.get("log_file")
        with appended_log(given):
            return function(*arguments, **named)

    return call


@contextmanager
def _told_end() -> Iterator[None]:
    """Tell how the block ended if that was badly, with the exit code of the command line."""
    try:
        yield
    except KeyboardInterrupt:
        tell("interrupted", "interrupted", logging.WARNING, exit_code=INTERRUPTED)
        raise
    except ArchError as error:
        tell("failed", str(error), logging.ERROR, exit_code=error.exit_code, error=type(error).__name__)
        raise
    except BaseException as error:
        fields = {"event": "failed", "exit_code": 1, "error": type(error).__name__}
        LOGGER.exception(str(error) or type(error).__name__, extra={"fields": fields})
        raise
