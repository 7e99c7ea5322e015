"""What sends a load test's clips, without LoadGen and without a server."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from arch_harness.load.sending import driver
from arch_harness.load.sending.messages import Setup
from arch_harness.streaming.wire import Job
from arch_harness.triton.endpoint import Endpoint


@pytest.mark.parametrize(("words", "reason"), [(" ", "INTERNAL"), ("", "INTERNAL"), ("no\nmemory", "no")])
def test_an_error_ends_its_clip_with_words_or_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, reason: str
) -> None:
    """LoadGen waits for every sample: one that is not completed holds the run up for ever."""
    ended: list[Any] = []
    loadgen = SimpleNamespace(QuerySamplesComplete=ended.extend, QuerySampleResponse=lambda *what: what)
    monkeypatch.setattr(driver, "mlperf_loadgen", loadgen)
    np.zeros(400, dtype=np.float32).tofile(tmp_path / "clips")
    job = Job("model", tmp_path, 16000, 1.0, 4, 0, 1)
    connection: Any = SimpleNamespace(send=ended.append)
    sender = driver._Sender(Setup([Endpoint("127.0.0.1:1")], job, tmp_path / "clips", [400]), connection)
    call = SimpleNamespace(code=lambda: grpc.StatusCode.INTERNAL, details=lambda: words)
    sender._done(sender._ways[0], 0, 7, call)
    assert ended == [(7, 0, 0)]
    assert (sender.ended.failed, sender.ended.reasons) == ([0], {reason: 1})
