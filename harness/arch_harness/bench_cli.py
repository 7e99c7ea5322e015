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

from arch_harness import cache_cli, probe_cli
from arch_harness.errors import UsageError

if TYPE_CHECKING:
    from arch_harness.datasets import Dataset

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
    server: Annotated[str | None, typer.Option(help="HOST:PORT of Triton's gRPC; without it one is started.")] = None,
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
    concurrency: Annotated[int, typer.Option(min=1, help="Single-clip requests in flight.")] = 16,
    workers: Annotated[int | None, typer.Option(min=1, help="Ray workers; by default half the cores.")] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Probe every layer too, of models exported with --layers all.")
    ] = False,
    cache: cache_cli.Cache = None,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Embed again what is stored: to measure speed. Replaces it.")
    ] = False,
) -> None:
    """Stream datasets through a served encoder, probe the embeddings and write one report."""
    from arch_harness.cli import INTERRUPTED, part, stop_on_sigterm

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
    stop_on_sigterm()
    try:
        with _server(server, repository, model) as address:
            probing = {"probes": probe_cli.names_of(probe), "seeds": seeds, "seed": seed, "layers": layers}
            _bench(
                address, server is None, model or [], datasets, output, probing, concurrency, workers, cache, recompute
            )
    except KeyboardInterrupt:
        _err.print(f"interrupted; the same command with --output {shlex.quote(str(output))} goes on from here")
        raise typer.Exit(INTERRUPTED) from None


@contextlib.contextmanager
def _server(address: str | None, repository: Path, models: list[str] | None) -> Iterator[str]:
    """The given server's address, or that of one that runs as long as the block does."""
    if address is not None:
        yield address
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
        yield server.grpc_url
    finally:
        server.stop()


def _bench(
    address: str,
    started_here: bool,
    models: list[str],
    datasets: list[Dataset],
    output: Path,
    probing: dict[str, object],
    concurrency: int,
    workers: int,
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
        from arch_harness.triton import Server, Target

    target = Target(address, started_by_arch=started_here)
    with Server(target) as server:
        facts = server.models(models)
        settings = Settings.model_validate(
            {**probing, "epochs": EPOCHS, "concurrency": concurrency, "workers": min(workers, concurrency)}
        )
        without = [one.name for one in facts if not one.layer_embeddings]
        if settings.layers and len(without) == len(facts):
            raise UsageError(f"--layers: no layer embeddings in {', '.join(without)}; export with --layers all")
        if settings.layers and without:
            _err.print(f"only the last layer of {', '.join(without)} is probed: no layer embeddings", soft_wrap=True)
        display = Display(_err)
        store = EmbeddingStore(cache_cli.root_of(cache), display.note)
        command = shlex.join(["arch", *sys.argv[1:]])
        pool = WorkerPool([target], workers, concurrency)
        run = Bench([server], facts, datasets, settings, output, command, pool, store, recompute)
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
