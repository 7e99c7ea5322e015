"""The nodes of a Ray cluster, and where a process runs."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arch_common.errors import ArchError, last_line

_ANSWER_S = 2.0
_TASK_S = 120.0
# Of the 107 bytes of a socket's path, what Ray's own names leave.
_LONGEST_TEMPORARY = 36
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Place:
    """Where a process runs.

    Attributes:
        pid: its number there.
        host: name of the machine.
        node: Ray's id of the node; empty where Ray does not run.
        machine: the same for all who see one another's processes.
        network: the same for all to whom a loopback address means the same.
    """

    pid: int
    host: str
    node: str = ""
    machine: str = ""
    network: str = ""


def usual_ray_place(environ: Mapping[str, str]) -> str:
    """The folder in which Ray by itself makes one for its sockets and logs."""
    return environ.get("RAY_TMPDIR") or environ.get("TMPDIR") or "/tmp"  # noqa: S108 - as Ray has it


def moved_ray_folder(environ: Mapping[str, str]) -> str | None:
    """A folder for Ray's sockets and logs where the usual one does not do; None leaves the choice to Ray.

    Ray follows TMPDIR, but takes its path for ASCII, and the sockets' paths must not be longer than Linux allows.
    """
    usual = usual_ray_place(environ)
    if usual.isascii() and len(usual) <= _LONGEST_TEMPORARY:
        return None
    places = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - Ray makes a folder of its own there
    return next((f"{place}/ray" for place in places if os.access(place, os.W_OK | os.X_OK)), None)


def place_of_this_process() -> Place:
    """Where the caller runs.

    A host's name alone tells no machines apart: containers and cloned machines may share one.
    """
    import ray

    node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else ""
    return Place(os.getpid(), socket.gethostname(), node, _identity("pid"), _identity("net"))


def _identity(namespace: str) -> str:
    """The boot of this machine and the namespace in it; the host's name where Linux tells neither."""
    try:
        return f"{_BOOT_ID.read_text(encoding='ascii').strip()} {Path('/proc/self/ns', namespace).readlink()}"
    except OSError:
        return socket.gethostname()


@dataclass(frozen=True)
class Node:
    """A machine of a Ray cluster.

    Attributes:
        id: Ray's.
        host: its name.
        address: at which the others reach it.
        port: of its raylet.
        cores: that Ray may give to workers there.
    """

    id: str
    host: str
    address: str
    port: int
    cores: int

    @property
    def name(self) -> str:
        """Its name and address, for people."""
        return f"{self.host} ({self.address})"

    def answers(self) -> bool:
        """Whether its raylet takes a connection: Ray itself learns of the loss of a node many seconds later."""
        try:
            socket.create_connection((self.address, self.port), _ANSWER_S).close()
        except OSError:
            return False
        return True


def live_nodes() -> dict[str, Node]:
    """The nodes that live and have cores to give, by id."""
    import ray

    found = [
        Node(
            one["NodeID"],
            one["NodeManagerHostname"],
            one["NodeManagerAddress"],
            one["NodeManagerPort"],
            int(one["Resources"].get("CPU", 0)),
        )
        for one in ray.nodes()
        if one["Alive"]
    ]
    return {node.id: node for node in found if node.cores and node.answers()}


def run_on(nodes: Sequence[Node], function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What a function gives on each of the nodes, whose workers may lack all packages but Ray.

    Raises:
        ArchError: if a node does not do it.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(function)
    asked = [
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)).remote(*arguments)
        for node in nodes
    ]
    found = []
    for node, reference in zip(nodes, asked, strict=True):
        try:
            found.append(ray.get(reference, timeout=_TASK_S))
        except ray.exceptions.RayError as error:
            reason = last_line(str(error), type(error).__name__)
            raise ArchError(f"node {node.name} of the Ray cluster runs nothing: {reason}") from error
    return found
