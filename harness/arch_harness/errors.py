"""Errors that the command line shows as one line."""

from __future__ import annotations


class ArchError(Exception):
    """Something failed that the user can act on; the message says what and what to do. Exit code 1."""

    exit_code = 1


class UsageError(ArchError):
    """What was asked for cannot be right: an unknown name, a path that does not hold what it should. Exit code 2."""

    exit_code = 2


class ScoreError(ArchError):
    """One model on one dataset cannot be scored; the others can."""
