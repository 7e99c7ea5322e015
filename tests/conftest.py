"""What several tests share: one repository with two exported models, one small dataset.

Nothing heavy is imported here: fixtures import what they need when they run, so that no test of splits waits for torch.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.shared import made_once, shared_root

if TYPE_CHECKING:
    from support.http_site import Site

_MARKS_OF_FILE = re.compile(r"^pytestmark = .*$", re.MULTILINE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import a file all of whose tests `-m "not torch and ..."` leaves out: torch alone takes seconds."""
    words = config.getoption("markexpr").split(" and ")
    unwanted = {word.removeprefix("not ") for word in words if re.fullmatch(r"not \w+", word)}
    if not unwanted or len(unwanted) < len(words) or not collection_path.match("test_*.py"):
        return None
    marks = _MARKS_OF_FILE.search(collection_path.read_text(encoding="utf-8"))
    return True if marks and unwanted.intersection(re.findall(r"mark\.(\w+)", marks[0])) else None


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small HuBERT with random weights, called tiny-hubert."""
    from support.checkpoints import write_checkpoint

    return made_once(tmp_path_factory, "checkpoints", lambda folder: write_checkpoint(folder / "tiny-hubert")) / (
        "tiny-hubert"
    )


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path, traces: Path) -> Path:
    """A model repository with `logmel` and `tiny-hubert`, exported for real."""

    def make(folder: Path) -> None:
        from arch_export.pipeline import export
        from support import tracing

        export("logmel", folder)
        with tracing.traced_once(traces):
            export(str(checkpoint), folder)

    return made_once(tmp_path_factory, "exported", make)


@pytest.fixture(scope="session")
def demo_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo dataset with 100 clips."""
    from arch_harness.datasets.catalog.demo import write_demo

    return made_once(tmp_path_factory, "demo", lambda folder: write_demo(folder / "demo", clips_per_class=10)) / "demo"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An embedding store of the test's own, for the commands that it runs: the user's stays as it is."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ARCH_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What torch has traced, by the digest of the module."""
    folder = shared_root(tmp_path_factory) / "traces"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def traced_once(traces: Path) -> Iterator[None]:
    """Torch traces a module once, for all tests that ask for this."""
    from support import tracing

    with tracing.traced_once(traces):
        yield


@pytest.fixture(autouse=True)
def signals(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command that runs in this process leaves no handlers of signals behind."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.setattr("arch_common.interrupt._received", set())
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A real HTTP server that can be told to misbehave."""
    from support.http_site import serve

    monkeypatch.setattr("arch_harness.datasets.download.fetch._PAUSE_S", 0.01)
    with serve() as running:
        yield running
