"""Two machines on a network of their own, as Linux's namespaces make them: addresses, names, processes, mounts."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from support.commands import ARCH, marked

NEAR, FAR = "198.51.100.1", "198.51.100.2"
"""Addresses that documentation uses, on a network that nothing else is on."""
RAY_PORT, GRPC_PORT, METRICS_PORT = 6379, 8001, 8002
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
RAY_SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
"""Of a cluster: the home of who runs the tests may hold a token, which all would have to be told of."""
# Nodes of one machine would both give a worker port 10002, and one be taken for the other: any free port then.
_OWN = [f"--object-store-memory={128 * 1024**2}", "--min-worker-port=0", "--max-worker-port=0"]


def may_make_machines() -> pytest.MarkDecorator:
    """Leaves tests out where nobody may make namespaces: without root, in most containers, without iproute2 or curl."""
    return pytest.mark.skipif(not _makes_machines(), reason="needs network namespaces, as root, with ip and curl")


def _makes_machines() -> bool:
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "curl", "unshare", "mount"))):
        return False
    name = f"tried{os.getpid()}"
    tried = (
        ["ip", "netns", "add", name],
        ["ip", "-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", "eth1"],
        [
            *("ip", "netns", "exec", name, "unshare", "--mount", "--uts", "--pid", "--fork", "--mount-proc"),
            *("sh", "-c", "mount -t tmpfs none /mnt && hostname tried"),
        ],
    )
    made = all(subprocess.run(one, capture_output=True, check=False).returncode == 0 for one in tried)
    subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
    return made


class Machines:
    """A near machine, on which the tests' commands run, and a far one.

    Args:
        mark: by which `processes` finds what runs on them.
        folder: short, for Ray's sockets.
    """

    def __init__(self, mark: str, folder: Path) -> None:
        self._environment = marked(mark) | RAY_SETTINGS | {"RAY_TMPDIR": str(folder)}
        self._folder = folder
        self.near, self.far = f"near{os.getpid()}", f"far{os.getpid()}"

    def connect(self) -> None:
        """Make them."""
        ends = ("eth0", self.near, NEAR), ("eth0", self.far, FAR)
        for _, name, _ in ends:
            _ip("netns", "add", name)
        _ip("-n", self.near, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", self.far)
        for device, name, address in ends:
            _ip("-n", name, "address", "add", f"{address}/24", "dev", device)
            for one in ("lo", device):
                _ip("-n", name, "link", "set", one, "up")

    def remove(self) -> None:
        """Take them away; what runs on them must have ended."""
        for name in (self.near, self.far):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)

    def start(self, command: Sequence[str], changes: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a command on the near machine."""
        return subprocess.Popen(
            ["ip", "netns", "exec", self.near, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment | dict(changes or {}),
            start_new_session=True,
        )

    def start_far(self, command: Sequence[str], hidden: Path) -> subprocess.Popen[str]:
        """Start the far machine with a command, and with nothing in a folder; to kill it is to cut off its power."""
        empty = " && ".join(f"mount -t tmpfs none {shlex.quote(str(one))}" for one in (hidden, self._folder))
        apart = ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        script = f"hostname far && {empty} && exec {shlex.join(command)}"
        return subprocess.Popen(
            ["ip", "netns", "exec", self.far, *apart, "sh", "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._environment,
            start_new_session=True,
        )

    def computed(self) -> int:
        """Clips that the near machine's server has computed; 0 while it does not answer."""
        asked = [*("curl", "--silent", "--max-time", "2"), f"http://{NEAR}:{METRICS_PORT}/metrics"]
        said = subprocess.run(
            ["ip", "netns", "exec", self.near, *asked], capture_output=True, text=True, check=False
        ).stdout
        return int(sum(float(value) for value in re.findall(r"^nv_inference_count\{.*\} (\S+)$", said, re.MULTILINE)))


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def head(*options: str) -> list[str]:
    """The command that starts the first node of a cluster."""
    return [*RAY, "start", "--head", "--include-dashboard=false", "--block", *_OWN, *options]


def joining(address: str, *options: str) -> list[str]:
    """The command that starts one more."""
    return [*RAY, "start", f"--address={address}", "--block", *_OWN, *options]


@contextlib.contextmanager
def two_machines(mark: str, folder: Path, repository: Path) -> Iterator[Machines]:
    """The machines, the near one with the first node of a Ray cluster, with one core, and a server of `logmel`."""
    machines = Machines(mark, folder)
    started = []
    try:
        machines.connect()
        ray = head(f"--node-ip-address={NEAR}", f"--port={RAY_PORT}", "--num-cpus=1")
        serve = [*ARCH, "serve", "--repository", str(repository), "--model", "logmel", "--host", "0.0.0.0"]
        started = [machines.start(ray), machines.start(serve)]
        for one in started:
            until_it_says(one, "Ray runtime started", "gRPC ")
        yield machines
    finally:
        try:
            for one in reversed(started):
                one.terminate()
            for one in started:
                one.communicate(timeout=60)
        finally:
            machines.remove()


def joined(machines: Machines, hidden: Path) -> subprocess.Popen[str]:
    """The far machine with two cores, once it is a node of the cluster."""
    far = machines.start_far(joining(f"{NEAR}:{RAY_PORT}", f"--node-ip-address={FAR}", "--num-cpus=2"), hidden)
    until_it_says(far, "Ray runtime started")
    return far


def until_it_says(running: subprocess.Popen[str], *words: str) -> str:
    """Read what a process says until one of these is in a line; all of it.

    Raises:
        AssertionError: it ended without; the message is what it said.
    """
    assert running.stdout is not None
    said: list[str] = []
    while not said or not any(one in said[-1] for one in words):
        said.append(running.stdout.readline())
        assert said[-1], "".join(said) + ((running.stderr and running.stderr.read()) or "")
    return "".join(said)
