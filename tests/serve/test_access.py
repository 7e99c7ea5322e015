"""Who may do what at a server: TLS, and what clients may change, at the real tritonserver by the real client."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import arch_bench
import pytest
import tritonclient.grpc as triton
from arch_bench import api
from arch_common.errors import ArchError, ServeUsageError, UsageError
from arch_harness.streaming.balancer import Balancer
from arch_harness.streaming.shared_memory import SharedMemory
from arch_harness.triton.server import Server
from arch_serve.access import HEADER, Access, Tls, tls_of
from arch_serve.server import LocalServer
from support.certificates import Pem, make_certificates
from support.serve_models import add_model
from tritonclient.utils import InferenceServerException

pytestmark = [pytest.mark.torch, pytest.mark.triton]

# Every call that changes the server, or tells of what could be changed.
OVER_HTTP = [
    *(("POST", path) for path in ("repository/index", "repository/models/a/load", "repository/models/a/unload")),
    *(("POST", f"{kind}sharedmemory/region/r/register") for kind in ("system", "cuda")),
    *(("POST", f"{kind}sharedmemory/{which}unregister") for kind in ("system", "cuda") for which in ("", "region/r/")),
    *(("GET", f"{kind}sharedmemory/status") for kind in ("system", "cuda")),
    *((method, path) for method in ("GET", "POST") for path in ("trace/setting", "models/a/trace/setting", "logging")),
]
SHARED_MEMORY: list[tuple[str, tuple[Any, ...]]] = [
    ("register_system_shared_memory", ("r", "/r", 8)),
    ("register_cuda_shared_memory", ("r", b"AAAA", 0, 8)),
    *((f"unregister_{kind}_shared_memory", ()) for kind in ("system", "cuda")),
    *((f"get_{kind}_shared_memory_status", ()) for kind in ("system", "cuda")),
]
OVER_GRPC: list[tuple[str, tuple[Any, ...]]] = [
    ("get_model_repository_index", ()),
    ("load_model", ("a",)),
    ("unload_model", ("a",)),
    ("get_trace_settings", ()),
    ("update_trace_settings", ("a", {"trace_level": ["TIMESTAMPS"]})),
    ("get_log_settings", ()),
    ("update_log_settings", ({"log_verbose_level": 1},)),
]


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Pem:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    add_model(folder, "a")
    return folder


def serve(repository: Path, **options: Any) -> LocalServer:
    return api.serve(repository, grpc_port=0, http_port=0, metrics_port=0, **options)


@pytest.fixture(scope="module")
def public(repository: Path, pem: Pem) -> Iterator[LocalServer]:
    """A server that other machines reach, with mutual TLS."""
    tls = {"tls_cert": pem("server.pem"), "tls_key": pem("server.key"), "tls_client_ca": pem("ca.pem")}
    with serve(repository, host="0.0.0.0", **tls) as server:
        yield server


@pytest.fixture(scope="module")
def local(repository: Path) -> Iterator[LocalServer]:
    with serve(repository) as server:
        yield server


def endpoint(server: LocalServer, pem: Pem, ca: str = "ca", client: str | None = "client") -> Any:
    identity: dict[str, Any] = (
        {} if client is None else {"tls_cert": pem(f"{client}.pem"), "tls_key": pem(f"{client}.key")}
    )
    return api.endpoints(server.grpc_url, tls_ca=pem(f"{ca}.pem"), **identity)[0]


def status(server: LocalServer, method: str, path: str, key: str | None = None) -> int:
    headers = {} if key is None else {HEADER: key}
    request = urllib.request.Request(
        f"http://{server.http_url}/v2/{path}", b"{}" if method == "POST" else None, headers
    )
    request.method = method
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            code: int = answer.status
    except urllib.error.HTTPError as error:
        code = error.code
        error.close()
    return code


def refused(client: Any, calls: list[tuple[str, tuple[Any, ...]]]) -> list[str]:
    """The calls that were refused because of who made them."""
    found = []
    for name, arguments in calls:
        try:
            getattr(client, name)(*arguments)
        except InferenceServerException as error:
            found += [name] if "This protocol is restricted" in str(error) else []
    return found


def names(calls: list[tuple[str, tuple[Any, ...]]]) -> list[str]:
    return [name for name, _ in calls]


@pytest.mark.parametrize("which", ["public", "local"])
def test_nobody_changes_the_server_over_http(which: str, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue(which)
    assert [one for one in OVER_HTTP if status(server, *one) != 403] == []
    assert status(server, "POST", "repository/index", key="guessed") == 403
    assert (status(server, "GET", "health/ready"), status(server, "GET", "models/a")) == (200, 200)


def test_nobody_changes_a_public_server_over_grpc(public: LocalServer, pem: Pem) -> None:
    reached = endpoint(public, pem)
    client = triton.InferenceServerClient(reached.address, creds=reached.credentials)
    assert refused(client, [*OVER_GRPC, *SHARED_MEMORY]) == names([*OVER_GRPC, *SHARED_MEMORY])
    assert client.is_model_ready("a")


def test_on_this_machine_clips_may_come_through_shared_memory(local: LocalServer) -> None:
    client = triton.InferenceServerClient(local.grpc_url)
    assert refused(client, [*OVER_GRPC, *SHARED_MEMORY]) == names(OVER_GRPC)


def test_what_is_allowed_is_open_and_the_rest_is_not(repository: Path) -> None:
    with serve(repository, host="0.0.0.0", allow=["model-repository", "shared-memory"]) as server:
        client = triton.InferenceServerClient(server.grpc_url)
        closed = ["get_trace_settings", "update_trace_settings", "get_log_settings", "update_log_settings"]
        assert refused(client, [*OVER_GRPC, *SHARED_MEMORY]) == closed
        assert not client.is_model_ready("a")  # it was unloaded
        assert status(server, "POST", "repository/models/a/load") == 200
        assert status(server, "POST", "logging") == 403
        (warning,) = server.warnings
        assert "can use this server, and nothing is encrypted" in warning
    with pytest.raises(ServeUsageError, match="unknown to --allow: everything; it takes shared-memory, model-rep"):
        serve(repository, allow="everything")


def test_mutual_tls_lets_in_who_has_a_certificate(public: LocalServer, pem: Pem) -> None:
    with Server(endpoint(public, pem)) as server:
        assert server.facts().tls
        assert server.statistics("a").inferences == 0
        with pytest.raises(UsageError, match="no model 'b'; it has: a"):  # told without the index
            server.models(["b"])
    assert public.http_url.startswith("127.0.0.1:")
    assert public.warnings == ["HTTP stays on 127.0.0.1, and metrics at 0.0.0.0 are open and not encrypted"]


@pytest.mark.parametrize(
    ("ca", "client", "says"),
    [
        ("other-ca", "client", "--tls-ca wants the authority of the server's certificate"),
        ("ca", "stranger", r"trust the authority of our certificate \(--tls-cert\)\?"),
        ("ca", None, r"want a certificate of ours \(--tls-cert, --tls-key\)\?"),
    ],
)
def test_others_are_told_why_not_in_one_line(
    public: LocalServer, pem: Pem, ca: str, client: str | None, says: str
) -> None:
    with pytest.raises(ArchError, match=says) as error, Server(endpoint(public, pem, ca, client)):
        pass
    assert "\n" not in str(error.value)
    with pytest.raises(ArchError, match=r"without TLS \(--tls\)\?"), Server(api.endpoints(public.grpc_url)[0]):
        pass


def test_tls_of_the_server_alone_lets_in_every_client(repository: Path, pem: Pem) -> None:
    tls = {"tls_cert": pem("server.pem"), "tls_key": pem("server.key")}
    with serve(repository, **tls) as server, Server(endpoint(server, pem, client=None)) as reached:
        assert reached.facts().tls
        assert server.warnings == []
    access = Access(Tls(tls["tls_cert"], tls["tls_key"]))
    assert access.warning(access.hosts("0.0.0.0")).startswith("gRPC is encrypted, but lets every client in")


def test_certificates_that_cannot_be_right_are_told_before_anything_starts(pem: Pem, tmp_path: Path) -> None:
    with pytest.raises(ServeUsageError, match=r"are no certificate and its unencrypted key.*KEY_VALUES_MISMATCH"):
        tls_of(pem("server.pem"), pem("client.key"), None)
    with pytest.raises(ServeUsageError, match="TLS needs both --tls-cert and --tls-key"):
        tls_of(None, None, pem("ca.pem"))
    with pytest.raises(ServeUsageError, match=r"--tls-key: cannot read .*none.key: No such file"):
        tls_of(pem("server.pem"), tmp_path / "none.key", None)
    (tmp_path / "damaged.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    with pytest.raises(ServeUsageError, match=r"--tls-client-ca: .* holds a damaged certificate"):
        tls_of(pem("server.pem"), pem("server.key"), tmp_path / "damaged.pem")
    with pytest.raises(UsageError, match="needs both --tls-cert and --tls-key"):
        arch_bench.endpoints("a:1", tls_cert=pem("client.pem"))


def test_audio_goes_in_the_request_where_shared_memory_is_closed(public: LocalServer, pem: Pem) -> None:
    """Triton's code for it is that of a server that is away, which would be told again."""
    balancer = Balancer([endpoint(public, pem)])
    (connection,) = balancer.connections
    memory = SharedMemory(balancer.connections, shared_memory=True)
    assert connection.reads_shared_memory
    memory.take(16)
    assert not connection.reads_shared_memory
    memory.close()
