"""`arch bench`: datasets through a served encoder to one report."""

from __future__ import annotations

import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from arch_common import interrupt

from arch_bench import api, options
from arch_bench.health.after_failure import explained
from arch_bench.terminal import ERR, show, show_partial


def bench(
    dataset: Annotated[
        list[str], typer.Option(help="ID, ID=PATH, my.yaml or DIR; may be repeated. IDs: see arch data list.")
    ],
    server: options.Servers = None,
    model: Annotated[list[str] | None, typer.Option(help="A model on the server; by default all of arch's.")] = None,
    repository: Annotated[Path, typer.Option(help="What a server started here serves.")] = api.REPOSITORY,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the report; one that was interrupted is completed. [reports/<time>]")
    ] = None,
    data_root: Annotated[Path, typer.Option(envvar="ARCH_DATA", help="Where ID without PATH is looked for.")] = Path(
        "data"
    ),
    splits: Annotated[
        options.Splits,
        typer.Option(help="arch: as the ARCH protocol; strict: speaker- or source-disjoint where it is not."),
    ] = options.Splits.ARCH,
    probe: options.Probes = None,
    seeds: options.Seeds = options.DEFAULT_SEEDS,
    seed: options.Seed = 0,
    tls: options.Tls = False,
    tls_ca: options.TlsCa = None,
    tls_cert: options.TlsCert = None,
    tls_key: options.TlsKey = None,
    header: options.Headers = None,
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, help="Single-clip requests in flight, over all servers; by default found while they run."),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Ray workers; by default half the cores.")] = None,
    ray_address: options.RayAddress = None,
    transport: options.Transports = options.TransportChoice.GRPC,
    layers: Annotated[
        bool, typer.Option("--layers", help="Probe every layer too, of models exported with --layers all.")
    ] = False,
    cache: options.Cache = None,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Embed again what is stored: to measure speed. Replaces it.")
    ] = False,
    repeat: Annotated[
        int, typer.Option(min=1, help="Measure the speed so many times; from two on the report has intervals.")
    ] = 1,
    rate: Annotated[
        float | None,
        typer.Option(
            help="Clips/s at which all models are compared. By default 70 % of what the slowest of them reaches."
        ),
    ] = None,
    price: Annotated[
        str | None,
        typer.Option(
            metavar="AMOUNT/h",
            help="Price of an hour of all servers, such as 2.49/h: the report then has that of a million clips and of "
            "1,000 hours of audio.",
        ),
    ] = None,
    ablate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ASPECT,...",
            help="Score the same clips under other preprocessing too: padding, normalisation, resampler, loudness, "
            "length, or one setting of them such as loudness=peak.",
        ),
    ] = None,
    log_file: Annotated[
        Path | None, typer.Option(help="Append what happens to this file, a JSON object a line.", show_default=False)
    ] = None,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Stream datasets through a served encoder, probe the embeddings and write one report."""
    options.check_detail(verbose, quiet)
    output = output or api.default_output()
    failing = partial(explained, repository, output, cache, own_server=not server)
    try:
        with failing(), interrupt.honoured():
            run = api.bench(
                dataset,
                servers=options.endpoints_of(server, tls, tls_ca, header, (tls_cert, tls_key)),
                models=model or [],
                repository=repository,
                output=output,
                data_root=data_root,
                splits=splits.value,
                probes=options.names_of(probe),
                seeds=seeds,
                seed=seed,
                layers=layers,
                concurrency=concurrency,
                workers=workers,
                ray_address=ray_address,
                transport=transport.value,
                cache=cache,
                recompute=recompute,
                repeat=repeat,
                rate=rate,
                price=price,
                ablate=ablate or [],
                log_file=log_file,
                command=options.shown_command(sys.argv[1:]),
                console=None if quiet else ERR,
            )
    except KeyboardInterrupt:
        show_partial(output, verbose=verbose, quiet=quiet)
        ERR.print(f"interrupted; the same command with --output {shlex.quote(str(output))} goes on from here")
        raise typer.Exit(interrupt.INTERRUPTED) from None
    with failing():
        show(run, verbose=verbose, quiet=quiet)
