"""What several tests share: one repository with two exported models, one small dataset."""

from __future__ import annotations

import hashlib
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from arch_export.graph import trace
from arch_export.pipeline import export
from arch_harness.datasets.catalog.demo import write_demo
from support.checkpoints import write_checkpoint
from support.http_site import Site, serve


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny-hubert")


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """A model repository with `logmel` and `tiny-hubert`, exported for real."""
    folder = tmp_path_factory.mktemp("exported")
    export("logmel", folder)
    export(str(checkpoint), folder)
    return folder


@pytest.fixture(scope="session")
def demo_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo dataset with 100 clips."""
    return write_demo(tmp_path_factory.mktemp("demo"), clips_per_class=10)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An embedding store of the test's own, for the commands that it runs: the user's stays as it is."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ARCH_CACHE", str(folder))
    return folder


def _digest(module: torch.nn.Module, *more: object) -> str:
    """Of the weights and of all that stands in the module and its parts."""
    found = hashlib.sha256(repr((module, more)).encode())
    for name, part in module.named_modules():
        plain = {key: repr(value) for key, value in sorted(vars(part).items()) if not key.startswith("_")}
        found.update(repr((name, plain)).encode())
    for name, weights in module.state_dict().items():
        found.update(name.encode() + weights.numpy().tobytes())
    return found.hexdigest()


@pytest.fixture(scope="session")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("traces")


@pytest.fixture(scope="module")
def traced_once(traces: Path) -> Iterator[None]:
    """Torch traces a module once in a session, and the same module again gives the same file.

    It takes nine tenths of a small export's time, and precisions and targets of a checkpoint have it in common.
    """
    write_traced = trace.write_onnx

    def write_onnx(module: torch.nn.Module, path: Path, outputs: list[str], sample_rate: int) -> None:
        digest = _digest(module, outputs, sample_rate)
        if not (traces / digest).exists():
            write_traced(module, path, outputs, sample_rate)
            if path.with_name(f"{path.name}.data").exists():  # it is named in the graph, and could not be renamed
                return
            shutil.copy(path, traces / digest)
        shutil.copy(traces / digest, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "write_onnx", write_onnx)
        yield


@pytest.fixture(autouse=True)
def signals(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command that runs in this process leaves no handlers of signals behind."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr("arch_common.interrupt._received", set())
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr("arch_harness.datasets.download.fetch._PAUSE_S", 0.01)
    with serve() as running:
        yield running
