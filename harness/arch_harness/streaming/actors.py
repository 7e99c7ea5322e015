"""Ray: started on this machine or found elsewhere, and the actors in it."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from arch_common.errors import ArchError, UsageError, first_line, last_line

from arch_harness.results.measurement import Transport
from arch_harness.streaming.cluster.nodes import Place, moved_ray_folder
from arch_harness.streaming.worker import Worker, WorkerStatus
from arch_harness.triton.endpoint import Endpoint

START_S = 120.0
"""In which a worker must start."""
_REACH_S = 10.0
_STARTS = 2
_RAY = ("raylet", "gcs_server")


def connect(address: str | None, workers: int) -> None:
    """Start Ray on this machine, or connect to the cluster at `address` (`host:port`, or auto for one found here).

    Raises:
        UsageError: if the cluster has not so many CPUs free as there are to be workers, is of another Ray or Python, or
            does not reach to this machine.
        ArchError: if Ray does not start, or there is no cluster.
    """
    if address is not None and address.startswith("ray://"):
        raise UsageError(
            f"the Ray address {address} is for Ray's client: give HOST:PORT, on a machine that is a node of the cluster"
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    common: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    _let_print(False)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:
            _start(workers, common)
        else:
            _reach(address)
            ray.init(address=address, **common)
    except Exception as error:  # Ray raises plain Exception too
        ray.shutdown()
        if address is not None:
            _refuse(address, str(error))
        reason = first_line(str(error), type(error).__name__)
        what = "Ray could not start" if address is None else f"no Ray cluster answers at {address}"
        raise ArchError(f"{what}: {reason}") from error
    # Ray puts a handler of its own there, which dumps the stack and aborts.
    signal.signal(signal.SIGTERM, handler)
    free = ray.available_resources().get("CPU", 0)
    if address is not None and free < workers:
        ray.shutdown()
        raise UsageError(f"the Ray cluster at {address} has {free:.0f} CPUs free: ask for no more --workers than that")


def _refuse(address: str, words: str) -> None:
    """Say of a cluster that answered why it cannot be used, where that is known.

    Raises:
        ArchError: if it is.
    """
    versions = re.findall(r"\b(?:Ray|Python): (\S+)", words) if "Version mismatch" in words else []
    if len(versions) == len(("Ray", "Python")) * 2:
        theirs, ours = (f"Ray {ray} and Python {python}" for ray, python in (versions[:2], versions[2:]))
        raise UsageError(f"the Ray cluster at {address} runs {theirs}, and here are {ours}: make them the same")
    if "Failed to connect to Ray cluster" in words:  # why stands in Ray's log alone
        raise ArchError(
            f"what listens at {address} takes no connection as a Ray cluster: if it asks for a token, set "
            "RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the one that it was started with"
        )
    if "No node info found" in words:
        raise UsageError(
            f"this machine is no node of the Ray cluster at {address}: make it one, with `ray start "
            f"--address={address}`, or run the command on one of its nodes"
        )


def _start(workers: int, common: dict[str, Any]) -> None:
    """Start Ray here; once more where it gave up on its own processes, for which it waits 30 s however busy all is.

    Raises:
        Exception: what Ray raises, which can be anything.
    """
    import ray

    # Ray would keep this token in ~/.ray, and a container's user may have no home; it is of use to this run alone.
    own = not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ)
    if own and not _has_home():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    for attempt in range(_STARTS):
        try:
            ray.init(
                address="local",  # a cluster that happens to run here is not ours to use
                num_cpus=workers,
                include_dashboard=False,
                # Chunks of embeddings pass through it, never audio.
                object_store_memory=256 * 1024**2,
                _temp_dir=moved_ray_folder(os.environ),
                **common,
            )
        except Exception as error:
            ray.shutdown()
            if attempt == _STARTS - 1 or "timed out during startup" not in str(error):
                raise
        else:
            return


def disconnect() -> None:
    """End Ray here, or leave the cluster."""
    import ray

    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            # It watches for machines that come and go, of which there are none, and hears no SIGTERM for a second.
            if any(part.endswith("/monitor.py") and "/autoscaler/" in part for part in child.cmdline()):
                child.kill()
    ray.shutdown()
    _let_print(True)


def _let_print(allowed: bool) -> None:
    """Whether Ray may print what happens in it: pages of its state where a process of it dies, which is told here."""
    import ray

    ray._private.worker._worker_logs_enabled = allowed  # there is no public way


def own_processes() -> dict[str, psutil.Process]:
    """The processes by which Ray was started here, without which it does nothing; none of a cluster's."""
    children = {child.name(): child for child in psutil.Process().children()}
    return {name: children[name] for name in _RAY if name in children}


def check_ray(processes: Mapping[str, psutil.Process]) -> None:
    """See whether Ray still runs: calls to one that is gone would wait for minutes.

    Raises:
        ArchError: if one of its processes has ended.
    """
    for name, process in processes.items():
        try:
            ended = not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            ended = True
        if ended:
            raise ArchError(f"Ray has ended under the run: its process {name!r} was killed, for want of memory perhaps")


def _has_home() -> bool:
    try:
        home = Path.home()
    except RuntimeError:  # neither HOME nor a known user
        return False
    return home.is_dir() and os.access(home, os.W_OK | os.X_OK)


def _reach(address: str) -> None:
    """See whether anything listens at `host:port`: Ray would try for minutes, deaf to signals.

    Raises:
        OSError: if nothing does.
    """
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), _REACH_S).close()


class WorkerHandle:
    """One actor, and what it told of itself.

    Attributes:
        actor: its handle.
        place: where it runs; known once it has started.
        last: how it stood when it was last asked.
        asked: what it was asked and has not answered in time; None where it has.
        gone: whether it has died.
    """

    def __init__(self, actor: Any, machine: str) -> None:
        self.actor = actor
        self.place = Place(0, "")
        self.last = WorkerStatus(0, 0.0)
        self.asked: Any = None
        self.gone = False
        self._first = self.last
        self._machine = machine
        self._start: Any = None

    @property
    def start(self) -> Any:
        """What is there once it runs: an object of Ray's."""
        self._start = self._start or self.actor.place.remote()
        return self._start

    def wait_until_started(self) -> None:
        """Wait until it runs.

        Raises:
            ArchError: if it does not.
        """
        import ray

        try:
            self.place = ray.get(self.start, timeout=START_S)
        except ray.exceptions.RayError as error:
            raise ArchError(f"a worker did not start: {last_line(str(error), type(error).__name__)}") from error

    def begin(self) -> None:
        """Count from now on."""
        self._first = self.last

    @property
    def local(self) -> bool:
        """Whether it runs on this machine."""
        return self.place.machine == self._machine

    @property
    def done(self) -> int:
        """Clips answered or given up since `begin`."""
        return self.last.done - self._first.done

    @property
    def last_done(self) -> float:
        """When the last of them was, and before the first when `begin` was, by the worker's clock in seconds.

        What a worker did for the pass before, and the time that it then had nothing to do, are of no window.
        """
        return max(self.last.last_done, self._first.now)

    def faults(self, name: str) -> int:
        """Faults of one kind since `begin`."""
        return self.last.faults.get(name, 0) - self._first.faults.get(name, 0)

    def answered(self, server: int) -> int:
        """Requests that a server answered without an error since `begin`."""
        return _since(self._first.answered, self.last.answered, server)

    def dropped(self, server: int) -> int:
        """Times that it took a server for dead since `begin`."""
        return _since(self._first.dropped, self.last.dropped, server)


def _since(first: Sequence[int], last: Sequence[int], position: int) -> int:
    return (last[position] if last else 0) - (first[position] if first else 0)


def start_worker(
    endpoints: Sequence[Endpoint], transport: Transport, chunks: int, spread: bool, machine: str
) -> WorkerHandle:
    """Start a worker that embeds so many chunks at a time; `spread` puts them on different nodes if it can.

    `machine` is that of this process.
    """
    import ray

    # Two more threads, so that it hears what it is told while it works.
    options: dict[str, Any] = {"num_cpus": 1, "max_concurrency": chunks + 2}
    if spread:
        options["scheduling_strategy"] = "SPREAD"
    return WorkerHandle(ray.remote(**options)(Worker).remote(endpoints, 1, transport), machine)
