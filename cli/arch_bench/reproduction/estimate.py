"""About how long an experiment takes: by what was measured before, or by a short measurement."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from arch_common.errors import ArchError

from arch_bench import api
from arch_bench.extras import needs
from arch_bench.loaded import RESULTS, load

if TYPE_CHECKING:
    from arch_bench.reproduction.plan import PlannedDataset, PlannedModel

_CLIP_S = 5
_IN_FLIGHT = 8
_LEAST_S = 4
_MOST_S = 60


def estimate(
    models: Sequence[PlannedModel], datasets: Sequence[PlannedDataset], repository: Path, output: Path
) -> tuple[float | None, str]:
    """Hours, about, for what is there and not done yet, and what they were estimated by or why they cannot be.

    Encoders are taken to differ in speed as they do in parameters. Training the probes comes on top.

    Args:
        models: that are planned.
        datasets: likewise.
        repository: where exported models are.
        output: folder of the report, which may hold earlier results.
    """
    wanted = [one for one in models if not one.problem]
    there = [one for one in datasets if one.is_there]
    done, seen = _earlier(output, wanted)
    left = [(model, data) for model in wanted for data in there if (model.subject.name, data.id) not in done]
    exported = [one for one in wanted if one.state == "exported"]
    if not there:
        return None, "cannot be estimated yet: no dataset is here"
    if not left:
        return 0.0, "all that is here is done already"
    if seen:
        model, seconds_per_s = seen
        by = f"the speed of {model.subject.name} in {output}"
    elif exported:
        model = min(exported, key=lambda one: one.parameters)
        try:
            seconds_per_s = _measure(repository, model.subject.name)
        except ArchError as error:
            return None, f"cannot be estimated: {error}"
        by = f"a short measurement of {model.subject.name}"
    else:
        return None, "cannot be estimated yet: no model is exported"
    hours = _hours(left, model, seconds_per_s)
    shown = f"{hours:.1f} hours" if hours >= 0.95 else f"{max(1, round(60 * hours))} min"
    return hours, f"about {shown} for what is here and not done yet, by {by}; training the probes comes on top"


def _hours(pairs: Iterable[tuple[PlannedModel, PlannedDataset]], measured: PlannedModel, seconds_per_s: float) -> float:
    """Of pairs of model and dataset, given how many seconds of padded audio a second one model embeds."""
    work = sum(
        (data.clips or 0) * data.declaration.max_seconds * model.parameters / measured.parameters
        for model, data in pairs
    )
    return work / seconds_per_s / 3600


def _earlier(
    output: Path, models: Sequence[PlannedModel]
) -> tuple[set[tuple[str, str]], tuple[PlannedModel, float] | None]:
    """The pairs that the report holds already, and the speed of one of the models in it."""
    if not (output / RESULTS).is_file():
        return set(), None
    run = load(output).run
    seconds = {one.id: one.max_seconds for one in run.datasets}
    speeds = [
        (model, result.measurement.clips_per_s * seconds[result.dataset])
        for model in models
        for result in run.results
        if result.model == model.subject.name and result.measurement and result.measurement.clips_per_s
    ]
    return {(one.model, one.dataset) for one in run.results}, speeds[0] if speeds else None


def _measure(repository: Path, model: str) -> float:
    """Seconds of audio that a Triton here embeds per second, several clips of noise in flight.

    Raises:
        ArchError: if the model is not served, or does not answer.
    """
    with needs("bench"):
        import numpy as np
        import tritonclient.grpc as grpcclient
        from arch_harness.triton.endpoint import Endpoint
        from arch_harness.triton.server import Server
        from tritonclient.utils import InferenceServerException
    with api.serve(repository, [model], grpc_port=0, http_port=0, metrics_port=0) as server:
        for status in server.models:
            if not status.ready:
                raise ArchError(f"{model} is not served: {status.short_reason}")
        endpoint = Endpoint(server.grpc_url, metrics=server.metrics_url, started_by_arch=True)
        with Server(endpoint) as asked:
            (facts,) = asked.models([model])
        client = grpcclient.InferenceServerClient(endpoint.address, channel_args=endpoint.options)
        noise = np.random.default_rng(0).normal(0, 0.1, (1, _CLIP_S * facts.sample_rate)).astype(np.float32)
        inputs = [grpcclient.InferInput("waveform", noise.shape, "FP32")]
        inputs[0].set_data_from_numpy(noise)
        inputs.append(grpcclient.InferInput("num_samples", (1, 1), "INT64"))
        inputs[1].set_data_from_numpy(np.array([[noise.shape[1]]], np.int64))
        began = time.monotonic()

        def send(_: int) -> int:
            """Clips that were answered until the time is over: at least one."""
            sent = 0
            while not sent or time.monotonic() - began < _LEAST_S:
                client.infer(model, inputs, client_timeout=_MOST_S)
                sent += 1
            return sent

        try:
            client.infer(model, inputs, client_timeout=_MOST_S)  # what the first one does alone is not counted
            began = time.monotonic()
            with ThreadPoolExecutor(_IN_FLIGHT) as pool:
                answered = sum(pool.map(send, range(_IN_FLIGHT)))
        except InferenceServerException as error:
            raise ArchError(f"{model} does not answer: {error.message()}") from error
        finally:
            client.close()
        return answered * _CLIP_S / (time.monotonic() - began)
