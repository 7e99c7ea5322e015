"""What is said of the machine behind the error of a command that has failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import typer
from arch_common.errors import ArchError

from arch_bench.health.checks import troubles_of_run
from arch_bench.health.surroundings import Surroundings
from arch_bench.terminal import ERR, show_error


@contextmanager
def explained(repository: Path, output: Path, cache: Path | None, own_server: bool) -> Iterator[None]:
    """Say behind the error of the block what `arch doctor` finds wrong here; nothing where it finds nothing.

    Args:
        repository: of the models.
        output: of the run.
        cache: its embedding store.
        own_server: whether the server runs on this machine for the run.

    Raises:
        typer.Exit: in the place of an error that was told; with its exit code.
    """
    try:
        yield
    except ArchError as error:
        if error.exit_code != ArchError.exit_code:
            raise  # what was asked for cannot be right, whatever the machine is like
        show_error(error)
        _tell(Surroundings(repository, output, cache), own_server)
        raise typer.Exit(error.exit_code) from error
    except typer.Exit as end:
        if end.exit_code == ArchError.exit_code:
            _tell(Surroundings(repository, output, cache), own_server)
        raise


def _tell(around: Surroundings, own_server: bool) -> None:
    with suppress(Exception):  # the error was told, and it alone counts
        for one in troubles_of_run(around, own_server):
            ERR.print(f"arch doctor: {one.line}", soft_wrap=True)
