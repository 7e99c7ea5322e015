"""All checks, and how they are run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from arch_common.errors import reason_of

from arch_bench.health.finding import Finding
from arch_bench.health.gpu import check_gpu
from arch_bench.health.limits import check_cores, check_files, check_memory, check_processes
from arch_bench.health.network import check_hub, check_proxies
from arch_bench.health.packages import check_numpy, check_onnxruntime, check_parts, check_python
from arch_bench.health.server import check_ports, check_server
from arch_bench.health.space import SHARED, check_disk, check_folders, check_shared_memory
from arch_bench.health.surroundings import Surroundings

Concern = Literal["run", "own server", "far server", "start"]
"""What a fault can make fail: any run, one whose server is here or elsewhere, or a command before it does anything."""


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        topic: what it looks at.
        look: finds how it stands.
        concerns: what a fault of it can make fail.
    """

    topic: str
    look: Callable[[Surroundings], Iterable[Finding]]
    concerns: Concern


CHECKS = (
    Check("Python", check_python, "start"),
    Check("parts", check_parts, "start"),
    Check("NumPy", check_numpy, "own server"),
    Check("ONNX Runtime", check_onnxruntime, "own server"),
    Check("tritonserver", check_server, "own server"),
    Check("GPU", check_gpu, "own server"),
    Check("disk", check_disk, "run"),
    Check("folders", check_folders, "run"),
    Check(SHARED, check_shared_memory, "run"),
    Check("memory", check_memory, "run"),
    Check("cores", check_cores, "run"),
    Check("open files", check_files, "run"),
    Check("processes", check_processes, "run"),
    Check("ports", check_ports, "start"),
    Check("proxy", check_proxies, "far server"),
    Check("Hugging Face Hub", check_hub, "start"),
)
_QUICK_S = 1.5


def examine(around: Surroundings, checks: Sequence[Check] = CHECKS) -> Iterator[Finding]:
    """How it stands with each thing; a check that fails is a warning, and ends no other."""
    for check in checks:
        try:
            yield from check.look(around)
        except Exception as error:
            yield Finding(check.topic, "warning", f"could not be looked at: {reason_of(error)}")


def troubles_of_run(around: Surroundings, own_server: bool, seconds: float = _QUICK_S) -> list[Finding]:
    """What on this machine may have made a run fail, as far as it is found in a short time.

    Args:
        around: what is looked at.
        own_server: whether the server ran on this machine for the run.
        seconds: that it takes at most; what is not looked at by then is left out.
    """
    concerned = {"run", "own server" if own_server else "far server"}
    # Those of the server start programs, and so come last.
    checks = sorted((one for one in CHECKS if one.concerns in concerned), key=lambda one: one.concerns == "own server")
    found: list[Finding] = []

    def look() -> None:
        found.extend(finding for finding in examine(around, checks) if finding.is_trouble)

    # A disk that does not answer, or a driver, must not keep the error from its end.
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(seconds)
    return list(found)
