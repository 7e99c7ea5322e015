"""What a Triton server says of itself, over gRPC: its models, the facts in their configurations, its statistics."""

from __future__ import annotations

import http.client
import ipaddress
import re
import urllib.request
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from arch_harness.errors import ArchError, UsageError
from arch_harness.results import ModelFacts, ServerFacts, ServerTimes

TIMEOUT_S = 30
# Where Triton's gRPC and metrics are unless told otherwise.
_GRPC_PORT, _METRICS_PORT = "8001", 8002
_EXECUTION = re.compile(r"^arch_execution_info\{(.*)\} 1$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Statistics:
    """Triton's counters of one model since it was loaded; times in nanoseconds, summed over requests."""

    inferences: int
    requests: int
    queue_ns: int
    compute_ns: int
    executions: dict[int, int]

    def since(self, before: Statistics, own_requests: int) -> ServerTimes:
        """What happened after `before`, of which `own_requests` single-clip requests were ours."""
        requests = self.requests - before.requests
        sizes = {size: count - before.executions.get(size, 0) for size, count in sorted(self.executions.items())}
        sizes = {size: count for size, count in sizes.items() if count}
        executions = sum(sizes.values())
        return ServerTimes(
            requests=requests,
            queue_ms=(self.queue_ns - before.queue_ns) / 1e6 / max(1, requests),
            compute_ms=(self.compute_ns - before.compute_ns) / 1e6 / max(1, requests),
            batch_sizes=sizes,
            mean_batch_size=sum(size * count for size, count in sizes.items()) / max(1, executions),
            foreign_requests=max(0, self.inferences - before.inferences - own_requests),
        )


def connect(address: str) -> grpcclient.InferenceServerClient:
    """A client for `host:port`; one on this machine is never asked for through a proxy of the environment."""
    if not _is_loopback(address):
        return grpcclient.InferenceServerClient(address)
    # Given any of them, tritonclient leaves out its own: the message sizes would fall back to 4 MiB.
    sizes = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    return grpcclient.InferenceServerClient(address, channel_args=[*sizes, ("grpc.enable_http_proxy", 0)])


class Server:
    """A Triton server at `host:port` (gRPC); a context manager.

    Args:
        address: of its gRPC endpoint.
        started_by_arch: it runs for this benchmark alone.
        metrics: `host:port` of its metrics; without it they are looked for at Triton's default port where gRPC is.

    Raises:
        UsageError: if `address` is no `host:port`.
        ArchError: if no Triton answers there or it is not live.
    """

    def __init__(self, address: str, started_by_arch: bool = False, metrics: str | None = None) -> None:
        if not re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^/:\s]+):\d{1,5}", address):
            raise UsageError(f"{address!r} is no server address: wants HOST:PORT of Triton's gRPC endpoint")
        self.address = address
        self._started_by_arch = started_by_arch
        host, port = address.rsplit(":", 1)
        self._metrics = metrics or (f"{host}:{_METRICS_PORT}" if port == _GRPC_PORT else None)
        self._client = connect(address)
        try:
            # Live, not ready: a server counts as not ready while one model has failed to load; the others serve.
            if not self._client.is_server_live(client_timeout=TIMEOUT_S):
                raise ArchError(f"the Triton at {address} is not live: it is starting or stopping")
        except InferenceServerException as error:
            raise ArchError(
                f"no Triton answers at {address}: {_words(error)}; is that its gRPC port (8001 by default)? "
                "'arch serve' starts one"
            ) from error

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def _call(self, name: str, *arguments: Any) -> Any:
        try:
            return getattr(self._client, name)(*arguments, client_timeout=TIMEOUT_S)
        except InferenceServerException as error:
            raise ArchError(f"the Triton at {self.address} did not answer {name}: {_words(error)}") from error

    def facts(self) -> ServerFacts:
        """Name, version and place of the server."""
        metadata = self._call("get_server_metadata")
        return ServerFacts(
            address=self.address,
            name=metadata.name,
            version=metadata.version,
            started_by_arch=self._started_by_arch,
            same_machine=_is_loopback(self.address),
        )

    def models(self, names: list[str]) -> list[ModelFacts]:
        """The facts of the named models, or of every model here that `arch export` made when none is named.

        Raises:
            UsageError: if a named model is not on the server, did not load, or is none of `arch export`'s.
        """
        index = {entry.name: entry for entry in self._call("get_model_repository_index").models}
        ready = sorted(name for name, entry in index.items() if entry.state == "READY")
        for name in names:
            if name not in index:
                raise UsageError(f"the server has no model {name!r}; it has: {', '.join(ready) or 'none'}")
            if name not in ready:
                reason = (index[name].reason or index[name].state or "not loaded").splitlines()[0]
                raise UsageError(f"the model {name!r} is on the server but not ready: {reason}")
        if names:
            return [self._model(name) for name in dict.fromkeys(names)]
        found = []
        for name in ready:
            config = self._call("get_model_config", name).config
            if "content_hash" in config.parameters:
                found.append(self._facts(name, config))
        if not found:
            raise UsageError(f"the server at {self.address} has no model that 'arch export' made")
        return found

    def _model(self, name: str) -> ModelFacts:
        return self._facts(name, self._call("get_model_config", name).config)

    def _facts(self, name: str, config: Any) -> ModelFacts:
        facts = _model_facts(name, config)
        return facts.model_copy(update={"executed_by": self._executed_by(name, facts.content_hash)})

    def _executed_by(self, model: str, content_hash: str) -> str:
        """What the server says that a model runs on; empty where it does not say, as NVIDIA's own backend."""
        if self._metrics is None:
            return ""
        handlers = [urllib.request.ProxyHandler({})] if _is_loopback(self._metrics) else []
        try:
            with urllib.request.build_opener(*handlers).open(f"http://{self._metrics}/metrics", timeout=5) as answer:
                text = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException):
            return ""
        for match in _EXECUTION.finditer(text):
            labels = dict(_LABEL.findall(match[1]))
            # The hash tells this server's model from one of the same name on another server of the host.
            if (labels.get("model"), labels.get("content_hash")) == (model, content_hash):
                note = f" ({labels['note']})" if labels.get("note") else ""
                return f"{labels['precision']} on {labels['execution_provider']}{note}"
        return ""

    def statistics(self, model: str) -> Statistics:
        """The counters of a model, over all its versions."""
        requests = inferences = queue_ns = compute_ns = 0
        executions: dict[int, int] = {}
        for entry in self._call("get_inference_statistics", model).model_stats:
            stats = entry.inference_stats
            inferences += entry.inference_count
            requests += stats.success.count
            queue_ns += stats.queue.ns
            compute_ns += stats.compute_input.ns + stats.compute_infer.ns + stats.compute_output.ns
            for batch in entry.batch_stats:
                executions[batch.batch_size] = executions.get(batch.batch_size, 0) + batch.compute_infer.count
        return Statistics(inferences, requests, queue_ns, compute_ns, executions)


def _model_facts(name: str, config: Any) -> ModelFacts:
    parameters = {key: value.string_value for key, value in config.parameters.items()}
    fields = set(ModelFacts.model_fields) - {"name", "executed_by", "max_batch_size", "max_queue_delay_us"}
    missing = sorted(field for field in fields - set(parameters) if ModelFacts.model_fields[field].is_required())
    if missing:
        raise UsageError(
            f"the model {name!r} cannot be benched: its configuration lacks the parameter {missing[0]!r}, which "
            "'arch export' writes"
        )
    return ModelFacts.model_validate(
        {field: parameters[field] for field in fields & set(parameters)}
        | {
            "name": name,
            "max_batch_size": config.max_batch_size,
            "max_queue_delay_us": config.dynamic_batching.max_queue_delay_microseconds,
        }
    )


def _is_loopback(address: str) -> bool:
    host = address.rsplit(":", 1)[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _words(error: InferenceServerException) -> str:
    return str(error.message() or error).strip().splitlines()[0]
