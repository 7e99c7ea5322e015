"""The command line; each command is a file in `commands`, and a thin layer over `arch_bench.api`."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer
from arch_common import interrupt
from arch_common.errors import ArchError

import arch_bench
from arch_bench.commands import (
    analyse,
    bench,
    cache,
    compare,
    data,
    demo,
    export,
    gate,
    load,
    probe,
    publish,
    reproduce,
    serve,
)
from arch_bench.terminal import ERR, OUT, show_what_it_can

app = typer.Typer(
    name="arch",
    help="Benchmark audio encoders as they are served: throughput, latency and accuracy in one report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # `[reports/<time>]` in a help text is no markup.
    rich_markup_mode=None,
)


def _version(asked: bool) -> None:
    if asked:
        OUT.print(f"arch {arch_bench.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version, and end.")
    ] = False,
) -> None:
    """Benchmark audio encoders as they are served: throughput, latency and accuracy in one report."""


app.command()(export.export)
app.command()(serve.serve)
app.command()(bench.bench)
app.command()(load.load)
app.command()(probe.probe)
app.command()(reproduce.reproduce)
app.command()(compare.compare)
app.command()(gate.gate)
app.command()(publish.publish)
app.command()(analyse.analyse)
app.command()(demo.demo)
app.add_typer(data.app)
app.add_typer(cache.app)


def main() -> None:
    """Run the command line; a known error becomes one line and its exit code."""
    interrupt.catch()
    show_what_it_can()
    try:
        with interrupt.honoured():
            app(prog_name="arch")
    except KeyboardInterrupt:
        ERR.print("interrupted")
        sys.exit(interrupt.INTERRUPTED)
    except ArchError as error:
        for line in str(error).split("\n"):  # those of a ConfigError
            ERR.print(f"arch: {line}", soft_wrap=True)
        sys.exit(error.exit_code)
    except FileNotFoundError:
        if _has_folder():
            raise
        ERR.print("arch: the folder that this was started in is gone: change to another", soft_wrap=True)
        sys.exit(ArchError.exit_code)


def _has_folder() -> bool:
    """Whether there is a working directory, without which no relative path has a meaning."""
    try:
        os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        return False
    return True
