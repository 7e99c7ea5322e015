"""`arch bench` and its options."""

from __future__ import annotations

import contextlib
import enum
import os
import shlex
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from arch_harness import cache_cli, interrupt, probe_cli, server_cli
from arch_harness.errors import UsageError

if TYPE_CHECKING:
    from arch_harness.datasets import Dataset
    from arch_harness.triton import Target

_out = Console()
_err = Console(stderr=True)


class Splits(enum.StrEnum):
    """Which split of a dataset is used."""

    ARCH = "arch"
    STRICT = "strict"


def bench(
    dataset: Annotated[
        list[str], typer.Option(help="ID, ID=PATH, my.yaml or DIR; may be repeated. IDs: see arch data list.")
    ],
    server: server_cli.Servers = None,
    model: Annotated[list[str] | None, typer.Option(help="A model on the server; by default all of arch's.")] = None,
    repository: Annotated[Path, typer.Option(help="What a server started here serves.")] = Path("model_repository"),
    output: Annotated[
        Path | None, typer.Option(help="Folder for the report; one that was interrupted is completed. [reports/<time>]")
    ] = None,
    data_root: Annotated[Path, typer.Option(envvar="ARCH_DATA", help="Where ID without PATH is looked for.")] = Path(
        "data"
    ),
    splits: Annotated[
        Splits, typer.Option(help="arch: as the ARCH protocol; strict: speaker- or source-disjoint where it is not.")
    ] = Splits.ARCH,
    probe: probe_cli.Probes = None,
    seeds: probe_cli.Seeds = probe_cli.DEFAULT_SEEDS,
    seed: probe_cli.Seed = 0,
    tls: server_cli.Tls = False,
    tls_ca: server_cli.TlsCa = None,
    header: server_cli.Headers = None,
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, help="Single-clip requests in flight, over all servers; by default found while they run."),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Ray workers; by default half the cores.")] = None,
    ray_address: server_cli.RayAddress = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Probe every layer too, of models exported with --layers all.")
    ] = False,
    cache: cache_cli.Cache = None,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Embed again what is stored: to measure speed. Replaces it.")
    ] = False,
) -> None:
    """Stream datasets through a served encoder, probe the embeddings and write one report."""
    from arch_harness.cli import part

    with part("bench"):
        from arch_harness.datasets.registry import open_dataset

        datasets: list[Dataset] = []
        for argument in dict.fromkeys(dataset):
            one = open_dataset(argument, data_root, strict=splits is Splits.STRICT)
            if one.id in {other.id for other in datasets}:
                raise UsageError(f"the dataset {one.id!r} is named twice")
            if splits is Splits.STRICT and not one.id.endswith("@strict"):
                _err.print(f"{one.id}: no stricter split: {one.declaration.strict}", highlight=False, soft_wrap=True)
            datasets.append(one)
    output = output or Path("reports") / datetime.now().astimezone().strftime("%Y-%m-%d_%H-%M-%S")
    workers = workers or max(1, len(os.sched_getaffinity(0)) // 2)
    interrupt.catch()
    try:
        with interrupt.honoured(), part("bench"):
            given = server_cli.targets_of(server or [], tls, tls_ca, header)
        with interrupt.honoured(), _targets(given, repository, model) as targets:
            probing = {"probes": probe_cli.names_of(probe), "seeds": seeds, "seed": seed, "layers": layers}
            streaming = {"concurrency": concurrency, "workers": min(workers, concurrency or workers)}
            _bench(targets, model or [], datasets, output, probing | streaming, ray_address, cache, recompute)
    except KeyboardInterrupt:
        _err.print(f"interrupted; the same command with --output {shlex.quote(str(output))} goes on from here")
        raise typer.Exit(interrupt.INTERRUPTED) from None


@contextlib.contextmanager
def _targets(given: list[Target], repository: Path, models: list[str] | None) -> Iterator[list[Target]]:
    """The given servers, or one that runs as long as the block does."""
    if given:
        yield given
        return
    from arch_harness.cli import part

    with part("serve"):
        from arch_serve.server import LocalServer

    server = LocalServer(repository, models, grpc_port=0, http_port=0, metrics_port=0)
    try:
        with _err.status("starting Triton and loading the models"):
            server.start()
        for status in server.models:
            if not status.ready:
                _err.print(f"warning: {status.name} is not served: {status.short_reason}", highlight=False)
        with part("bench"):
            from arch_harness.triton import Target
        yield [Target(server.grpc_url, metrics=server.metrics_url, started_by_arch=True)]
    finally:
        server.stop()


def _bench(
    targets: list[Target],
    models: list[str],
    datasets: list[Dataset],
    output: Path,
    asked: dict[str, object],
    ray_address: str | None,
    cache: Path | None,
    recompute: bool,
) -> None:
    from arch_harness.cli import part

    with part("bench"):
        from arch_harness.bench import Bench
        from arch_harness.display import Display
        from arch_harness.embedding_store import EmbeddingStore
        from arch_harness.probes import EPOCHS
        from arch_harness.report import TerminalReport
        from arch_harness.results import Settings
        from arch_harness.stream import WorkerPool
        from arch_harness.triton import Server, common_models

    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(Server(target)) for target in targets]
        facts = common_models(servers, models)
        for one in facts:
            # With a note in brackets, if it is not as it should be.
            if one.executed_by and (not one.executed_by.startswith(f"{one.precision} ") or "(" in one.executed_by):
                _err.print(f"warning: {one.name} is served in {one.executed_by}", highlight=False, soft_wrap=True)
            if one.parity_missed:
                _err.print(f"warning: {one.name} misses its limits: {one.parity_missed}", soft_wrap=True)
        settings = Settings.model_validate({**asked, "epochs": EPOCHS})
        without = [one.name for one in facts if not one.layer_embeddings]
        if settings.layers and len(without) == len(facts):
            raise UsageError(f"--layers: no layer embeddings in {', '.join(without)}; export with --layers all")
        if settings.layers and without:
            _err.print(f"only the last layer of {', '.join(without)} is probed: no layer embeddings", soft_wrap=True)
        display = Display(_err)
        store = EmbeddingStore(cache_cli.root_of(cache), display.note)
        command = server_cli.shown_command(sys.argv[1:])
        pool = WorkerPool(targets, settings.workers, settings.concurrency, ray_address)
        run = Bench(servers, facts, datasets, settings, output, command, pool, store, recompute)
        run.execute(display)
    _out.print(TerminalReport(run.run))
    _out.print(f"report: {output / 'report.html'}", highlight=False, soft_wrap=True)
    failed = sum(result.failed for result in run.run.results)
    for problem in run.problems:
        _err.print(f"arch: {problem}", highlight=False, markup=False, soft_wrap=True)
    if failed:
        _err.print(f"arch: {failed} clips failed and count in no score; the report names them", soft_wrap=True)
    if failed or run.problems:
        raise typer.Exit(1)
