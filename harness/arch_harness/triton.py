"""What a Triton server says of itself, over gRPC: its models, the facts in their configurations, its statistics."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import grpc
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from arch_harness.errors import ArchError, UsageError
from arch_harness.measurement import ServerTimes
from arch_harness.metrics_endpoint import executed_by, read_metrics
from arch_harness.results import ModelFacts, ServerFacts

TIMEOUT_S = 30
_METRICS_TIMEOUT_S = 5
# Where Triton's gRPC and metrics are unless told otherwise.
_GRPC_PORT, _METRICS_PORT = "8001", 8002
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^/:\s]+):\d{1,5}")


@dataclass(frozen=True)
class Target:
    """How a server is reached.

    Attributes:
        address: `host:port` of its gRPC endpoint.
        tls: whether the connection is encrypted and the server's certificate checked.
        certificates: PEM of the authorities to trust; None takes the system's.
        headers: sent with every request; names in lower case. They may be secret and so are never shown.
        metrics: `host:port` of its metrics endpoint; if not given, Triton's default where gRPC is at its own.
        started_by_arch: whether it runs for this benchmark only.

    Raises:
        UsageError: if `address` is no `host:port`.
    """

    address: str
    tls: bool = False
    certificates: bytes | None = field(default=None, repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    metrics: str | None = None
    started_by_arch: bool = False

    def __post_init__(self) -> None:
        if not _ADDRESS.fullmatch(self.address):
            raise UsageError(f"{self.address!r} is no server address: wants HOST:PORT of Triton's gRPC endpoint")
        host, port = self.address.rsplit(":", 1)
        if self.metrics is None and port == _GRPC_PORT:
            object.__setattr__(self, "metrics", f"{host}:{_METRICS_PORT}")

    @property
    def loopback(self) -> bool:
        """Whether it is on the machine that asks."""
        host = self.address.rsplit(":", 1)[0].strip("[]")
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    @property
    def credentials(self) -> grpc.ChannelCredentials | None:
        """For an encrypted channel; None where it is plain."""
        return grpc.ssl_channel_credentials(root_certificates=self.certificates) if self.tls else None

    @property
    def options(self) -> list[tuple[str, int]]:
        """Of a channel to it. They take the place of tritonclient's own, and so repeat what those are needed for."""
        options = [
            # A batch of 30 s clips, or the embeddings of all layers, passes gRPC's 4 MiB.
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
            # gRPC would wait up to 2 minutes before it tries to reach a server again that was restarted.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ]
        # One on this machine is never asked for through a proxy of the environment.
        return [*options, ("grpc.enable_http_proxy", 0)] if self.loopback else options

    def channel(self) -> grpc.Channel:
        """A channel of its own, not yet connected."""
        credentials = self.credentials
        if credentials is None:
            return grpc.insecure_channel(self.address, options=self.options)
        return grpc.secure_channel(self.address, credentials, options=self.options)


@dataclass(frozen=True)
class Statistics:
    """Triton's counters of one model since it was loaded; times in nanoseconds, summed over requests.

    `busy_ns` sums the executions instead, each counted once however many requests it held; `instances` execute side by
    side.
    """

    inferences: int
    requests: int
    queue_ns: int
    compute_ns: int
    busy_ns: int
    executions: dict[int, int]
    instances: int

    def __add__(self, other: Statistics) -> Statistics:
        """Of two servers together."""
        sizes = self.executions.keys() | other.executions.keys()
        return Statistics(
            self.inferences + other.inferences,
            self.requests + other.requests,
            self.queue_ns + other.queue_ns,
            self.compute_ns + other.compute_ns,
            self.busy_ns + other.busy_ns,
            {size: self.executions.get(size, 0) + other.executions.get(size, 0) for size in sizes},
            self.instances + other.instances,
        )

    def since(self, before: Statistics, own_requests: int) -> Statistics | None:
        """What was added after `before`; None where the server was restarted since, which sets them to 0.

        Args:
            before: of the same server.
            own_requests: answered single-clip requests of ours; fewer than these were not counted by a server that ran
                through.
        """
        sizes = {
            size: self.executions.get(size, 0) - before.executions.get(size, 0)
            for size in self.executions.keys() | before.executions.keys()
        }
        added = Statistics(
            self.inferences - before.inferences,
            self.requests - before.requests,
            self.queue_ns - before.queue_ns,
            self.compute_ns - before.compute_ns,
            self.busy_ns - before.busy_ns,
            {size: count for size, count in sorted(sizes.items()) if count},
            self.instances,
        )
        fell = min(added.requests, added.queue_ns, added.compute_ns, added.busy_ns, *added.executions.values(), 0) < 0
        return None if fell or added.inferences < own_requests else added

    def times(self, own_requests: int) -> ServerTimes:
        """Means over the requests, of which `own_requests` single-clip ones were ours."""
        executions = sum(self.executions.values())
        return ServerTimes(
            requests=self.requests,
            queue_ms=self.queue_ns / 1e6 / max(1, self.requests),
            compute_ms=self.compute_ns / 1e6 / max(1, self.requests),
            batch_sizes=dict(sorted(self.executions.items())),
            mean_batch_size=sum(size * count for size, count in self.executions.items()) / max(1, executions),
            busy_seconds=self.busy_ns / 1e9,
            instances=self.instances,
            foreign_requests=max(0, self.inferences - own_requests),
        )


class Server:
    """A Triton server; a context manager.

    Raises:
        ArchError: on entry, if no Triton answers there or it is not live.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self._client = grpcclient.InferenceServerClient(
            target.address, creds=target.credentials, channel_args=target.options
        )

    @property
    def address(self) -> str:
        """`host:port` of its gRPC endpoint."""
        return self.target.address

    def __enter__(self) -> Server:
        try:
            # Live, not ready: a server counts as not ready while one model has failed to load; the others serve.
            if not self._client.is_server_live(headers=dict(self.target.headers), client_timeout=TIMEOUT_S):
                raise ArchError(f"the Triton at {self.address} is not live: it is starting or stopping")
        except InferenceServerException as error:
            self._client.close()
            raise ArchError(
                f"no Triton answers at {self.address}: {_words(error)}; is that its gRPC port (8001 by default)? "
                "'arch serve' starts one"
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def _call(self, name: str, *arguments: Any) -> Any:
        try:
            headers = dict(self.target.headers)
            return getattr(self._client, name)(*arguments, headers=headers, client_timeout=TIMEOUT_S)
        except InferenceServerException as error:
            raise ArchError(f"the Triton at {self.address} did not answer {name}: {_words(error)}") from error

    def facts(self) -> ServerFacts:
        """Name, version and place of the server."""
        metadata = self._call("get_server_metadata")
        return ServerFacts(
            address=self.address,
            name=metadata.name,
            version=metadata.version,
            started_by_arch=self.target.started_by_arch,
            same_machine=self.target.loopback,
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
        metrics = read_metrics(self.target.metrics, _METRICS_TIMEOUT_S) if self.target.metrics else ""
        return facts.model_copy(update={"executed_by": executed_by(metrics, name, facts.content_hash)})

    def statistics_if_up(self, model: str) -> Statistics | None:
        """The counters of a model; None where the server does not answer."""
        try:
            return self.statistics(model)
        except ArchError:
            return None

    def statistics(self, model: str) -> Statistics:
        """The counters of a model, over all its versions."""
        requests = inferences = queue_ns = compute_ns = busy_ns = 0
        executions: dict[int, int] = {}
        for entry in self._call("get_inference_statistics", model).model_stats:
            stats = entry.inference_stats
            inferences += entry.inference_count
            requests += stats.success.count
            queue_ns += stats.queue.ns
            compute_ns += stats.compute_input.ns + stats.compute_infer.ns + stats.compute_output.ns
            for batch in entry.batch_stats:
                executions[batch.batch_size] = executions.get(batch.batch_size, 0) + batch.compute_infer.count
                busy_ns += batch.compute_input.ns + batch.compute_infer.ns + batch.compute_output.ns
        groups = self._call("get_model_config", model).config.instance_group
        instances = sum(group.count * max(1, len(group.gpus)) for group in groups)
        return Statistics(inferences, requests, queue_ns, compute_ns, busy_ns, executions, max(1, instances))


def common_models(servers: Sequence[Server], names: list[str]) -> list[ModelFacts]:
    """The facts of the named models, or of all of `arch export`'s that every server has, when none is named.

    Raises:
        UsageError: if a server lacks one, or two servers have different models of one name.
    """
    first, *others = servers
    found = first.models(names)
    for server in others:
        there = {facts.name: facts for facts in server.models(names)}
        found = [facts for facts in found if facts.name in there]
        for facts in found:
            other = there[facts.name]
            if not (facts.executed_by and other.executed_by):  # one of them does not tell
                other = other.model_copy(update={"executed_by": facts.executed_by})
            if other != facts:
                raise UsageError(_unlike(facts, other, first, server))
    if not found:
        raise UsageError(f"no model of 'arch export' is on all of {', '.join(server.address for server in servers)}")
    return found


def _unlike(facts: ModelFacts, other: ModelFacts, first: Server, second: Server) -> str:
    which = next(name for name in ModelFacts.model_fields if getattr(facts, name) != getattr(other, name))
    if which == "executed_by":
        return (
            f"the model {facts.name!r} runs in {facts.executed_by} at {first.address} and in {other.executed_by} at "
            f"{second.address}: their figures would mix; bench them one after the other"
        )
    return (
        f"the model {facts.name!r} is not the same at {first.address} and {second.address}: they differ in {which} "
        f"({getattr(facts, which)} and {getattr(other, which)}); serve one repository at both"
    )


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


def _words(error: InferenceServerException) -> str:
    return str(error.message() or error).strip().splitlines()[0]
