"""The command line: the one place that knows all three parts. Each is imported only when its command runs."""

from __future__ import annotations

import contextlib
import enum
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from arch_harness import export_cli, probe_cli
from arch_harness.data_cli import app as data_app
from arch_harness.errors import UsageError

if TYPE_CHECKING:
    from arch_harness.datasets import Dataset

app = typer.Typer(
    name="arch",
    help="Benchmark audio encoders as they are served: throughput, latency and accuracy in one report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(data_app)


class Splits(enum.StrEnum):
    """Which split of a dataset is used."""

    ARCH = "arch"
    STRICT = "strict"


INTERRUPTED = 130
# What each part brings; a missing one of these means that the part is not installed.
_PARTS = {
    "export": ("huggingface_hub", "onnx", "onnxruntime", "onnxscript", "torch", "transformers", "tritonclient"),
    "serve": ("onnxruntime",),
    "bench": (
        *("jinja2", "matplotlib", "psutil", "pydantic", "ray", "scipy", "sklearn", "soundfile", "soxr"),
        *("threadpoolctl", "tritonclient", "yaml"),
    ),
}

_out = Console()
_err = Console(stderr=True)

Repository = Annotated[Path, typer.Option(help="The Triton model repository.")]


@contextlib.contextmanager
def part(extra: str) -> Iterator[None]:
    """Say which extra to install where a module of it is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in _PARTS[extra]:
            raise
        raise UsageError(
            f"this needs the package {error.name!r}, which is not installed: pip install 'arch-bench[{extra}]' "
            f"(in a clone: pip install '.[{extra}]')"
        ) from error


app.command()(export_cli.export)


@app.command()
def serve(
    repository: Repository = Path("model_repository"),
    model: Annotated[list[str] | None, typer.Option(help="Serve only this model; may be repeated.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    grpc_port: Annotated[int, typer.Option(help="For arch bench --server; 0 takes a free one.")] = 8001,
    http_port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8000,
    metrics_port: Annotated[int, typer.Option(help="Prometheus metrics; 0 takes a free one.")] = 8002,
    log_file: Annotated[Path | None, typer.Option(help="Keep Triton's log in this file.")] = None,
) -> None:
    """Run NVIDIA Triton over a model repository until Ctrl-C."""
    with part("serve"):
        from arch_serve.errors import ServeError
        from arch_serve.server import LocalServer
    stop_on_sigterm()
    server = LocalServer(
        repository,
        model,
        host=host,
        grpc_port=grpc_port,
        http_port=http_port,
        metrics_port=metrics_port,
        log_file=log_file,
    )
    try:
        with _err.status("starting Triton and loading the models"):
            server.start()
        table = Table(title=f"Triton over {repository}", title_justify="left")
        for column in ("model", "version", "state", "reason"):
            table.add_column(column, overflow="fold")
        for status in server.models:
            table.add_row(status.name, status.version, status.state, status.short_reason)
        _out.print(table)
        if not any(status.ready for status in server.models):
            raise ServeError("no model could be loaded")
        _out.print(
            f"gRPC {server.grpc_url} · HTTP {server.http_url} · metrics http://{server.metrics_url}/metrics · "
            "Ctrl-C stops it",
            highlight=False,
            soft_wrap=True,
        )
        server.wait()
    except KeyboardInterrupt:
        _err.print("stopping")
    finally:
        server.stop()


@app.command()
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
) -> None:
    """Stream datasets through a served encoder, probe the embeddings and write one report."""
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
        with _server(server, repository, model) as (address, metrics):
            probing = {"probes": probe_cli.names_of(probe), "seeds": seeds, "seed": seed, "layers": layers}
            _bench(address, metrics, model or [], datasets, output, probing, concurrency, workers)
    except KeyboardInterrupt:
        _err.print(f"interrupted; the same command with --output {shlex.quote(str(output))} goes on from here")
        raise typer.Exit(INTERRUPTED) from None


@contextlib.contextmanager
def _server(address: str | None, repository: Path, models: list[str] | None) -> Iterator[tuple[str, str | None]]:
    """The given server's address; or that of one that runs as long as the block does, and of its metrics."""
    if address is not None:
        yield address, None
        return
    with part("serve"):
        from arch_serve.server import LocalServer

    server = LocalServer(repository, models, grpc_port=0, http_port=0, metrics_port=0)
    try:
        with _err.status("starting Triton and loading the models"):
            server.start()
        for status in server.models:
            if not status.ready:
                _err.print(f"warning: {status.name} is not served: {status.short_reason}", highlight=False)
        yield server.grpc_url, server.metrics_url
    finally:
        server.stop()


def _bench(
    address: str,
    metrics: str | None,
    models: list[str],
    datasets: list[Dataset],
    output: Path,
    probing: dict[str, object],
    concurrency: int,
    workers: int,
) -> None:
    with part("bench"):
        from arch_harness.bench import Bench
        from arch_harness.display import Display
        from arch_harness.probes import EPOCHS
        from arch_harness.report import TerminalReport
        from arch_harness.results import Settings
        from arch_harness.triton import Server

    with Server(address, metrics is not None, metrics) as server:
        facts = server.models(models)
        for one in facts:
            if one.executed_by and not one.executed_by.startswith(f"{one.precision} "):
                _err.print(f"warning: {one.name} is served in {one.executed_by}", highlight=False, soft_wrap=True)
            if one.parity_missed:
                _err.print(f"warning: {one.name} misses its limits: {one.parity_missed}", soft_wrap=True)
        settings = Settings.model_validate(
            {**probing, "epochs": EPOCHS, "concurrency": concurrency, "workers": min(workers, concurrency)}
        )
        without = [one.name for one in facts if not one.layer_embeddings]
        if settings.layers and len(without) == len(facts):
            raise UsageError(f"--layers: no layer embeddings in {', '.join(without)}; export with --layers all")
        if settings.layers and without:
            _err.print(f"only the last layer of {', '.join(without)} is probed: no layer embeddings", soft_wrap=True)
        run = Bench(server, facts, datasets, settings, output, shlex.join(["arch", *sys.argv[1:]]))
        run.execute(Display(_err))
    _out.print(TerminalReport(run.run))
    _out.print(f"report: {output / 'report.html'}", highlight=False, soft_wrap=True)
    failed = sum(result.failed for result in run.run.results)
    for problem in run.problems:
        _err.print(f"arch: {problem}", highlight=False, markup=False, soft_wrap=True)
    if failed:
        _err.print(f"arch: {failed} clips failed and count in no score; the report names them", soft_wrap=True)
    if failed or run.problems:
        raise typer.Exit(1)


app.command()(probe_cli.probe)


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("reports/demo"),
    repository: Repository = Path("model_repository"),
    data_root: Annotated[Path, typer.Option(envvar="ARCH_DATA", help="Where the synthesised dataset goes.")] = Path(
        "data"
    ),
) -> None:
    """The whole job on synthesised sound with two small encoders; needs no download."""
    with part("export"), _err.status("making a small random HuBERT"):
        from arch_export.random_checkpoint import write_random_hubert

        checkpoint = write_random_hubert(data_root / "checkpoints" / "hubert-small-random")
    exported = [export_cli.run(one, repository) for one in ("logmel", str(checkpoint))]
    _out.print(export_cli.export_table(exported))
    with part("bench"), _err.status("synthesising the dataset"):
        from arch_harness.datasets.demo import write_demo

        folder = write_demo(data_root / "demo")
    # A demonstration shows what happens, and so begins anew.
    for old in (output / "results.json", *(output / "embeddings").glob("*--demo.npz")):
        old.unlink(missing_ok=True)
    bench([f"demo={folder}"], model=[one.name for one in exported], repository=repository, output=output)


def stop_on_sigterm() -> None:
    """Let a service manager's or container's stop signal clean up as Ctrl-C does."""

    def interrupt(_number: int, _frame: object) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def main() -> None:
    """Run the command line; a known error becomes one line and its exit code."""
    try:
        app()
    except Exception as error:
        code = getattr(error, "exit_code", None)
        if not isinstance(code, int):
            raise
        _err.print(f"arch: {error}", highlight=False, markup=False, soft_wrap=True)
        sys.exit(code)
