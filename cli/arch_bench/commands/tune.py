"""`arch tune`: the fastest way to serve an encoder within a promise."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from arch_common import interrupt

from arch_bench import api, options
from arch_bench.terminal import ERR, OUT
from arch_bench.tuning import tuning


def tune(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Option(help="A checkpoint, as arch export takes it; or a model of the repository: its serving alone."),
    ],
    dataset: Annotated[str, typer.Option(help="ID, ID=PATH, my.yaml or DIR: whose clips are sent, and scored.")],
    slo: Annotated[str, typer.Option(help="What is promised: p99=100ms, from the moment that a clip is due.")],
    max_loss: Annotated[
        str | None,
        typer.Option(
            help="In score against the checkpoint in fp32, uncut, in percentage points. [1pt]", show_default=False
        ),
    ] = None,
    max_memory: Annotated[
        str | None, typer.Option(help="Of the model's processes: 4GB, 800MiB.", show_default=False)
    ] = None,
    precision: Annotated[
        str, typer.Option(help="To try: fp32,int8,bf16. [those of this machine]", show_default=False)
    ] = "",
    layers: Annotated[
        str, typer.Option(help="To try: none, and layers to cut after: none,9,6. [none]", show_default=False)
    ] = "",
    lengths: Annotated[str, typer.Option(help="To try: padded,exact. [padded]", show_default=False)] = "",
    max_batch: Annotated[str, typer.Option(help="To try. [1,2,4,8,16,32]", show_default=False)] = "",
    instances: Annotated[str, typer.Option(help="To try. [powers of 2 up to the cores]", show_default=False)] = "",
    threads: Annotated[
        str,
        typer.Option(
            help="Of one operator, to try. [likewise; with the instances from half to twice the cores]",
            show_default=False,
        ),
    ] = "",
    queue_delay: Annotated[str, typer.Option(help="To try. [0,2ms,5ms]", show_default=False)] = "",
    conv_search: Annotated[
        str, typer.Option(help="On a GPU, to try: heuristic,exhaustive,default. [the first two]", show_default=False)
    ] = "",
    run_seconds: Annotated[
        float | None,
        typer.Option(help="Length of the shortest runs. [so long that 50 clips are answered, from 1 s]"),
    ] = None,
    clips: Annotated[int, typer.Option(min=1, help="Clips of the dataset, sent again and again.")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Of arrivals, clips, the order of measurements, the probes.")] = 0,
    repository: Annotated[
        Path, typer.Option(help="Where a model by name is, and where the winner is written.")
    ] = api.REPOSITORY,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the report; one that was interrupted goes on. [reports/<time>]")
    ] = None,
    data_root: Annotated[Path, typer.Option(envvar="ARCH_DATA", help="Where ID without PATH is looked for.")] = Path(
        "data"
    ),
    cache: options.Cache = None,
    write: Annotated[
        bool, typer.Option("--write/--no-write", help="Write the winner into the repository, under a name of its own.")
    ] = True,
) -> None:
    """Find the precision, cut, batch, queue delay, instances and threads that carry the most clips within a promise."""
    output = output or api.default_output()
    source = context.get_parameter_source("cache")
    if source is not None and source.name == "ENVIRONMENT":
        cache = None  # which is that of the environment, and not asked of a model that none is used for
    interrupt.catch()
    try:
        with interrupt.honoured():
            found = tuning.tune(
                model,
                dataset,
                slo=slo,
                max_loss=max_loss,
                max_memory=max_memory,
                precision=precision,
                layers=layers,
                lengths=lengths,
                max_batch=max_batch,
                instances=instances,
                threads=threads,
                queue_delay=queue_delay,
                conv_search=conv_search,
                run_seconds=run_seconds,
                clips=clips,
                seed=seed,
                repository=repository,
                output=output,
                data_root=data_root,
                cache=cache,
                write=write,
                command=options.shown_command(sys.argv[1:]),
                console=ERR,
            )
    except KeyboardInterrupt:
        ERR.print(
            f"interrupted; the same command with --output {shlex.quote(str(output))} goes on after the runs that ended",
            soft_wrap=True,
        )
        raise typer.Exit(interrupt.INTERRUPTED) from None
    OUT.print(found)
    for line in found.report.commands:
        OUT.print(f"by hand: {line}", soft_wrap=True)
    if found.model is not None:
        OUT.print(f"model: {found.model}", soft_wrap=True)
    OUT.print(f"report: {found.page}", soft_wrap=True)
