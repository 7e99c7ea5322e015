"""`arch serve`: Triton over a model repository."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from arch_common import interrupt
from arch_common.errors import ArchError, ServeError
from arch_common.log import json_line
from rich.table import Table
from rich.text import Text

from arch_bench import api, options
from arch_bench.terminal import ERR, OUT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from arch_serve.server import LocalServer, ModelStatus
    from rich.console import Console


class LogFormatChoice(StrEnum):
    """How what is said looks."""

    TEXT = "text"
    JSON = "json"


def serve(
    repository: options.Repository = api.REPOSITORY,
    model: Annotated[list[str] | None, typer.Option(help="Serve only this model; may be repeated.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    grpc_port: Annotated[int, typer.Option(help="For arch bench --server; 0 takes a free one.")] = 8001,
    http_port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8000,
    metrics_port: Annotated[int, typer.Option(help="Prometheus metrics; 0 takes a free one.")] = 8002,
    log_file: Annotated[Path | None, typer.Option(help="Keep Triton's log in this file.")] = None,
    log_format: Annotated[
        LogFormatChoice,
        typer.Option(help="json: all that is said, and Triton's log, a JSON object a line; without a file on stderr."),
    ] = LogFormatChoice.TEXT,
    trace_url: Annotated[
        str | None,
        typer.Option(help="Send spans of requests to this OpenTelemetry collector: http://HOST:4318/v1/traces."),
    ] = None,
    trace_rate: Annotated[int, typer.Option(help="Trace one of so many requests.")] = 1000,
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
    said: _Text | _Json = _Json() if log_format is LogFormatChoice.JSON else _Text()
    with said.errors():
        server = api.serve(
            repository,
            model,
            host=host,
            grpc_port=grpc_port,
            http_port=http_port,
            metrics_port=metrics_port,
            log_file=log_file,
            log_format=log_format.value,
            trace_url=trace_url,
            trace_rate=trace_rate,
            tls_cert=tls_cert,
            tls_key=tls_key,
            tls_client_ca=tls_client_ca,
            allow=allow or (),
        )
        _run(server, said, repository, encrypted=tls_cert is not None)


def _run(server: LocalServer, said: _Text | _Json, repository: Path, encrypted: bool) -> None:
    serving = False
    try:
        with said.starting():
            server.start()
        said.models(repository, server.models)
        for line in server.warnings:
            said.warning(line)
        if not any(status.ready for status in server.models):
            raise ServeError("no model could be loaded")
        serving = True  # before it is said, for who reads it may stop it at once
        said.serving(server, encrypted)
        server.wait()
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):  # the terminal is closed
            said.stopping()
        if not serving:
            raise typer.Exit(interrupt.INTERRUPTED) from None
    finally:
        server.stop()


class _Text:
    """What the command says, for people."""

    def starting(self) -> AbstractContextManager[object]:
        """A picture that moves while the block runs."""
        return ERR.status("starting Triton and loading the models")

    def models(self, repository: Path, models: Sequence[ModelStatus]) -> None:
        """Which are served, and why others are not."""
        table = Table(title=_shown(f"Triton over {repository}"), title_justify="left")
        for column in ("model", "version", "state", "reason"):
            table.add_column(column, overflow="fold")
        for status in models:
            table.add_row(_shown(status.name), status.version, status.state, _shown(status.short_reason))
        OUT.print(table)
        for status in models:
            if status.note:
                self.warning(f"{status.name}: {status.note}")

    def warning(self, text: str) -> None:
        """What should be known."""
        ERR.print(f"warning: {text}", soft_wrap=True)

    def serving(self, server: LocalServer, encrypted: bool) -> None:
        """Where it listens."""
        OUT.print(
            f"gRPC {server.grpc_url}{' with TLS' if encrypted else ''} · HTTP {server.http_url} · "
            f"metrics http://{server.metrics_url}/metrics · Ctrl-C stops it",
            soft_wrap=True,
        )

    def stopping(self) -> None:
        """That it is asked to end."""
        ERR.print("stopping")

    def errors(self) -> AbstractContextManager[object]:
        """What fails in the block is told as by every command."""
        return contextlib.nullcontext()


class _Json:
    """The same, a JSON object a line."""

    def starting(self) -> AbstractContextManager[object]:
        """A line before the block."""
        self._say(ERR, "info", "starting Triton and loading the models")
        return contextlib.nullcontext()

    def models(self, repository: Path, models: Sequence[ModelStatus]) -> None:
        """A line for each."""
        for one in models:
            level = "info" if one.ready and not one.note else "warning"
            words = f"{one.name} {one.version}: {one.state}"
            reason = one.short_reason or one.note
            fields = {"model": one.name, "version": one.version, "state": one.state, "reason": reason}
            self._say(OUT, level, f"{words}: {reason}" if reason else words, repository=str(repository), **fields)

    def warning(self, text: str) -> None:
        """What should be known."""
        self._say(ERR, "warning", text)

    def serving(self, server: LocalServer, encrypted: bool) -> None:
        """Where it listens."""
        urls = {"grpc": server.grpc_url, "http": server.http_url, "metrics": f"http://{server.metrics_url}/metrics"}
        self._say(OUT, "info", f"serving: gRPC {server.grpc_url}", **urls, tls=encrypted)

    def stopping(self) -> None:
        """That it is asked to end."""
        self._say(ERR, "info", "stopping")

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """What fails in the block is a line too."""
        try:
            yield
        except ArchError as error:
            self._say(ERR, "error", str(error), exit_code=error.exit_code)
            raise typer.Exit(error.exit_code) from error

    def _say(self, console: Console, level: str, message: str, **fields: object) -> None:
        console.print(json_line(datetime.now(UTC), level, "arch", message, **fields), soft_wrap=True)


def _shown(text: str) -> Text:
    """A name or a path as it is: brackets in it are no markup, and what is no UTF-8 shows as a question mark."""
    return Text(text.encode(errors="replace").decode())
