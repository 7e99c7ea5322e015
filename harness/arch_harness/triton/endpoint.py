"""How a server is reached."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field

import grpc
from arch_common.errors import UsageError

# Where Triton's gRPC and metrics are unless told otherwise.
_GRPC_PORT, _METRICS_PORT = "8001", 8002
_LAST_PORT = 65535
_HEADER = re.compile(r"\s*([A-Za-z0-9_.-]+)\s*:\s*([\x20-\x7e]+?)\s*")
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^/:\s]+):\d{1,5}")


@dataclass(frozen=True)
class Endpoint:
    """How a server is reached.

    Attributes:
        address: `host:port` of its gRPC endpoint.
        tls: whether the connection is encrypted and the server's certificate checked.
        certificates: PEM of the authorities to trust; None takes the system's.
        identity: PEM of the client's certificate and of its private key, for servers that want one.
        headers: sent with every request; names in lower case. They may be secret and so are never shown.
        metrics: `host:port` of its metrics endpoint; if not given, Triton's default where gRPC is at its own.
        started_by_arch: whether it runs for this benchmark only.

    Raises:
        UsageError: if `address` is no `host:port`, or no port has that number.
    """

    address: str
    tls: bool = False
    certificates: bytes | None = field(default=None, repr=False)
    identity: tuple[bytes, bytes] | None = field(default=None, repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    metrics: str | None = None
    started_by_arch: bool = False

    def __post_init__(self) -> None:
        if not _ADDRESS.fullmatch(self.address):
            raise UsageError(f"{self.address!r} is no server address: wants HOST:PORT of Triton's gRPC endpoint")
        host, port = self.address.rsplit(":", 1)
        if not 0 < int(port) <= _LAST_PORT:  # gRPC would go to another, the rest of a division by 65,536
            raise UsageError(f"{self.address!r} is no server address: a port is a number from 1 to {_LAST_PORT}")
        if self.metrics is None and port == _GRPC_PORT:
            object.__setattr__(self, "metrics", f"{host}:{_METRICS_PORT}")

    @property
    def loopback(self) -> bool:
        """Whether it is on the machine that asks."""
        host = self.address.rsplit(":", 1)[0].strip("[]")
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    @property
    def credentials(self) -> grpc.ChannelCredentials | None:
        """For an encrypted channel; None where it is plain."""
        if not self.tls:
            return None
        certificate, key = self.identity or (None, None)
        return grpc.ssl_channel_credentials(self.certificates, key, certificate)

    @property
    def options(self) -> list[tuple[str, int]]:
        """Of a channel to it. They take the place of tritonclient's own, and so repeat what those are needed for."""
        options = [
            # A batch of 30 s clips, or the embeddings of all layers, passes gRPC's 4 MiB.
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
            # gRPC would wait up to 2 minutes before it tries to reach a server again that was restarted.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ]
        # One on this machine is never asked for through a proxy of the environment.
        return [*options, ("grpc.enable_http_proxy", 0)] if self.loopback else options

    def channel(self) -> grpc.Channel:
        """A channel of its own, not yet connected."""
        credentials = self.credentials
        if credentials is None:
            return grpc.insecure_channel(self.address, options=self.options)
        return grpc.secure_channel(self.address, credentials, options=self.options)


def parse_header(line: str) -> tuple[str, str]:
    """Name, in lower case as gRPC wants it, and value of `NAME: VALUE`.

    Raises:
        UsageError: if it is no header; the message does not repeat it, since it may be secret.
    """
    found = _HEADER.fullmatch(line)
    if found is None:
        raise UsageError("--header or ARCH_HEADER: wants 'NAME: VALUE' of printable ASCII")
    name = found[1].lower()
    if name.startswith("grpc-") or name.endswith("-bin"):
        raise UsageError(f"--header or ARCH_HEADER: gRPC keeps the name {name!r} for itself")
    return name, found[2]
