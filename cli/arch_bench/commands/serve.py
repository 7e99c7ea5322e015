"""`arch serve`: Triton over a model repository."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer
from arch_common import interrupt
from arch_common.errors import ServeError
from rich.table import Table
from rich.text import Text

from arch_bench import api, options
from arch_bench.terminal import ERR, OUT


def serve(
    repository: options.Repository = api.REPOSITORY,
    model: Annotated[list[str] | None, typer.Option(help="Serve only this model; may be repeated.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    grpc_port: Annotated[int, typer.Option(help="For arch bench --server; 0 takes a free one.")] = 8001,
    http_port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8000,
    metrics_port: Annotated[int, typer.Option(help="Prometheus metrics; 0 takes a free one.")] = 8002,
    log_file: Annotated[Path | None, typer.Option(help="Keep Triton's log in this file.")] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(help="PEM of the server's certificate: encrypts gRPC; HTTP stays on 127.0.0.1.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM of its private key, without a password.")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(help="PEM of authorities: lets in only clients with a certificate of theirs.")
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CHANGE",
            help="What every client may change: shared-memory, model-repository, trace or logging; may be repeated. "
            "By default nothing, but shared-memory over gRPC from this machine.",
        ),
    ] = None,
) -> None:
    """Run NVIDIA Triton over a model repository until Ctrl-C."""
    server = api.serve(
        repository,
        model,
        host=host,
        grpc_port=grpc_port,
        http_port=http_port,
        metrics_port=metrics_port,
        log_file=log_file,
        tls_cert=tls_cert,
        tls_key=tls_key,
        tls_client_ca=tls_client_ca,
        allow=allow or (),
    )
    serving = False
    try:
        with ERR.status("starting Triton and loading the models"):
            server.start()
        table = Table(title=_shown(f"Triton over {repository}"), title_justify="left")
        for column in ("model", "version", "state", "reason"):
            table.add_column(column, overflow="fold")
        for status in server.models:
            table.add_row(_shown(status.name), status.version, status.state, _shown(status.short_reason))
        OUT.print(table)
        for status in server.models:
            if status.note:
                text = f"warning: {status.name}: {status.note}"
                ERR.print(text, soft_wrap=True)
        if server.warning:
            ERR.print(f"warning: {server.warning}", soft_wrap=True)
        if not any(status.ready for status in server.models):
            raise ServeError("no model could be loaded")
        serving = True  # before it is said, for who reads it may stop it at once
        encrypted = " with TLS" if tls_cert else ""
        OUT.print(
            f"gRPC {server.grpc_url}{encrypted} · HTTP {server.http_url} · "
            f"metrics http://{server.metrics_url}/metrics · Ctrl-C stops it",
            soft_wrap=True,
        )
        server.wait()
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):  # the terminal is closed
            ERR.print("stopping")
        if not serving:
            raise typer.Exit(interrupt.INTERRUPTED) from None
    finally:
        server.stop()


def _shown(text: str) -> Text:
    """A name or a path as it is: brackets in it are no markup, and what is no UTF-8 shows as a question mark."""
    return Text(text.encode(errors="replace").decode())
