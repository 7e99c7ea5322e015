"""What the tests of the harness share: a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from arch_serve.server import LocalServer


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[LocalServer]:
    """A real Triton that serves `logmel` and `tiny-hubert`."""
    from arch_serve.server import LocalServer

    with LocalServer(repository, grpc_port=0, http_port=0, metrics_port=0) as running:
        yield running
