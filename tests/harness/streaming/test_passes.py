"""What one pass finds does not depend on those before it: a server of known capacity, several passes of one pool."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from arch_harness.results.measurement import Measurement
from arch_harness.streaming.loads import concurrency
from arch_harness.streaming.pool import WorkerPool
from arch_harness.streaming.wire import Job
from arch_harness.triton.endpoint import Endpoint
from arch_serve.server import LocalServer

pytestmark = [pytest.mark.ray, pytest.mark.triton, pytest.mark.slow]

BATCH, SECONDS = 8, 0.02  # of an execution, whatever its size: 400 clips/s at the most, with full batches only
# A clip's length is part of what a level is remembered by, so each of these is searched for anew.
CLIPS = (6000, 6000, 40, 40, 6000)

CONFIG = f"""\
backend: "python"
max_batch_size: {BATCH}
input [
  {{ name: "waveform" data_type: TYPE_FP32 dims: [ -1 ] }},
  {{ name: "num_samples" data_type: TYPE_INT64 dims: [ 1 ] }}
]
output [ {{ name: "embedding" data_type: TYPE_FP32 dims: [ 2 ] }} ]
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
dynamic_batching {{ max_queue_delay_microseconds: 2000 }}
"""
MODEL = f"""\
import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        time.sleep({SECONDS})
        ones = np.ones((1, 2), dtype=np.float32)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("embedding", ones)]) for _ in requests]
"""


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    repository = tmp_path_factory.mktemp("known-capacity")
    (repository / "sleeper" / "1").mkdir(parents=True)
    (repository / "sleeper" / "config.pbtxt").write_text(CONFIG)
    (repository / "sleeper" / "1" / "model.py").write_text(MODEL)
    with LocalServer(repository, grpc_port=0, http_port=0, metrics_port=0) as server:
        yield Endpoint(server.grpc_url)


def test_the_first_second_and_fifth_pass_fill_the_batches(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concurrency, "_LEAST_S", 0.25)  # a search to its end takes minutes of the server otherwise
    soundfile.write(tmp_path / "clip.wav", np.full(800, 0.1), 16000)
    measured: list[Measurement] = []
    with WorkerPool([endpoint], 2) as pool:
        for position, count in enumerate(CLIPS):
            job = Job("sleeper", tmp_path, 16000, 0.1 + 0.01 * position, 2, 0, BATCH)
            streamed = pool.embed(job, [(index, "clip.wav") for index in range(count)], lambda _: None)
            assert streamed.failures == []
            measured.append(streamed.measurement)
    assert [one.concurrency_found for one in measured] == [True, True, False, False, True]
    levels = [measured[position].concurrency for position in (0, 1, 4)]
    # With fewer in flight no batch is full. How far beyond it pays to go depends on how busy the client's machine is.
    assert min(levels) >= BATCH, [(one.concurrency, one.clips / one.seconds) for one in measured]
