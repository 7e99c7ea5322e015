"""Errors that the command line shows as one line."""

from __future__ import annotations


class ExportError(Exception):
    """An export failed; the message says why and what to do. Exit code 1."""

    exit_code = 1


class ExportUsageError(ExportError):
    """What was asked for cannot be exported: an unknown alias, a folder that is no checkpoint. Exit code 2."""

    exit_code = 2


def reason_of(error: BaseException) -> str:
    """What an error of a library says, in one line: its kind too, for `KeyError: 101` says more than `101`."""
    words = str(error).strip()
    return f"{type(error).__name__}: {words.splitlines()[0]}" if words else type(error).__name__
