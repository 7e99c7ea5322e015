"""The terminal: what was asked for goes to `OUT`; progress, notes and errors to `ERR`. What it shows of a run."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import typer
from arch_common.errors import ArchError
from rich.console import Console

from arch_bench import api

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from arch_bench.loaded import LoadedRun

_MOST_PROBLEMS = 2


class _Output(Console):
    def print(self, *objects: Any, **options: Any) -> None:
        """As a console does it.

        Raises:
            BrokenPipeError: if nobody reads it any more, as after `| head`.
            ArchError: if it cannot be written, as on a full disk.
        """
        try:
            super().print(*objects, **options)
        except BrokenPipeError:
            raise
        except OSError as error:
            # Else Python tries once more when it ends, and shows a traceback then.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)
            raise ArchError(f"cannot write the output: {error.strerror}") from error


# Names of files, labels and models are shown as they are: `[cel]` in one is no markup, and `:dog:` no picture.
OUT = _Output(markup=False, emoji=False, highlight=False)
ERR = Console(markup=False, emoji=False, highlight=False, stderr=True)


def show_what_it_can() -> None:
    """Let the terminal put a `?` where it has no such letter, or a name is not UTF-8, instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def show_error(error: ArchError) -> None:
    """Print it, as every command ends with it; a ConfigError has a line for each fault."""
    for line in str(error).split("\n"):
        ERR.print(f"arch: {line}", soft_wrap=True)


def show(run: LoadedRun, *, verbose: bool = False, quiet: bool = False) -> None:
    """Print a run's table and verdict, where its report is, and what went wrong.

    Args:
        run: that has ended.
        verbose: whether the long tables are printed too, before the short one.
        quiet: whether the report's path is all.

    Raises:
        typer.Exit: with 1, if clips failed or a pair has no score.
    """
    troubles = _problems(run)
    if run.failed:
        troubles.append(f"arch: {run.failed} clips failed and count in no score; the report names them")
    _print(run, verbose, quiet, [] if quiet else troubles)
    for line in troubles:
        ERR.print(line, soft_wrap=True)
    if troubles:
        raise typer.Exit(1)


def show_scores(run: LoadedRun, *, verbose: bool = False, quiet: bool = False) -> None:
    """Print what every probe scores instead of the verdict.

    The arguments are those of `show`.

    Raises:
        typer.Exit: with 1, if a pair has no new score.
    """
    troubles = _problems(run)
    if not quiet:
        if verbose:
            OUT.print(run.stages())
        OUT.print(run.scores(_lines(troubles)), soft_wrap=not OUT.is_terminal)
    OUT.print(_path(run, quiet), soft_wrap=True)
    for line in troubles:
        ERR.print(line, soft_wrap=True)
    if troubles:
        raise typer.Exit(1)


def show_partial(folder: Path, *, verbose: bool = False, quiet: bool = False) -> None:
    """Print what a run that was interrupted had finished, if that is in a report."""
    with suppress(ArchError):  # there is nothing, or the terminal is gone
        run = api.load(folder)
        if run.run.partial and run.run.results and run.report.is_file():
            _print(run, verbose, quiet, ["interrupted"])


def _print(run: LoadedRun, verbose: bool, quiet: bool, below: Sequence[str]) -> None:
    """All but the lines that others print below it."""
    if not quiet:
        if verbose:
            OUT.print(run.stages())
        OUT.print(run.summary(_lines(below)), soft_wrap=not OUT.is_terminal)
    OUT.print(_path(run, quiet), soft_wrap=True)


def _path(run: LoadedRun, quiet: bool) -> str:
    return str(run.report) if quiet else f"report: {run.report}"


def _lines(below: Sequence[str]) -> int:
    """Lines of the terminal that the report's path, however long, and what stands below it take."""
    return 1 + sum(1 if not OUT.is_terminal else -(-len(line) // OUT.width) for line in below)


def _problems(run: LoadedRun) -> list[str]:
    lines = [f"arch: {problem}" for problem in run.problems[:_MOST_PROBLEMS]]
    more = len(run.problems) - len(lines)
    return lines + ([f"arch: {more} more of the kind; the report names them"] if more else [])
