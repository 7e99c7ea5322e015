"""Errors that the command line shows as one line."""

from __future__ import annotations


class ServeError(Exception):
    """The server cannot run or has failed; the message says why and what to do. Exit code 1."""

    exit_code = 1


class ServeUsageError(ServeError):
    """What was asked for cannot be right: no such repository, model or port. Exit code 2."""

    exit_code = 2
