"""What several tests share: one repository with two exported models, one small dataset."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from arch_export.pipeline import export
from arch_harness.datasets.demo import write_demo
from checkpoints import write_checkpoint
from http_site import Site, serve


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


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr("arch_harness.datasets.fetch._PAUSE_S", 0.01)
    with serve() as running:
        yield running
