"""The memory that the tritonservers of this machine have resident."""

from __future__ import annotations

from collections.abc import Sequence

import psutil

_SERVER = "tritonserver"


class ServerMemory:
    """Reads the resident memory of servers, each with its child processes, in which models of Python's backend run.

    Args:
        ports: of their gRPC endpoints. Where one is another program's, a proxy's or a container's, or another user's,
            nothing is known.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = list(ports)
        self._processes = self._find()
        self._known = bool(self._processes)

    def read(self) -> int | None:
        """Bytes over all servers, pages that processes share counted for each; None if that is not known now."""
        if not self._known:
            return None
        # One that was restarted is another process.
        self._processes = self._processes or self._find()
        try:
            return sum(process.memory_info().rss for process in self._processes) or None
        except psutil.Error:
            self._processes = []
            return None

    def _find(self) -> list[psutil.Process]:
        found: dict[int, psutil.Process] = {}
        try:
            listening = {
                one.laddr.port: one.pid
                for one in psutil.net_connections(kind="tcp")
                if one.status == psutil.CONN_LISTEN and one.pid is not None and one.laddr
            }
            for port in self._ports:
                if port not in listening:
                    return []
                server = psutil.Process(listening[port])
                if server.name() != _SERVER:
                    return []
                found |= {process.pid: process for process in (server, *server.children(recursive=True))}
        except (psutil.Error, OSError):
            return []
        return list(found.values())
