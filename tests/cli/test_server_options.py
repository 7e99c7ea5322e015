"""What is made of --server, --tls, --header, and of secrets."""

from __future__ import annotations

from pathlib import Path

import pytest
from arch_bench.options import endpoints_of, shown_command
from arch_common.errors import UsageError
from arch_harness.triton.statistics import Statistics


def test_headers_come_from_options_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCH_HEADER", "Authorization: Bearer a b\nx-tenant: 7\n")
    (endpoint, other) = endpoints_of(["a:1", "b:2", "a:1"], tls=True, tls_ca=None, headers=["X-More: yes"])
    assert endpoint.headers == (("authorization", "Bearer a b"), ("x-tenant", "7"), ("x-more", "yes"))
    assert (endpoint.address, other.address, endpoint.tls) == ("a:1", "b:2", True)


@pytest.mark.parametrize("header", ["SECRET", "na me: SECRET", "name: SECRET\n2", "grpc-timeout: 1", "x-bin: 1"])
def test_a_header_that_cannot_be_sent_is_refused_without_showing_it(header: str) -> None:
    with pytest.raises(UsageError) as error:
        endpoints_of(["a:1"], tls=False, tls_ca=None, headers=[header])
    assert "SECRET" not in str(error.value)


def test_certificates_must_be_some(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        endpoints_of(["a:1"], tls=False, tls_ca=tmp_path / "none.pem", headers=[])
    (tmp_path / "some.pem").write_text("no")
    with pytest.raises(UsageError, match="holds no certificate"):
        endpoints_of(["a:1"], tls=False, tls_ca=tmp_path / "some.pem", headers=[])


def test_a_command_is_shown_without_secrets() -> None:
    given = ["bench", "--header", "authorization: Bearer X", "--header=b: Y", "--server", "a:1"]
    assert shown_command(given) == "arch bench --header 'authorization: ***' '--header=b: ***' --server a:1"


def test_counters_that_fell_give_no_times() -> None:
    before = Statistics(100, 100, 5, 50, 40, {8: 12, 4: 1}, 1)
    assert Statistics(160, 160, 9, 90, 80, {8: 19, 4: 2}, 1).since(before, 60) == Statistics(
        60, 60, 4, 40, 40, {8: 7, 4: 1}, 1
    )
    assert Statistics(30, 30, 1, 10, 8, {8: 3}, 1).since(before, 60) is None
    # A restart that the counters have caught up with: fewer than the answers that we had.
    fresh = Statistics(0, 0, 0, 0, 0, {}, 1)
    assert Statistics(90, 90, 1, 10, 8, {8: 11}, 1).since(fresh, 100) is None
