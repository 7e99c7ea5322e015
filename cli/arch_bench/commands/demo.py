"""`arch demo`: the whole job on synthesised sound."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from arch_common import interrupt

from arch_bench import api, demonstration, options
from arch_bench.commands.export import export_table
from arch_bench.terminal import ERR, OUT, show, show_partial

if TYPE_CHECKING:
    from arch_export.pipeline import Exported


def demo(
    output: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("reports/demo"),
    repository: options.Repository = api.REPOSITORY,
    data_root: Annotated[Path, typer.Option(envvar="ARCH_DATA", help="Where the synthesised dataset goes.")] = Path(
        "data"
    ),
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """The whole job on synthesised sound with two small encoders; needs no download."""
    options.check_detail(verbose, quiet)

    def step(text: str) -> None:
        interrupt.check()
        if not quiet:
            ERR.print(text, soft_wrap=True)

    def table(exported: list[Exported]) -> None:
        if verbose:
            OUT.print(export_table(exported))

    def warn(text: str) -> None:
        ERR.print(f"warning: {text}", soft_wrap=True)

    try:
        with interrupt.honoured():
            run = demonstration.demo(
                output,
                repository,
                data_root,
                on_step=step,
                on_warning=warn,
                on_exported=table,
                command=options.shown_command(sys.argv[1:]),
                console=None if quiet else ERR,
            )
    except KeyboardInterrupt:
        show_partial(output, verbose=verbose, quiet=quiet)
        ERR.print("interrupted")
        raise typer.Exit(interrupt.INTERRUPTED) from None
    show(run, verbose=verbose, quiet=quiet)
