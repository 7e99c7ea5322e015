"""What a Triton server says of itself, over gRPC: its models, the facts in their configurations, its statistics."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from statistics import median
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import tritonclient.grpc as grpcclient
from arch_common import conv_search
from arch_common.errors import ArchError, UsageError, first_line
from pydantic import ValidationError
from tritonclient.utils import InferenceServerException

from arch_harness.results.run import Footprint, ModelFacts, ServerFacts
from arch_harness.triton.endpoint import Endpoint
from arch_harness.triton.execution import (
    footprint_by,
    is_started_by_arch,
    metrics_addresses,
    runs_in_backend_of_arch,
    told_by,
    untold,
)
from arch_harness.triton.prometheus import read_metrics
from arch_harness.triton.refusal import is_forbidden, unreached
from arch_harness.triton.statistics import Statistics

if TYPE_CHECKING:
    from numpy.typing import NDArray

TIMEOUT_S = 30
_EMBED_TIMEOUT_S = 600
_READY = "READY"
_METRICS_TIMEOUT_S = 5
_THREADS = "intra_op_thread_count"  # as both backends call it
# Facts that are no parameters which the export wrote, but what the server has and does.
_NOT_EXPORTED = {
    *("name", "executed_by", "max_batch_size", "max_queue_delay_us", "max_queue_size", "instances", "threads"),
    "conv_search",
}


class Server:
    """A Triton server; a context manager.

    Raises:
        ArchError: on entry, if no Triton answers there or it is not live.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._client = grpcclient.InferenceServerClient(
            endpoint.address, creds=endpoint.credentials, channel_args=endpoint.options
        )

    @property
    def address(self) -> str:
        """`host:port` of its gRPC endpoint."""
        return self.endpoint.address

    def __enter__(self) -> Server:
        try:
            # Live, not ready: a server counts as not ready while one model has failed to load; the others serve.
            if not self._client.is_server_live(headers=dict(self.endpoint.headers), client_timeout=TIMEOUT_S):
                raise ArchError(f"the Triton at {self.address} is not live: it is starting or stopping")
        except InferenceServerException as error:
            self._client.close()
            raise ArchError(
                f"no Triton answers at {self.address}: {_words(error)}; {unreached(self.endpoint, error)}"
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def _call(self, name: str, *arguments: Any) -> Any:
        try:
            headers = dict(self.endpoint.headers)
            return getattr(self._client, name)(*arguments, headers=headers, client_timeout=TIMEOUT_S)
        except InferenceServerException as error:
            raise ArchError(f"the Triton at {self.address} did not answer {name}: {_words(error)}") from error

    def facts(self) -> ServerFacts:
        """Name, version and place of the server."""
        metadata = self._call("get_server_metadata")
        return ServerFacts(
            address=self.address,
            name="triton" if is_started_by_arch(metadata.name) else metadata.name,
            version=metadata.version,
            started_by_arch=self.endpoint.started_by_arch,
            same_machine=self.endpoint.loopback,
            tls=self.endpoint.credentials is not None,
        )

    def round_trip_ms(self, calls: int = 20) -> float:
        """The median time of a call for which the server does nothing, in ms: the network's part of a latency."""
        times = []
        for _ in range(calls):
            began = time.perf_counter()
            self._call("is_server_live")
            times.append(time.perf_counter() - began)
        return 1e3 * median(times)

    def metrics_address(self) -> str | None:
        """`host:port` of its metrics, as the server tells it, or else where they usually are; None if not known."""
        try:
            name = self._call("get_server_metadata").name
        except ArchError:  # it may be back in a moment
            name = ""
        return next(iter(metrics_addresses(self.address, self.endpoint.metrics, name)), None)

    def models(self, names: list[str]) -> list[ModelFacts]:
        """The facts of the named models, or of every model here that `arch export` made when none is named.

        Raises:
            UsageError: if a named model is not on the server, did not load, or is none of `arch export`'s.
        """
        states = self._states()
        ready = sorted(name for name, state in states.items() if state == _READY)
        for name in names:
            if name not in states:
                raise UsageError(f"the server has no model {name!r}; it has: {', '.join(ready) or 'none'}")
            if name not in ready:
                raise UsageError(f"the model {name!r} is on the server but not ready: {states[name]}")
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

    def _states(self) -> dict[str, str]:
        """Each model that the server tells of, and `READY` or why it is not."""
        try:
            index = self._client.get_model_repository_index(
                headers=dict(self.endpoint.headers), client_timeout=TIMEOUT_S
            )
        except InferenceServerException as error:
            if not is_forbidden(error.status() or "", _words(error)):
                raise ArchError(f"the Triton at {self.address} did not list its models: {_words(error)}") from error
            # Who may list them may load and unload them too, so a safe server lets nobody. Its counters are of those
            # that are ready.
            return {entry.name: _READY for entry in self._call("get_inference_statistics").model_stats}
        return {
            entry.name: _READY if entry.state == _READY else first_line(entry.reason, entry.state or "not loaded")
            for entry in index.models
        }

    def _model(self, name: str) -> ModelFacts:
        return self._facts(name, self._call("get_model_config", name).config)

    def _facts(self, name: str, config: Any) -> ModelFacts:
        facts = model_facts(name, config)
        server = self._call("get_server_metadata").name
        if runs_in_backend_of_arch(config):
            for address in metrics_addresses(self.address, self.endpoint.metrics, server):
                told = told_by(read_metrics(address, _METRICS_TIMEOUT_S), server, name, facts.content_hash)
                if told is not None:
                    return facts.model_copy(update=asdict(told))
        return facts.model_copy(update={"executed_by": untold(config, facts.precision, self.address)})

    def embed(self, model: str, waveforms: NDArray[np.float32], samples: Sequence[int]) -> NDArray[np.float32]:
        """Embed clips as one request, which is one batch: FP32 [clips, embedding size].

        Args:
            model: on the server, which must take so many clips at once.
            waveforms: FP32 [clips, samples], padded to one length.
            samples: of each clip, without its padding.

        Raises:
            ArchError: if the server does not answer, or gives no such embeddings.
        """
        inputs = [
            grpcclient.InferInput("waveform", list(waveforms.shape), "FP32"),
            grpcclient.InferInput("num_samples", [len(waveforms), 1], "INT64"),
        ]
        inputs[0].set_data_from_numpy(np.ascontiguousarray(waveforms, dtype=np.float32))
        inputs[1].set_data_from_numpy(np.array(samples, dtype=np.int64)[:, None])
        try:
            answer = self._client.infer(
                model,
                inputs,
                outputs=[grpcclient.InferRequestedOutput("embedding")],
                headers=dict(self.endpoint.headers),
                client_timeout=_EMBED_TIMEOUT_S,
            )
            found = answer.as_numpy("embedding")
        except (InferenceServerException, ValueError) as error:
            words = _words(error) if isinstance(error, InferenceServerException) else error
            raise ArchError(f"the Triton at {self.address} did not embed with {model}: {words}") from error
        if found is None or found.ndim != 2 or len(found) != len(waveforms) or not np.isfinite(found).all():
            raise ArchError(f"the Triton at {self.address} gave no finite embedding of {model} for each clip")
        embeddings: NDArray[np.float32] = found
        return embeddings

    def footprint(self, facts: ModelFacts) -> Footprint | None:
        """What a model takes of the server until now; None where it does not tell or does not answer."""
        try:
            server = self._call("get_server_metadata").name
        except ArchError:
            return None
        for address in metrics_addresses(self.address, self.endpoint.metrics, server):
            told = footprint_by(read_metrics(address, _METRICS_TIMEOUT_S), server, facts.name, facts.content_hash)
            if told is not None:
                return told
        return None

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
        instances = instances_of(self._call("get_model_config", model).config)
        return Statistics(inferences, requests, queue_ns, compute_ns, busy_ns, executions, instances)


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
            if other != facts:
                raise UsageError(_unlike(facts, other, first, server))
    if not found:
        raise UsageError(f"no model of 'arch export' is on all of {', '.join(server.address for server in servers)}")
    return found


def models_left_out(servers: Sequence[Server], kept: Sequence[ModelFacts]) -> list[str]:
    """A line for each model of `arch export` that some servers have and others lack."""
    there = {server.address: {facts.name for facts in server.models([])} for server in servers}
    names = sorted(set().union(*there.values()) - {facts.name for facts in kept})
    return [
        f"{name} is left out: it is not served at "
        f"{', '.join(address for address, served in there.items() if name not in served)}"
        for name in names
    ]


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


def instances_of(config: Any) -> int:
    """Executions of a model that go side by side, by its configuration."""
    return max(1, int(sum(group.count * max(1, len(group.gpus)) for group in config.instance_group)))


def model_facts(name: str, config: Any) -> ModelFacts:
    """What a model's configuration, as Triton has it, says of the model.

    Raises:
        UsageError: if it lacks what `arch export` writes, or says what cannot be.
    """
    parameters = {key: value.string_value for key, value in config.parameters.items()}
    fields = set(ModelFacts.model_fields) - _NOT_EXPORTED
    missing = sorted(field for field in fields - set(parameters) if ModelFacts.model_fields[field].is_required())
    if missing:
        raise UsageError(
            f"the model {name!r} cannot be benched: its configuration lacks the parameter {missing[0]!r}, which "
            "'arch export' writes"
        )
    try:
        return _validated(name, config, parameters)
    except ValidationError as error:
        first = error.errors()[0]
        parameter = str(first["loc"][0])
        raise UsageError(
            f"the model {name!r} cannot be benched: its configuration says {parameter} is {first['input']!r:.60}, and "
            f"{first['msg'][:1].lower()}{first['msg'][1:]}; export it again, or name others with --model"
        ) from error


def _validated(name: str, config: Any, parameters: dict[str, str]) -> ModelFacts:
    fields = set(ModelFacts.model_fields) - _NOT_EXPORTED
    search = conv_search.name_of(parameters.get(conv_search.PARAMETER, ""))
    return ModelFacts.model_validate(
        {field: parameters[field] for field in fields & set(parameters)}
        | {
            "name": name,
            "max_batch_size": config.max_batch_size,
            "max_queue_delay_us": config.dynamic_batching.max_queue_delay_microseconds,
            "max_queue_size": config.dynamic_batching.default_queue_policy.max_queue_size or None,
            "instances": instances_of(config),
            # 0 and nothing leave it to the server.
            "threads": parameters.get(_THREADS, "0").strip().lstrip("0") or None,
            "conv_search": None if search == conv_search.USUAL else search,
        }
    )


def _words(error: InferenceServerException) -> str:
    return first_line(error.message(), str(error.status() or type(error).__name__))
