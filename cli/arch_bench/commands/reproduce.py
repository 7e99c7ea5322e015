"""`arch reproduce`: the experiments of the ARCH paper, ours set beside the published scores."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from arch_common import interrupt

from arch_bench import api, options, reproduction
from arch_bench.commands.data import downloads
from arch_bench.terminal import ERR, OUT

if TYPE_CHECKING:
    from arch_bench.reproduction.plan import Plan


def _known(incomplete: str) -> list[str]:
    """The experiments that a shell completes."""
    return [name for name in reproduction.EXPERIMENTS if name.startswith(incomplete)]


def reproduce(
    experiment: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="hubert-as-base, discrete-vs-continuous or base-vs-large, on the twelve datasets of ARCH.",
            autocompletion=_known,
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="Instead of the experiment's: an alias, a hub id, or ALIAS=FOLDER; may be repeated."),
    ] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(help="Instead of all twelve: ID or ID=PATH; may be repeated.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what is there, what is missing, and about how long it takes.")
    ] = False,
    fetch: Annotated[bool, typer.Option("--fetch", help="Download the datasets that are missing, too.")] = False,
    mirror: Annotated[str | None, typer.Option(help="With --fetch: take files from <URL>/<id>/<file name>.")] = None,
    repository: options.Repository = api.REPOSITORY,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for the report; what it holds already is kept. [reports/reproduce-NAME]"),
    ] = None,
    data_root: Annotated[Path, typer.Option(envvar="ARCH_DATA", help="Where ID without PATH is looked for.")] = Path(
        "data"
    ),
    seeds: options.Seeds = options.DEFAULT_SEEDS,
    seed: options.Seed = 0,
    cache: options.Cache = None,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Run checkpoints of the ARCH tables on its datasets, and set the scores beside the published ones.

    What is missing is listed first; what is there is run. The same command goes on from where an earlier one ended.
    """
    options.check_detail(verbose, quiet)
    asked: dict[str, Any] = {"models": model or [], "datasets": dataset or []}
    asked |= {"repository": repository, "output": output, "data_root": data_root, "cache": cache}
    if dry_run:
        for line in reproduction.plan_reproduction(experiment, **asked).lines():
            OUT.print(line, soft_wrap=True)
        return

    def step(text: str) -> None:
        interrupt.check()
        if not quiet:
            ERR.print(text, soft_wrap=True)

    def show(plan: Plan) -> None:
        for line in [] if quiet else plan.lines():
            ERR.print(line, soft_wrap=True)

    try:
        with interrupt.honoured():
            done = reproduction.reproduce(
                experiment,
                **asked,
                fetch=fetch,
                mirror=mirror,
                downloads=downloads,
                seeds=seeds,
                seed=seed,
                on_plan=show,
                on_step=step,
                command=options.shown_command(sys.argv[1:]),
                console=None if quiet else ERR,
            )
    except KeyboardInterrupt:
        ERR.print("interrupted; the same command goes on from here")
        raise typer.Exit(interrupt.INTERRUPTED) from None
    if verbose:
        OUT.print(done.run.stages())
    if quiet:
        OUT.print(str(done.page), soft_wrap=True)
    else:
        OUT.print(done)
        OUT.print(f"ours against published: {done.page}", soft_wrap=True)
        OUT.print(f"report: {done.run.report}", soft_wrap=True)
    for problem in done.problems:
        ERR.print(f"arch: {problem}", soft_wrap=True)
    if done.run.failed:
        ERR.print(f"arch: {done.run.failed} clips failed and count in no score; the report names them", soft_wrap=True)
    if done.problems or done.run.failed:
        raise typer.Exit(1)
