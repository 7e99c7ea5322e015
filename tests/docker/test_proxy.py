"""docker/envoy.yaml in the real Envoy before the real Triton: who sends a token is let in, and changes nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import tritonclient.grpc as triton
from arch_bench import api
from arch_common.errors import ArchError
from arch_harness.triton.endpoint import Endpoint
from arch_harness.triton.server import Server
from arch_serve.server import LocalServer
from support.certificates import Pem, make_certificates
from support.ports import free_port
from support.serve_models import add_model
from support.waiting import until
from tritonclient.utils import InferenceServerException

pytestmark = [pytest.mark.torch, pytest.mark.triton]

DOCKER = Path(__file__).parents[2] / "docker"
TOKEN = "a-token-of-this-test"  # noqa: S105 - it opens nothing


def replace_once(text: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Pem:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    folder = tmp_path_factory.mktemp("repository")
    add_model(folder, "a")
    with LocalServer(folder, grpc_port=0, http_port=0, metrics_port=0) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(server: LocalServer, pem: Pem, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an Envoy with the configuration as it is, but for its ports and the place of its files."""
    folder, port = tmp_path_factory.mktemp("envoy"), free_port()
    (folder / "tokens").mkdir()
    tokens = (DOCKER / "tokens.example.yaml").read_text()
    (folder / "tokens" / "tokens.yaml").write_text(replace_once(tokens, ("REPLACE-ME", TOKEN)))
    shutil.copytree(pem("server.pem").parent, folder / "tls")
    config = replace_once(
        (DOCKER / "envoy.yaml").read_text(),
        ("/etc/envoy/", f"{folder}/"),
        ("0.0.0.0, port_value: 8443", f"127.0.0.1, port_value: {port}"),
        ("port_value: 8001", f"port_value: {server.grpc_url.rpartition(':')[2]}"),
    )
    (folder / "envoy.yaml").write_text(config)
    log = folder / "log"
    # Base id: without it two Envoys on one machine are in each other's way.
    command = [str(Path(sys.executable).with_name("envoy")), "-c", str(folder / "envoy.yaml"), "--use-dynamic-base-id"]
    with log.open("wb") as out, subprocess.Popen([*command, "--concurrency", "1"], stdout=out, stderr=out) as process:
        try:
            until(lambda: "starting main dispatch loop" in log.read_text(), process)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


def reached(proxy: str, pem: Pem, *headers: str, ca: str = "ca.pem") -> Endpoint:
    return api.endpoints(proxy, tls_ca=pem(ca), headers=headers)[0]


def test_who_has_a_token_is_let_in(proxy: str, pem: Pem) -> None:
    with Server(reached(proxy, pem, f"authorization: Bearer {TOKEN}")) as found:
        assert found.facts().tls
        assert found.statistics("a").inferences == 0
        assert found._states() == {"a": "READY"}


@pytest.mark.parametrize("headers", [[], ["authorization: Bearer another"], [f"x-token: {TOKEN}"]])
def test_others_are_not(proxy: str, pem: Pem, headers: list[str]) -> None:
    with pytest.raises(ArchError, match=r"does --header \(or ARCH_HEADER\) carry a token") as error:
        Server(reached(proxy, pem, *headers)).__enter__()
    assert "another" not in str(error.value)


def test_a_certificate_of_another_is_refused_and_so_is_plain_text(proxy: str, pem: Pem) -> None:
    header = f"authorization: Bearer {TOKEN}"
    with pytest.raises(ArchError, match="--tls-ca wants the authority"):
        Server(reached(proxy, pem, header, ca="other-ca.pem")).__enter__()
    with pytest.raises(ArchError, match="no Triton answers"):
        Server(api.endpoints(proxy, headers=[header])[0]).__enter__()


@pytest.mark.parametrize(
    "call",
    [
        "get_model_repository_index",
        "get_system_shared_memory_status",
        "unregister_cuda_shared_memory",
        "get_trace_settings",
        "get_log_settings",
    ],
)
def test_what_changes_the_server_is_closed_with_a_token_too(proxy: str, pem: Pem, call: str) -> None:
    credentials = grpc.ssl_channel_credentials(pem("ca.pem").read_bytes())
    client = triton.InferenceServerClient(proxy, creds=credentials)
    with pytest.raises(InferenceServerException) as error:
        getattr(client, call)(headers={"authorization": f"Bearer {TOKEN}"})
    assert "PERMISSION_DENIED" in error.value.status()
