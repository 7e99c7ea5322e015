"""Where a server listens: the addresses and ports of its three endpoints."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
from typing import TYPE_CHECKING

from arch_common.errors import ServeUsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

LOOPBACK = "127.0.0.1"


def resolve(host: str) -> str:
    """The IPv4 address that a host stands for; Triton's HTTP takes a name for 255.255.255.255.

    Raises:
        ServeUsageError: if it stands for none.
    """
    if not host.strip():  # the system takes it for every address, Triton for none
        raise ServeUsageError("the address to listen on is empty: name one, such as 127.0.0.1, or 0.0.0.0 for all")
    try:
        return socket.gethostbyname(host)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no name of a host"
        raise ServeUsageError(f"cannot listen on {host}: {reason}; wants an IPv4 address, or a name of one") from error


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an IPv4 address."""
    return ipaddress.ip_address(address).is_loopback


def claim_ports(hosts: Mapping[str, str], ports: Mapping[str, int]) -> dict[str, int]:
    """Check that ports are free, and choose one for each 0.

    Args:
        hosts: the IPv4 address of each endpoint.
        ports: its port.

    Raises:
        ServeUsageError: if one is in use, none at all, or named twice, or the address is not this machine's.
    """
    fixed = [port for port in ports.values() if port]
    if len(set(fixed)) < len(fixed):
        raise ServeUsageError(f"gRPC, HTTP and metrics need three different ports, not {', '.join(map(str, fixed))}")
    if any(not 0 <= port <= 65535 for port in fixed):
        raise ServeUsageError(f"a port is a number from 0 to 65535, not one of {', '.join(map(str, fixed))}")
    claimed, busy = {}, []
    with contextlib.ExitStack() as stack:
        for endpoint, port in ports.items():
            sock = stack.enter_context(socket.socket())
            # As the server does: a port whose last connection is just closing is free.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((hosts[endpoint], port))
                sock.listen()
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise ServeUsageError(f"cannot listen on {hosts[endpoint]}:{port}: {error.strerror}") from None
                busy.append(endpoint)
            claimed[endpoint] = sock.getsockname()[1]
    if busy:
        raise ServeUsageError(
            f"in use: port {', '.join(str(ports[one]) for one in busy)}. Stop what listens there, or choose others "
            f"with {', '.join(f'--{one}-port' for one in busy)} (0 takes a free one)"
        )
    return claimed
