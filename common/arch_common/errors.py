"""Every error that a user can act on, in one hierarchy; the number is the exit code of the command line.

    ArchError                       1   something failed; the message says what and what to do
    ├── UsageError                  2   what was asked for cannot be right: an unknown name, a wrong option or path
    │   ├── MissingExtraError       2   a part of arch is not installed
    │   ├── ConfigError             2   a file of settings cannot be right: a line for each fault
    │   ├── ExportUsageError        2   (an ExportError too) no such checkpoint, or it is not supported
    │   └── ServeUsageError         2   (a ServeError too) no such repository, model or port
    ├── ExportError                 1   a checkpoint could not be exported, or what was exported is not the original
    ├── ServeError                  1   the server cannot run, or has failed
    ├── DamagedArchiveError         1   a downloaded archive cannot be unpacked
    ├── ScoreError                  1   one model on one dataset cannot be scored; the others can
    └── GateError                   3   a gate has failed: a run is worse than its thresholds allow

Ctrl-C, SIGTERM and SIGHUP end a command with 130. The message of each is one sentence or two, without a line break but
for the lines of a ConfigError, and stands alone: the command line prints it behind `arch: `.
"""

from __future__ import annotations

from collections.abc import Sequence


class ArchError(Exception):
    """Something failed that the user can act on; the message says what and what to do. Exit code 1."""

    exit_code = 1


class UsageError(ArchError):
    """What was asked for cannot be right: an unknown name, a path that does not hold what it should. Exit code 2."""

    exit_code = 2


class MissingExtraError(UsageError):
    """A part of arch is not installed; the message names the extra to install. Exit code 2."""


class ConfigError(UsageError):
    """A file of settings cannot be right. Exit code 2.

    Args:
        lines: what is wrong, each with the file, its line and column.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))


class ExportError(ArchError):
    """An export failed. Exit code 1."""


class ExportUsageError(ExportError, UsageError):
    """What was asked for cannot be exported: an unknown alias, a folder that is no checkpoint. Exit code 2."""

    exit_code = 2


class ServeError(ArchError):
    """The server cannot run or has failed. Exit code 1."""


class ServeUsageError(ServeError, UsageError):
    """What was asked for cannot be served: no such repository, model or port. Exit code 2."""

    exit_code = 2


class DamagedArchiveError(ArchError):
    """An archive that cannot be unpacked: to be downloaded again. Exit code 1."""


class ScoreError(ArchError):
    """One model on one dataset cannot be scored; the others can. Exit code 1."""


class GateError(ArchError):
    """A gate has failed: a run is worse than its thresholds allow. Exit code 3."""

    exit_code = 3


_LONGEST_LINE = 500


def first_line(words: str | None, otherwise: str) -> str:
    """The first line of what a library or a server says, cut where it goes on for pages; `otherwise` if it is blank."""
    lines = (words or "").strip().splitlines()
    return _cut(lines[0]) if lines else otherwise


def last_line(words: str | None, otherwise: str) -> str:
    """As `first_line`, of what says at its end what is wrong, as a traceback does."""
    lines = (words or "").strip().splitlines()
    return _cut(lines[-1].strip()) if lines else otherwise


def _cut(line: str) -> str:
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}…"


def reason_of(error: BaseException) -> str:
    """What an error of a library says, in one line: its kind too, for `KeyError: 101` says more than `101`."""
    kind = type(error).__name__
    words = first_line(str(error), "")
    return f"{kind}: {words}" if words else kind
