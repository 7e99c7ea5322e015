"""Which addresses a server may have."""

from __future__ import annotations

import pytest
from arch_common.errors import UsageError
from arch_harness.triton.endpoint import Endpoint


@pytest.mark.parametrize("port", ["0", "00000", "65536", "74537", "99999"])
def test_a_port_that_there_is_not(port: str) -> None:
    """gRPC takes 74537 for 9001, where another server may answer."""
    with pytest.raises(
        UsageError, match=f"^'localhost:{port}' is no server address: a port is a number from 1 to 65535$"
    ):
        Endpoint(f"localhost:{port}")


@pytest.mark.parametrize("address", ["localhost:1", "[::1]:8001", "10.0.0.1:65535"])
def test_ports_that_there_are(address: str) -> None:
    assert Endpoint(address).address == address
