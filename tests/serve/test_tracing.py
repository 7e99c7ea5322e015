"""Spans of requests, from the real tritonserver to a collector on this machine."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from arch_bench import api
from arch_common.errors import ServeUsageError
from arch_serve.tracing import Tracing, tracing_of
from support.ports import free_port
from support.serve_models import WIDTH, add_model

_SPANS_END_S = 0.5

pytestmark = [pytest.mark.torch, pytest.mark.triton]


@dataclass
class Collector:
    """What a collector was sent: OTLP as JSON, which Triton's exporter writes."""

    url: str = ""
    received: list[dict[str, Any]] = field(default_factory=list)

    @property
    def spans(self) -> list[dict[str, Any]]:
        return [
            span
            for sent in self.received
            for resource in sent["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]

    @property
    def services(self) -> set[str]:
        return {
            attributes(resource["resource"])["service.name"]
            for sent in self.received
            for resource in sent["resourceSpans"]
        }


def attributes(of: dict[str, Any]) -> dict[str, str]:
    return {one["key"]: next(iter(one["value"].values())) for one in of.get("attributes", [])}


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            found.received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    found.url = f"http://127.0.0.1:{server.server_port}/v1/traces"
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    add_model(folder, "plain")
    return folder


def infer(address: str, requests: int, headers: dict[str, str] | None = None) -> None:
    values = np.ones((1, WIDTH), np.float32)
    tensor = triton.InferInput("x", values.shape, "FP32")
    tensor.set_data_from_numpy(values)
    # Of the environment's proxy, which is there for the server.
    with triton.InferenceServerClient(address, channel_args=[("grpc.enable_http_proxy", 0)]) as client:
        for _ in range(requests):
            client.infer("plain", [tensor], headers=headers)
    # A span ends after its answer is sent: of a server that is stopped in between it is lost.
    time.sleep(_SPANS_END_S)


def serve(repository: Path, collector: Collector, rate: int) -> Any:
    return api.serve(repository, grpc_port=0, http_port=0, metrics_port=0, trace_url=collector.url, trace_rate=rate)


def test_each_request_has_its_spans(repository: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Request, model and computation, each within the one before; a proxy does not come between."""
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    with serve(repository, collector, 1) as server:
        assert server.warnings == []
        infer(server.grpc_url, 3)
    # What was not sent yet was sent as the server ended.
    spans = {span["spanId"]: span for span in collector.spans}
    assert sorted(span["name"] for span in spans.values()) == ["InferRequest"] * 3 + ["compute"] * 3 + ["plain"] * 3
    for compute in (span for span in spans.values() if span["name"] == "compute"):
        model = spans[compute["parentSpanId"]]
        request = spans[model["parentSpanId"]]
        assert (model["name"], request["name"]) == ("plain", "InferRequest")
        assert attributes(model)["triton.model_name"] == "plain"
        times = [int(one[at]) for at in ("startTimeUnixNano", "endTimeUnixNano") for one in (request, model, compute)]
        assert times[0] <= times[1] <= times[2] <= times[5] <= times[4] <= times[3]
    assert collector.services == {"arch"}


def test_one_of_so_many_requests_in_the_trace_of_its_client_and_a_service_of_ones_own(
    repository: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "encoders")
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    with serve(repository, collector, 3) as server:
        infer(server.grpc_url, 6)
        infer(server.grpc_url, 2, {"traceparent": f"00-{trace}-{parent}-01"})
    requests = [span for span in collector.spans if span["name"] == "InferRequest"]
    own = [one for one in requests if one["traceId"] != trace]
    assert len(own) == 2
    # Of a client that traces, every request.
    assert [one["parentSpanId"] for one in requests if one not in own] == [parent] * 2
    assert collector.services == {"encoders"}


def test_a_collector_that_is_not_there_is_told() -> None:
    url = f"http://127.0.0.1:{free_port()}/v1/traces"
    assert (
        Tracing(url).warning == f"nothing listens at {url} (Connection refused): spans are lost until a collector does"
    )


@pytest.mark.parametrize(
    "url",
    [
        *("", "collector", "localhost:4318", "ftp://x/v1", "http://", "http://a b/", "http://a,b/", "http://a:99999/"),
        "http://user:secret@a/v1/traces",
    ],
)
def test_a_url_that_cannot_be_right(url: str) -> None:
    with pytest.raises(
        ServeUsageError, match=r"--trace-url .* cannot be right: wants .*http://localhost:4318/v1/traces"
    ):
        tracing_of(url, 1000)


def test_a_rate_that_cannot_be_right() -> None:
    with pytest.raises(ServeUsageError, match="--trace-rate cannot be 0"):
        tracing_of("http://localhost:4318/v1/traces", 0)
    assert tracing_of(None, 0) is None
