"""`arch` as its users run it, in a process of its own, and the processes that it starts."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from typing import Any

import psutil

ARCH = [sys.executable, "-m", "arch_bench"]
_MARK = "ARCH_TEST_MARK"


def arch(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; `options` are those of `subprocess.run`."""
    done = subprocess.run([*ARCH, *arguments], capture_output=True, text=True, check=False, timeout=300, **options)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def in_terminal(*arguments: str, columns: int = 80) -> tuple[int, str]:
    """Run a command with its output on a terminal: its exit code, and what stood there, without colours and bars."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    running = subprocess.Popen(
        [*ARCH, *arguments], stdin=its, stdout=its, stderr=its, env=environment | {"TERM": "xterm"}
    )
    os.close(its)
    shown = b""
    with contextlib.suppress(OSError):  # of a terminal at which nobody writes any more
        while select.select([ours], [], [], 0.2)[0] or running.poll() is None:
            shown += os.read(ours, 65536) if select.select([ours], [], [], 0)[0] else b""
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r\n", "\n")
    return running.wait(timeout=60), "\n".join(line.rpartition("\r")[2].rstrip() for line in text.split("\n"))


def interrupted(
    mark: str, words: str, after_s: float, limit_s: float, *arguments: str, **environment: str
) -> tuple[int, str]:
    """Start a command and send it Ctrl-C so long after it has said some words: its exit code, and its last line."""
    process = subprocess.Popen([*ARCH, *arguments], env=marked(mark) | environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            break
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)
    code = process.wait(limit_s)
    return code, process.stderr.read().splitlines()[-1]


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The error, which must be one line."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("arch: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def marked(mark: str) -> dict[str, str]:
    """An environment by which `processes` finds a command and all that it starts."""
    return os.environ | {_MARK: mark}


def processes(mark: str, name: str = "") -> list[psutil.Process]:
    """Processes with that mark, whoever has adopted them, whose name begins so."""
    found = []
    for process in psutil.process_iter(["name"]):
        with contextlib.suppress(psutil.Error):
            its_own = process.environ().get(_MARK) == mark and process.status() != psutil.STATUS_ZOMBIE
            if its_own and process.info["name"].startswith(name):
                found.append(process)
    return found


def still_running(mark: str) -> list[str]:
    """Their names."""
    return [process.info["name"] for process in processes(mark)]
