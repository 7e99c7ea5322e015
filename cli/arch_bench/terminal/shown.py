"""What the commands print of a run in the end, as much of it as was asked for."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from arch_common.errors import ArchError

from arch_bench import api

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from arch_bench.loaded import LoadedRun

_MOST_PROBLEMS = 2


def show(run: LoadedRun, out: Console, err: Console, *, verbose: bool = False, quiet: bool = False) -> None:
    """Print a run's table and verdict, where its report is, and what went wrong.

    Args:
        run: that has ended.
        out: takes what was asked for.
        err: takes what went wrong.
        verbose: whether the long tables are printed too, before the short one.
        quiet: whether the report's path is all.

    Raises:
        typer.Exit: with 1, if clips failed or a pair has no score.
    """
    troubles = _problems(run)
    if run.failed:
        troubles.append(f"arch: {run.failed} clips failed and count in no score; the report names them")
    _print(run, out, verbose, quiet, [] if quiet else troubles)
    for line in troubles:
        err.print(line, soft_wrap=True)
    if troubles:
        raise typer.Exit(1)


def show_scores(run: LoadedRun, out: Console, err: Console, *, verbose: bool = False, quiet: bool = False) -> None:
    """Print what every probe scores instead of the verdict.

    The arguments are those of `show`.

    Raises:
        typer.Exit: with 1, if a pair has no new score.
    """
    troubles = _problems(run)
    if not quiet:
        if verbose:
            out.print(run.stages())
        out.print(run.scores(_lines(troubles, out)), soft_wrap=not out.is_terminal)
    out.print(_path(run, quiet), soft_wrap=True)
    for line in troubles:
        err.print(line, soft_wrap=True)
    if troubles:
        raise typer.Exit(1)


def show_partial(folder: Path, out: Console, *, verbose: bool = False, quiet: bool = False) -> None:
    """Print what a run that was interrupted had finished, if that is in a report."""
    with suppress(ArchError):  # there is nothing, or the terminal is gone
        run = api.load(folder)
        if run.run.partial and run.run.results and run.report.is_file():
            _print(run, out, verbose, quiet, ["interrupted"])


def _print(run: LoadedRun, out: Console, verbose: bool, quiet: bool, below: Sequence[str]) -> None:
    """All but the lines that others print below it."""
    if not quiet:
        if verbose:
            out.print(run.stages())
        out.print(run.summary(_lines(below, out)), soft_wrap=not out.is_terminal)
    out.print(_path(run, quiet), soft_wrap=True)


def _path(run: LoadedRun, quiet: bool) -> str:
    return str(run.report) if quiet else f"report: {run.report}"


def _lines(below: Sequence[str], out: Console) -> int:
    """Lines of the terminal that the report's path, however long, and what stands below it take."""
    return 1 + sum(1 if not out.is_terminal else -(-len(line) // out.width) for line in below)


def _problems(run: LoadedRun) -> list[str]:
    lines = [f"arch: {problem}" for problem in run.problems[:_MOST_PROBLEMS]]
    more = len(run.problems) - len(lines)
    return lines + ([f"arch: {more} more of the kind; the report names them"] if more else [])
