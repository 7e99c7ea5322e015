"""One client after another's answer: the configuration that is exported never lets the batcher sleep."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from arch_serve.server import LocalServer
from tritonclient.grpc import InferenceServerClient, InferInput

pytestmark = [pytest.mark.torch, pytest.mark.triton, pytest.mark.slow]

REQUESTS = 300
# The batcher's sleep is of 500 ms; a busy machine alone does not take so long.
STALL_S = 0.4


def test_no_request_of_a_closed_loop_sleeps(repository: Path, tmp_path: Path) -> None:
    """Without a delay of the queue, which makes it likelier: a bounded queue sleeps several times then."""
    shutil.copytree(repository / "tiny-hubert", tmp_path / "tiny-hubert")
    config = tmp_path / "tiny-hubert" / "config.pbtxt"
    config.write_text(
        re.sub(r"max_queue_delay_microseconds: \d+", "max_queue_delay_microseconds: 0", config.read_text())
    )
    samples = 8000
    waveform = np.random.default_rng(0).standard_normal((1, samples)).astype(np.float32) * 0.1
    inputs = [InferInput("waveform", [1, samples], "FP32"), InferInput("num_samples", [1, 1], "INT64")]
    inputs[0].set_data_from_numpy(waveform)
    inputs[1].set_data_from_numpy(np.array([[samples]]))
    took = []
    with LocalServer(tmp_path, grpc_port=0, http_port=0, metrics_port=0) as server:
        client = InferenceServerClient(server.grpc_url)
        for _ in range(REQUESTS):
            started = time.perf_counter()
            client.infer("tiny-hubert", inputs)
            took.append(time.perf_counter() - started)
        client.close()
    slept = [seconds for seconds in took if seconds > np.median(took) + STALL_S]
    assert not slept, f"{len(slept)} of {REQUESTS} requests slept, {max(slept):.2f} s at most"
