"""The server that `arch serve` and `arch bench` start: whether it is there, and runs."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from arch_common.errors import ServeError, last_line

from arch_bench.health.finding import Finding
from arch_bench.health.surroundings import Surroundings, run

_CONTAINER = Path("/opt/tritonserver/bin/tritonserver")
_NOT_FOUND = re.compile(r"^\s*(?P<library>\S+) => not found|(?P<version>version `\S+' not found)", re.MULTILINE)


def check_server(_: Surroundings) -> Iterator[Finding]:
    """The tritonserver: found as `arch serve` finds it, with all of its libraries, and its Python stub."""
    from arch_serve.distribution import prepare_distribution
    from arch_serve.stubs import working_folder

    topic = "tritonserver"
    if (
        shutil.which("tritonserver") is None
        and not _CONTAINER.is_file()
        and importlib.util.find_spec("pytriton") is None
    ):
        yield Finding(
            *(topic, "absent", "none here: arch bench needs --server HOST:PORT"),
            "pip install 'arch-bench[serve]', or run in NVIDIA's container image nvcr.io/nvidia/tritonserver",
        )
        return
    try:
        with working_folder() as folder:
            found = prepare_distribution(folder)
            # `--help` is the only thing it does without a model repository.
            code, said = run([str(found.binary), "--help"], found.environment)
            missing = _missing(found.binary, found.environment)
            stub = folder / "backends" / "python" / "triton_python_backend_stub"
            if found.has_stubs:
                missing |= _missing(stub, found.environment)
    except ServeError as error:
        yield Finding(topic, "fault", str(error))
        return
    except OSError as error:
        yield Finding(topic, "fault", f"cannot be put together: {error.strerror or error}", "make room, or set TMPDIR")
        return
    where = "of the pip wheel" if found.has_stubs else f"at {found.binary}"
    if missing:
        yield Finding(
            *(topic, "fault", f"the one {where} lacks {', '.join(sorted(missing))}"),
            "install it again, or what it lacks; for a newer GLIBC take a newer Linux (Ubuntu 22.04, Debian 12)",
        )
    elif "--model-repository" not in said:
        reason = last_line(said, f"it ends with exit status {code}")
        yield Finding(topic, "fault", f"the one {where} does not run: {reason}", "install it again")
    else:
        yield Finding(topic, "ok", f"the one {where} runs")


def _missing(program: Path, environment: dict[str, str]) -> set[str]:
    """The shared libraries, and versions of them, that the loader does not find for a program."""
    # As ldd does it: the loader lists what it would load, and runs nothing.
    _, said = run([str(program)], environment | {"LD_TRACE_LOADED_OBJECTS": "1", "LD_WARN": "1"})
    return {found["library"] or found["version"] for found in _NOT_FOUND.finditer(said)}


def check_ports(around: Surroundings) -> Iterator[Finding]:
    """The ports that `arch serve` takes if it is not told others."""
    busy = {endpoint: port for endpoint, port in around.ports.items() if not _is_free(port)}
    ports = ", ".join(str(port) for port in sorted(around.ports.values()))
    if not busy:
        yield Finding("ports", "ok", f"{ports} are free")
        return
    owners = {port: owner for port in busy.values() if (owner := _owner(port))}
    words = ", ".join(f"{port}{f' (by {owners[port]})' if port in owners else ''}" for port in sorted(busy.values()))
    options = " ".join(f"--{endpoint}-port 0" for endpoint in busy)
    yield Finding(
        *("ports", "warning", f"in use: {words}; arch serve does not start on them, arch bench takes others"),
        f"stop what listens there, or arch serve {options}",
    )


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
            sock.listen()
        except OSError:
            return False
    return True


def _owner(port: int) -> str:
    """Name and number of the process that listens on a port; empty if that is not told."""
    try:
        import psutil
    except ModuleNotFoundError:  # it comes with a part
        return ""
    with contextlib.suppress(psutil.Error, OSError):
        for one in psutil.net_connections("tcp"):
            if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port and one.pid:
                return f"{psutil.Process(one.pid).name()}, process {one.pid}"
    return ""
