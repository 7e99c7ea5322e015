"""A tritonserver of our own, over a model repository on this machine."""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from arch_common.errors import ServeError
from arch_common.execution import told_executions

from arch_serve.access import HEADER, Access
from arch_serve.addresses import claim_ports, resolve
from arch_serve.distribution import prepare_distribution
from arch_serve.log import LogFormat, ServerLog
from arch_serve.repository import select_models
from arch_serve.stubs import SHARED_MEMORY, check_shared_memory, read_config, refusal, working_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from arch_serve.tracing import Tracing

_POLL_SECONDS = 0.1
# Triton waits this long for requests in flight, then exits; the rest is for its Python stubs to end.
_DRAIN_SECONDS = 10
_STOP_SECONDS = 25
_PR_SET_PDEATHSIG = 1
# Begins the name by which clients know a server of ours; `arch_harness.triton.execution` reads it.
_ID = "arch:"
_LIBC = ctypes.CDLL(None)
# A proxy of the environment must not come between us and our own server.
_HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class ModelStatus:
    """What a server says of one version of a model.

    Attributes:
        name: The model's name.
        version: Its version, empty when none was found.
        state: Triton's word: READY, LOADING, UNLOADING or UNAVAILABLE.
        reason: Why it is not ready, as Triton says it (many lines); empty when it is.
        note: What is not as it was exported although it is ready, as the backend of arch says it; mostly empty.
    """

    name: str
    version: str
    state: str
    reason: str
    note: str = ""

    @property
    def ready(self) -> bool:
        """Whether the model answers requests."""
        return self.state == "READY"

    @property
    def short_reason(self) -> str:
        """The reason's first line, without the names of error classes before it."""
        lines = [line.strip() for line in self.reason.splitlines() if line.strip()]
        return re.sub(r"^((Internal|Invalid argument|Not found|[A-Za-z]*(Error|Exception)): )+", "", (lines or [""])[0])


class LocalServer:
    """A tritonserver over a model repository, as a child process.

    It ends with the block that uses it, and with this process, however that ends. A model that fails to load does not
    keep the others from serving: look at `models`. Start it from a thread that lives as long as the server is needed,
    because Linux takes the end of the starting thread for the end of the parent.

    Args:
        repository: The model repository's folder.
        models: Models to load; None loads every model in the repository.
        host: IPv4 address to listen on, or a name that stands for one.
        grpc_port: Port for gRPC; 0 takes a free one. So do the other two.
        http_port: Port for HTTP.
        metrics_port: Port for Prometheus metrics.
        timeout_s: Seconds that all models together may take to load.
        log_file: Where the server's log goes; None keeps it in a temporary file while the server runs.
        log_format: json makes an object of each of its lines; without a file they go to standard error.
        access: TLS, and what clients may change; by default neither, but shared memory from this machine.
        tracing: where spans of requests go; None makes none.
    """

    def __init__(
        self,
        repository: Path,
        models: Sequence[str] | None = None,
        *,
        host: str = "127.0.0.1",
        grpc_port: int = 8001,
        http_port: int = 8000,
        metrics_port: int = 8002,
        timeout_s: float = 600.0,
        log_file: Path | None = None,
        log_format: LogFormat = "text",
        access: Access | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self.models: list[ModelStatus] = []
        self._repository = repository.resolve()
        self._requested = models
        self._host = host
        self._access = access or Access()
        self._hosts = self._access.hosts(host)
        self._ports = {"grpc": grpc_port, "http": http_port, "metrics": metrics_port}
        self._timeout_s = timeout_s
        self._log_file = log_file.resolve() if log_file else None
        self._log_format = log_format
        self._tracing = tracing
        self._key = uuid.uuid4().hex
        self._shm_prefix = f"arch_serve_{self._key}_"
        self._log: ServerLog | None = None
        self._served = self._repository
        self._refused: list[ModelStatus] = []
        self._cleanup = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def grpc_url(self) -> str:
        """Address of the gRPC endpoint, `host:port`."""
        return self._url("grpc")

    @property
    def http_url(self) -> str:
        """Address of the HTTP endpoint, `host:port`."""
        return self._url("http")

    @property
    def metrics_url(self) -> str:
        """Address of the metrics endpoint, `host:port`; the path is /metrics."""
        return self._url("metrics")

    @property
    def warnings(self) -> list[str]:
        """What should be known of who reaches it, and of its traces, a line each."""
        found = [self._access.warning(self._hosts), self._tracing.warning if self._tracing else ""]
        return [line for line in found if line]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and wait until every model is loaded or has failed to.

        Raises:
            ServeUsageError: The repository, a model or a port is not as it must be.
            ServeError: No server can run here, it ended while starting, or it took longer than the time limit.
        """
        if self._process is not None:
            raise ServeError("this server is already running")
        names = select_models(self._repository, self._requested)
        self._hosts = self._access.hosts(resolve(self._host))
        self._ports = claim_ports(self._hosts, self._ports)
        try:
            self._launch(self._cleanup.enter_context(working_folder()), names)
            self._wait_until_loaded(names)
        except BaseException:
            if self._process is not None:
                self._process.kill()  # while it loads it would not heed a request to end
            self.stop()
            raise

    def wait(self) -> None:
        """Block until the server ends.

        Raises:
            ServeError: It ended without `stop` having been called.
        """
        process = self._process
        if process is None:
            return
        process.wait()
        if self._process is process:
            raise ServeError(self._describe_end(process))

    def kill(self) -> None:
        """End the server without waiting for requests in flight; `stop` removes what it leaves behind."""
        if self._process is not None:
            self._process.kill()

    def stop(self) -> None:
        """End the server, after the requests in flight, and remove what it leaves behind; harmless when it is over."""
        process, self._process = self._process, None
        with self._cleanup:  # whatever interrupts the rest
            if process is None:
                return
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                pass
            finally:
                # Also the Python stubs of a server that was killed: they are in its process group.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                for region in SHARED_MEMORY.glob(f"{self._shm_prefix}*"):
                    region.unlink(missing_ok=True)

    @property
    def _id(self) -> str:
        """The server's name over gRPC: unlike any other's, and with the port of its metrics."""
        return f"{_ID}{self._key}:{self._ports['metrics']}"

    def _url(self, endpoint: str) -> str:
        # 0.0.0.0 is an address to listen on, not one to call.
        host = self._hosts[endpoint]
        host = "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104
        return f"{host}:{self._ports[endpoint]}"

    def _launch(self, workdir: Path, names: Sequence[str]) -> None:
        log = self._cleanup.enter_context(ServerLog(self._log_file, workdir, self._log_format, self._said))
        self._log = log
        try:
            distribution = prepare_distribution(workdir)
        except OSError as error:
            raise ServeError(f"cannot put a server together in {workdir}: {error.strerror or error}") from error
        self._served, self._refused = self._repository, []
        if distribution.has_stubs:
            # Triton says its paths to a shell, and its Python takes them for ASCII: neither must see the user's.
            self._served = workdir / "models"
            self._served.symlink_to(self._repository)
            names = self._check(names)
        command = [
            str(distribution.binary),
            # What clients ask for the name of the server, and so find its metrics.
            f"--id={self._id}",
            f"--model-repository={self._served}",
            # Naming each model keeps Triton from loading hidden folders of the repository.
            "--model-control-mode=explicit",
            *(f"--load-model={name}" for name in names),
            # Our configurations are complete; to complete one Triton would start each Python stub once more.
            "--disable-auto-complete-config",
            "--exit-on-error=false",
            f"--exit-timeout-secs={_DRAIN_SECONDS}",
            f"--backend-config=python,shm-region-prefix-name={self._shm_prefix}",
        ]
        for endpoint, port in self._ports.items():
            command += [f"--{endpoint}-address={self._hosts[endpoint]}", f"--{endpoint}-port={port}"]
        command += self._access.options(self._hosts)
        command += self._tracing.options if self._tracing else []
        if distribution.backends is not None:
            command.append(f"--backend-directory={distribution.backends}")
        self._process = subprocess.Popen(
            command,
            # The stubs put the working directory on their sys.path.
            cwd=workdir,
            # What libraries leave in the folder of temporary files goes with ours.
            env=distribution.environment
            | (self._tracing.environment if self._tracing else {})
            | {"ARCH_SERVER_ID": self._id, "TMPDIR": str(workdir)},
            stdin=subprocess.DEVNULL,
            stdout=log.fileno(),
            stderr=subprocess.STDOUT,
            # Ctrl-C in the terminal is for this process, which then stops the server.
            start_new_session=True,
            preexec_fn=_end_with_parent(os.getpid()),
        )
        log.handed_over()

    def _check(self, names: Sequence[str]) -> list[str]:
        """Sort out what no stub can be started for; the names of the rest.

        Raises:
            ServeError: There is too little shared memory for the rest.
        """
        configs = {name: read_config(self._repository / name) for name in names}
        reasons = {name: refusal(name, config) for name, config in configs.items()}
        self._refused = [ModelStatus(name, "", "UNAVAILABLE", reason) for name, reason in reasons.items() if reason]
        served = [name for name in names if not reasons[name]]
        check_shared_memory(configs[name] for name in served)
        return served

    def _wait_until_loaded(self, names: Sequence[str]) -> None:
        process = self._process
        assert process is not None  # noqa: S101 - for the type checker
        deadline = time.monotonic() + self._timeout_s
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise ServeError(self._describe_end(process))
            # Triton opens its ports when it is done with loading.
            index = self._repository_index()
            if index is not None:
                self.models = self._statuses(index, names)
                loaded = all(status.state not in ("LOADING", "UNLOADING") for status in self.models)
                metrics = self._metrics() if loaded else None  # the last endpoint to open
                if metrics is not None:
                    notes = {(told["model"], told["version"]): told["note"] for told in told_executions(metrics)}
                    self.models = [replace(one, note=notes.get((one.name, one.version), "")) for one in self.models]
                    return
            time.sleep(_POLL_SECONDS)
        raise ServeError(f"the models were not loaded within {self._timeout_s:g} s: allow more time or load fewer")

    def _repository_index(self) -> list[dict[str, str]] | None:
        try:
            request = urllib.request.Request(
                f"http://{self.http_url}/v2/repository/index", b"", {HEADER: self._access.secret}, method="POST"
            )
            with _HTTP.open(request, timeout=5) as response:
                index: list[dict[str, str]] = json.load(response)
                return index
        except urllib.error.HTTPError as error:  # it is there, and will not answer another time either
            said = self._said(error.read().decode("utf-8", errors="replace").strip())
            raise ServeError(f"Triton cannot list the models of {self._repository}: {said or error}") from error
        except (urllib.error.URLError, http.client.HTTPException, OSError):
            return None

    def _metrics(self) -> str | None:
        try:
            with _HTTP.open(f"http://{self.metrics_url}/metrics", timeout=5) as response:
                text: str = response.read().decode("utf-8", errors="replace")
                return text
        except (urllib.error.URLError, http.client.HTTPException, OSError):
            return None

    def _statuses(self, index: list[dict[str, str]], names: Sequence[str]) -> list[ModelStatus]:
        refused = {status.name for status in self._refused}
        listed = [
            ModelStatus(entry["name"], entry.get("version", ""), entry["state"], self._said(entry.get("reason", "")))
            for entry in index
            if entry["name"] in names and entry["name"] not in refused and "state" in entry
        ]
        # Triton's index has no state, or no entry, for a model whose configuration or version folder it cannot read.
        unlisted = set(names) - refused - {status.name for status in listed}
        unread = [ModelStatus(name, "", "UNAVAILABLE", self._last_error(f"'{name}'")) for name in unlisted]
        return sorted(listed + unread + self._refused, key=lambda status: (status.name, status.version))

    def _said(self, text: str) -> str:
        """What Triton says, with the user's path of the repository in place of ours."""
        return text.replace(str(self._served), str(self._repository))

    def _describe_end(self, process: subprocess.Popen[bytes]) -> str:
        code = process.returncode
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"
        last = self._last_error()
        return f"tritonserver {how}" + (f": {last}" if last else "")

    def _last_error(self, mention: str = "") -> str:
        """The last error in the log that mentions something, in one line; empty when there is none."""
        return self._log.last_error(mention) if self._log else ""


def _end_with_parent(parent: int) -> Callable[[], None]:
    def arrange() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before it could be told
            os._exit(1)

    return arrange
