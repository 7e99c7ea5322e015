"""What the checks look at."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from arch_bench import api

PROBE_S = 20.0
"""Seconds that a program which is asked something may take."""


@dataclass(frozen=True)
class Surroundings:
    """The machine as this process sees it, and where the work is to be done.

    Attributes:
        repository: of models.
        output: folder in which reports go.
        cache: the embedding store; None is the usual one.
        ports: that `arch serve` takes, by endpoint.
        python: version of the interpreter.
        system: of the kernel and the processor: ("Linux", "x86_64").
        environ: the environment.
        root: above /proc, /sys and /dev.
        statvfs: tells of the file system that a path is on.
    """

    repository: Path = api.REPOSITORY
    output: Path = Path("reports")
    cache: Path | None = None
    ports: Mapping[str, int] = field(default_factory=lambda: {"grpc": 8001, "http": 8000, "metrics": 8002})
    python: tuple[int, int, int] = sys.version_info[:3]
    system: tuple[str, str] = (platform.system(), platform.machine())
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    root: Path = Path("/")
    statvfs: Callable[[Path], os.statvfs_result] = os.statvfs

    def read(self, path: str) -> str:
        """A file below `root`; empty where there is none."""
        try:
            return (self.root / path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""


def run(command: Sequence[str], environment: Mapping[str, str]) -> tuple[int | None, str]:
    """Run a program to its end.

    Returns:
        Its exit code, None where it did not start or took too long; and what it printed, or why it did not.
    """
    try:
        done = subprocess.run(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            timeout=PROBE_S,
        )
    except subprocess.TimeoutExpired:
        return None, f"it gave no answer within {PROBE_S:.0f} s"
    except OSError as error:
        return None, error.strerror or str(error)
    return done.returncode, done.stdout
