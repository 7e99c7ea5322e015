"""The command line: the one place that knows all three parts. Each is imported only when its command runs."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from arch_harness import bench_cli, export_cli, interrupt, probe_cli
from arch_harness.cache_cli import app as cache_app
from arch_harness.data_cli import app as data_app
from arch_harness.errors import UsageError

app = typer.Typer(
    name="arch",
    help="Benchmark audio encoders as they are served: throughput, latency and accuracy in one report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(data_app)
app.add_typer(cache_app)


# What each part brings; a missing one of these means that the part is not installed.
_PARTS = {
    "export": ("huggingface_hub", "onnx", "onnxruntime", "onnxscript", "torch", "transformers", "tritonclient"),
    "serve": ("onnxruntime",),
    "bench": (
        *("jinja2", "matplotlib", "psutil", "pyarrow", "pydantic", "ray", "scipy", "sklearn", "soundfile"),
        *("soxr", "threadpoolctl", "tritonclient", "yaml"),
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
    interrupt.catch()
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


app.command()(bench_cli.bench)
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
    for old in (output / "results.json", *(output / "measurements").glob("*--demo.json")):
        old.unlink(missing_ok=True)
    bench_cli.bench(
        [f"demo={folder}"],
        model=[one.name for one in exported],
        repository=repository,
        output=output,
        recompute=True,
    )


def main() -> None:
    """Run the command line; a known error becomes one line and its exit code."""
    try:
        with interrupt.honoured():
            app()
    except KeyboardInterrupt:
        _err.print("interrupted")
        sys.exit(interrupt.INTERRUPTED)
    except Exception as error:
        code = getattr(error, "exit_code", None)
        if not isinstance(code, int):
            raise
        _err.print(f"arch: {error}", highlight=False, markup=False, soft_wrap=True)
        sys.exit(code)
