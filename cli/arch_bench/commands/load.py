"""`arch load`: how many clips a second servers answer in time."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from arch_common import interrupt
from arch_common.errors import ArchError, UsageError

from arch_bench import api, options
from arch_bench.load_tests import testing
from arch_bench.terminal import ERR, OUT


class ScenarioChoice(StrEnum):
    """LoadGen's scenarios."""

    SERVER = "server"
    OFFLINE = "offline"
    SINGLE_STREAM = "single-stream"
    MULTI_STREAM = "multi-stream"


def load(
    context: typer.Context,
    dataset: Annotated[
        str, typer.Option(help="ID, ID=PATH, my.yaml or DIR: whose clips are sent, each at its length.")
    ],
    server: options.Servers = None,
    model: Annotated[list[str] | None, typer.Option(help="A model on the server; by default all of arch's.")] = None,
    repository: Annotated[Path, typer.Option(help="What a server started here serves.")] = api.REPOSITORY,
    slo: Annotated[
        str | None,
        typer.Option(help="What is promised: p99=200ms, from the moment that a clip is due.", show_default=False),
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(help="Clips/s to measure: 5:100 or 5:100:8 or 20. [the highest that keeps the SLO is searched]"),
    ] = None,
    scenario: Annotated[
        ScenarioChoice, typer.Option(help="Of MLPerf LoadGen; server is clips at random moments, an open loop.")
    ] = ScenarioChoice.SERVER,
    min_duration: Annotated[float | None, typer.Option(help="Seconds of a run, at least. [10]")] = None,
    min_queries: Annotated[
        int | None,
        typer.Option(help="Queries of a run, at least. [with which early stopping can pass: 459 at p99]"),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Runs of 600 s, as MLPerf's rules want them.")] = False,
    samples_per_query: Annotated[int | None, typer.Option(min=1, help="Clips of a query in multi-stream. [8]")] = None,
    clips: Annotated[int, typer.Option(min=1, help="Clips of the dataset, sent again and again.")] = 256,
    repeats: Annotated[
        int | None, typer.Option(min=1, help="Rounds of three runs around the rate that was found. [3]")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of arrivals and clips.")] = 0,
    transport: options.Transports = options.TransportChoice.GRPC,
    hop: Annotated[
        float | None,
        typer.Option(help="Seconds between two clips of a stream, for the number of streams in the answer."),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            min=1, help="Processes that send together, each with a LoadGen of its own and a share of the rate."
        ),
    ] = 1,
    ray_address: options.RayAddress = None,
    output: Annotated[Path | None, typer.Option(help="Folder for the report. [reports/<time>]")] = None,
    data_root: Annotated[Path, typer.Option(envvar="ARCH_DATA", help="Where ID without PATH is looked for.")] = Path(
        "data"
    ),
    tls: options.Tls = False,
    tls_ca: options.TlsCa = None,
    header: options.Headers = None,
) -> None:
    """Find how many clips a second servers answer in time, with MLPerf LoadGen: exit code 1 if no run is VALID."""
    source = context.get_parameter_source("ray_address")
    if workers == 1 and ray_address not in (None, "local") and source is not None and source.name == "COMMANDLINE":
        raise UsageError("--ray-address is for --workers above 1: one process sends from this machine")
    output = output or api.default_output()
    interrupt.catch()
    try:
        with interrupt.honoured():
            tested = testing.load_test(
                dataset,
                servers=options.endpoints_of(server, tls, tls_ca, header),
                models=model or [],
                repository=repository,
                slo=slo,
                rate=rate,
                scenario=scenario.value,
                min_duration=min_duration,
                min_queries=min_queries,
                full=full,
                samples_per_query=samples_per_query,
                clips=clips,
                repeats=repeats,
                seed=seed,
                transport=transport.value,
                hop=hop,
                workers=workers,
                ray_address=ray_address,
                output=output,
                data_root=data_root,
                command=options.shown_command(sys.argv[1:]),
                console=ERR,
            )
    except KeyboardInterrupt:
        ERR.print(f"interrupted; LoadGen's logs of the runs that ended are in {output}", soft_wrap=True)
        raise typer.Exit(interrupt.INTERRUPTED) from None
    OUT.print(tested)
    OUT.print(f"report: {tested.page}", soft_wrap=True)
    if tested.failure:
        raise ArchError(tested.failure)
