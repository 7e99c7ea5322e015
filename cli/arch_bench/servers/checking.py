"""An exported model in a Triton on this machine, held against the graph in this process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from arch_common.errors import ArchError

from arch_bench.extras import needs

if TYPE_CHECKING:
    from arch_export.pipeline import Exported

# Two runs of one graph differ by the order of their sums; in bf16 and int8 each sum is rounded on the way.
_SAME = {"fp32": 1e-4}
_SAME_ROUNDED = 1e-2


@dataclass(frozen=True)
class Checked:
    """What was asked for, and what came.

    Attributes:
        outputs: the names of those that were asked for.
        executed_by: precision and execution provider, as the server says; empty where it does not.
        relative_error: the largest of an output to the exported graph in this process.
    """

    outputs: list[str]
    executed_by: str
    relative_error: float


def check(exported: Exported) -> Checked:
    """Serve the model alone, ask for each of its outputs, and compare with the exported graph in this process.

    Raises:
        ArchError: if it does not load, does not answer, or answers something else.
    """
    with needs("serve"):
        from arch_serve.server import LocalServer
    with LocalServer(exported.folder.parent, [exported.name], grpc_port=0, http_port=0, metrics_port=0) as server:
        for status in server.models:
            if not status.ready:
                raise ArchError(f"{exported.name} is installed, but Triton here cannot load it: {status.short_reason}")
        with needs("export"), needs("bench"):
            return _compare(exported, server.grpc_url, server.metrics_url)


def _compare(exported: Exported, grpc: str, metrics: str) -> Checked:
    import numpy as np
    import tritonclient.grpc as grpcclient
    from arch_export.encoder.precision import Precision
    from arch_export.graph.runtime import open_session
    from arch_export.verify import parity
    from arch_harness.triton.endpoint import Endpoint
    from arch_harness.triton.server import Server
    from tritonclient.utils import InferenceServerException

    precision = exported.facts["precision"]
    *_, (_, _, feeds) = parity.batches(int(exported.facts["sample_rate"]))
    feeds = {name: values[:1] for name, values in feeds.items()}
    session = open_session(exported.folder / "1" / "model.onnx", Precision(precision))
    names = ["embedding"] + ["layer_embeddings"] * (exported.facts["layer_embeddings"] != "0")
    expected = dict(zip(names, session.run(names, feeds), strict=True))
    inputs = []
    for name, values in feeds.items():
        inputs.append(grpcclient.InferInput(name, values.shape, "FP32" if name == "waveform" else "INT64"))
        inputs[-1].set_data_from_numpy(values)
    endpoint = Endpoint(grpc, metrics=metrics, started_by_arch=True)
    client = grpcclient.InferenceServerClient(endpoint.address, channel_args=endpoint.options)
    allowed = _SAME.get(precision, _SAME_ROUNDED)
    largest = 0.0
    for name in names:
        try:
            answer = client.infer(
                exported.name, inputs, outputs=[grpcclient.InferRequestedOutput(name)], client_timeout=600
            ).as_numpy(name)
        except InferenceServerException as error:
            raise ArchError(f"{exported.name} is loaded, but does not give {name}: {error.message()}") from error
        apart = float(np.linalg.norm(answer - expected[name]) / np.linalg.norm(expected[name]))
        if not apart <= allowed:
            raise ArchError(
                f"{exported.name} answers {name} with a relative error of {apart:.1e} to the exported graph; "
                f"{allowed:.0e} is allowed"
            )
        largest = max(largest, apart)
    with Server(endpoint) as server:
        (facts,) = server.models([exported.name])
    return Checked(names, facts.executed_by, largest)
