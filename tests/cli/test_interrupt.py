"""Ctrl-C where a library swallows it, or makes another error of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from arch_bench.main import main
from arch_common import interrupt
from arch_export.encoder import logmel
from arch_export.graph import trace

pytestmark = pytest.mark.torch


def swallowed() -> None:
    """What a library does that looks at no errors."""
    with contextlib.suppress(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("no signal")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_interrupts_and_is_remembered(number: int) -> None:
    interrupt.catch()
    interrupt.check()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)
    with pytest.raises(KeyboardInterrupt):
        interrupt.check()


def test_nohup_is_heeded() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interrupt.catch()
    os.kill(os.getpid(), signal.SIGHUP)
    interrupt.check()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)


def test_an_error_is_an_interrupt_only_after_a_signal() -> None:
    interrupt.catch()
    with pytest.raises(ImportError), interrupt.honoured():
        raise ImportError("initialization failed")
    swallowed()
    with pytest.raises(KeyboardInterrupt), interrupt.honoured():
        raise ImportError("initialization failed")


def test_ctrl_c_while_modules_are_imported_is_no_traceback() -> None:
    """Sent at the import of one in the middle, which would make an ImportError or a traceback of it."""
    code = """if True:
        import os, signal, sys
        class Finder:
            def find_spec(self, name, path=None, target=None):
                if name == "arch_bench.commands.probe":
                    os.kill(os.getpid(), signal.SIGINT)
        sys.meta_path.insert(0, Finder())
        from arch_bench.__main__ import main
        main()
    """
    done = subprocess.run([sys.executable, "-c", code, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (interrupt.INTERRUPTED, "", "interrupted\n")


def export(monkeypatch: pytest.MonkeyPatch, repository: Path) -> int:
    monkeypatch.setattr(sys, "argv", ["arch", "export", "logmel", "--repository", str(repository)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.slow
def test_an_export_ends_at_the_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_onnx = trace.write_onnx

    def interrupted(*arguments: object) -> None:
        swallowed()
        write_onnx(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(trace, "write_onnx", interrupted)
    assert export(monkeypatch, tmp_path / "repository") == interrupt.INTERRUPTED
    assert list(tmp_path.iterdir()) == []


def test_what_a_library_makes_of_it_is_not_the_checkpoints_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        swallowed()
        raise RuntimeError("lost an import")

    monkeypatch.setattr(logmel, "LogMel", interrupted)
    assert export(monkeypatch, tmp_path / "repository") == interrupt.INTERRUPTED
    assert "lost an import" not in capfd.readouterr().err
