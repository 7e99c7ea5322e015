"""Who may do what at a server: TLS, and what clients may change of it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from arch_common.certificates import read_authorities, read_pair
from arch_common.errors import ServeUsageError, UsageError

from arch_serve.addresses import LOOPBACK, is_loopback

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

Change = Literal["shared-memory", "model-repository", "trace", "logging"]
"""What a client could change of a server, in Triton's words.

shared-memory: have it read and write memory of its machine, which the client names.
model-repository: load and unload models, with configurations and files of the client's; see the reasons of failures.
trace, logging: have it write files, to paths of the client's.
"""
CHANGES: tuple[Change, ...] = get_args(Change)
# The name of the header without which Triton refuses these; over gRPC with `triton-grpc-protocol-` before it.
HEADER = "arch-admin"


@dataclass(frozen=True)
class Tls:
    """What a server shows and asks for to encrypt gRPC; Triton's HTTP and metrics have no TLS.

    Attributes:
        certificate: PEM of its certificate, with what leads to its authority.
        key: PEM of its private key, not encrypted.
        client_ca: PEM of the authorities that clients' certificates must be from; None lets any client in.

    Raises:
        ServeUsageError: if a file cannot be read, or they are no certificate and key that belong together.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def __post_init__(self) -> None:
        try:
            read_pair(self.certificate, self.key)
            if self.client_ca is not None:
                read_authorities(self.client_ca, "--tls-client-ca")
        except UsageError as error:
            raise ServeUsageError(str(error)) from error

    @property
    def options(self) -> list[str]:
        """For tritonserver."""
        options = [
            "--grpc-use-ssl=true",
            f"--grpc-server-cert={self.certificate.resolve()}",
            f"--grpc-server-key={self.key.resolve()}",
        ]
        if self.client_ca is not None:
            options += ["--grpc-use-ssl-mutual=true", f"--grpc-root-cert={self.client_ca.resolve()}"]
        return options


def tls_of(certificate: Path | None, key: Path | None, client_ca: Path | None) -> Tls | None:
    """What was asked for; None if nothing was.

    Raises:
        ServeUsageError: if a part is missing or cannot be right.
    """
    if certificate is None and key is None and client_ca is None:
        return None
    if certificate is None or key is None:
        raise ServeUsageError("TLS needs both --tls-cert and --tls-key, the server's certificate and its key")
    return Tls(certificate, key, client_ca)


@dataclass(frozen=True)
class Access:
    """What clients may do at one server.

    Over HTTP they may change nothing unless it is asked for: what a page in a browser sends to this machine is HTTP.
    Over gRPC, clients on the same machine may give audio through shared memory where no other machine reaches it.

    Attributes:
        tls: encrypts gRPC.
        allowed: what every client may change.
        secret: who sends it may change everything; it is this process's own, and in the arguments of tritonserver.

    Raises:
        ServeUsageError: if something allowed is unknown.
    """

    tls: Tls | None = None
    allowed: Collection[str] = ()
    secret: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)

    def __post_init__(self) -> None:
        unknown = [one for one in self.allowed if one not in CHANGES]
        if unknown:
            raise ServeUsageError(f"unknown to --allow: {', '.join(unknown)}; it takes {', '.join(CHANGES)}")

    def hosts(self, host: str) -> dict[str, str]:
        """The address of each endpoint: with TLS, HTTP stays on this machine, for it would not be encrypted."""
        return {"grpc": host, "http": host if self.tls is None else LOOPBACK, "metrics": host}

    def options(self, hosts: Mapping[str, str]) -> list[str]:
        """For tritonserver.

        Args:
            hosts: the address of each endpoint.
        """
        http = [one for one in CHANGES if one not in self.allowed]
        grpc = [one for one in http if one != "shared-memory" or not is_loopback(hosts["grpc"])]
        options = [] if self.tls is None else self.tls.options
        for flag, closed in (("--http-restricted-api", http), ("--grpc-restricted-protocol", grpc)):
            if closed:
                options.append(f"{flag}={','.join(closed)}:{HEADER}={self.secret}")
        return options

    def warning(self, hosts: Mapping[str, str]) -> str:
        """What should be known of an address that other machines reach; empty where nothing should."""
        if is_loopback(hosts["grpc"]):
            return ""
        if self.tls is None:
            return (
                f"whoever reaches {hosts['grpc']} can use this server, and nothing is encrypted: give --tls-cert and "
                "--tls-key, or serve on 127.0.0.1 behind a proxy (docs/serving.md)"
            )
        who = "" if self.tls.client_ca else "gRPC is encrypted, but lets every client in (--tls-client-ca does not); "
        return f"{who}HTTP stays on {LOOPBACK}, and metrics at {hosts['metrics']} are open and not encrypted"
