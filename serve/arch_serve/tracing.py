"""Traces of requests: what tritonserver is told to send to an OpenTelemetry collector."""

from __future__ import annotations

import os
import socket
import urllib.parse
from dataclasses import dataclass

from arch_common.errors import ServeUsageError

_SERVICE = "arch"
# OpenTelemetry's own variable, which Triton does not read.
_NAMED_BY = "OTEL_SERVICE_NAME"
_PORTS = {"http": 80, "https": 443}
_REACH_S = 2.0


@dataclass(frozen=True)
class Tracing:
    """Spans of requests by OTLP over HTTP: how long each waited, was computed and was answered.

    Attributes:
        url: of the collector, with its path, which is /v1/traces by custom.
        rate: of so many requests one is traced.

    Raises:
        ServeUsageError: if one of them cannot be right.
    """

    url: str
    rate: int = 1000

    def __post_init__(self) -> None:
        if self._address is None:
            raise ServeUsageError(
                f"--trace-url {self.url!r} cannot be right: wants where an OpenTelemetry collector takes OTLP over "
                "HTTP, such as http://localhost:4318/v1/traces"
            )
        if self.rate < 1:
            raise ServeUsageError(f"--trace-rate cannot be {self.rate}: one of so many requests is traced, from 1 on")

    @property
    def _address(self) -> tuple[str, int] | None:
        try:
            parts = urllib.parse.urlsplit(self.url)
            port = parts.port or _PORTS.get(parts.scheme)
        except ValueError:  # no such port, or brackets without an end
            return None
        # Triton splits its option at commas and spaces.
        plain = self.url.isascii() and self.url.isprintable() and not set(self.url) & set(" ,")
        # What is in it is told in logs and stands in the server's command line: no passwords.
        return (parts.hostname, port) if plain and parts.hostname and port and "@" not in parts.netloc else None

    @property
    def options(self) -> list[str]:
        """For tritonserver."""
        service = os.environ.get(_NAMED_BY) or _SERVICE
        settings = [
            *("mode=opentelemetry", f"rate={self.rate}", "level=TIMESTAMPS", f"opentelemetry,url={self.url}"),
            f"opentelemetry,resource=service.name={service}",
        ]
        return [f"--trace-config={one}" for one in settings]

    @property
    def environment(self) -> dict[str, str]:
        """For tritonserver: what is on this machine is never asked for through a proxy of the environment."""
        host = self._address[0] if self._address else ""
        if host not in ("localhost", "::1") and not host.startswith("127."):
            return {}
        around = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
        return {"no_proxy": f"{around},{host}" if around else host}

    @property
    def warning(self) -> str:
        """That nobody listens there now, in one line; empty if somebody does."""
        if self._address is None:
            return ""
        try:
            socket.create_connection(self._address, _REACH_S).close()
        except OSError as error:
            reason = error.strerror or str(error) or type(error).__name__
            return f"nothing listens at {self.url} ({reason}): spans are lost until a collector does"
        return ""


def tracing_of(url: str | None, rate: int) -> Tracing | None:
    """What was asked for; None if nothing was.

    Raises:
        ServeUsageError: if it cannot be right.
    """
    return None if url is None else Tracing(url, rate)
