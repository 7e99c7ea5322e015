"""What is made of --server, --tls, --header, and of secrets."""

from __future__ import annotations

from pathlib import Path

import pytest
from arch_bench.options import endpoints_of, shown_command
from arch_common.errors import UsageError


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
