"""The weights made anew, and the reading of profiles and failures, of the benchmark for GPUs."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpu_checks import batches, parity
from gpu_engines import is_memory, medians, reason_of
from gpu_models import Skeleton, decode, encode, regenerate
from gpu_operators import operators
from gpu_tables import served_line

pytestmark = pytest.mark.torch

SKELETON = Skeleton(
    name="a",
    size="base",
    variant="fp16",
    precision="fp16",
    family="hubert",
    config={},
    gflop={},
    bytes=5_000_000,
    tensors=[
        (0, 2_000_000, "fp16", 0.5, 0.25),
        (2_000_000, 1_000_000, "bf16", -1.0, 0.125),
        (4_000_000, 800_000, "fp32", 0.0, 2.0),
    ],
)


def test_bf16_is_the_upper_half_of_fp32_rounded_to_nearest() -> None:
    values = np.array([1, -2.5, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-7 + 2**-9], np.float32)
    # The second half way up goes to the even neighbour above, the first to the one below.
    np.testing.assert_array_equal(decode(encode(values, "bf16"), "bf16"), [1, -2.5, 1, 1 + 2**-6, 1 + 2**-7])


def test_weights_have_the_mean_and_the_spread_of_the_real_ones(tmp_path: Path) -> None:
    models = [SKELETON, replace(SKELETON, name="b")]
    for model in models:
        (tmp_path / model.name / "1").mkdir(parents=True)
    assert regenerate(tmp_path, models, threads=2) == 10_000_000
    stored = np.fromfile(tmp_path / "a/1/model.onnx.data", np.uint8)
    kinds: dict[str, Any] = {"fp16": "<f2", "bf16": "<u2", "fp32": "<f4"}
    for offset, length, dtype, mean, spread in SKELETON.tensors:
        values = decode(stored[offset : offset + length].view(kinds[dtype]), dtype)
        assert values.mean() == pytest.approx(mean, abs=0.01 * spread)
        assert values.std() == pytest.approx(spread, rel=0.01)
    assert (tmp_path / "b/1/model.onnx.data").samefile(tmp_path / "a/1/model.onnx.data")
    assert regenerate(tmp_path, models, threads=2) == 0


def test_an_engine_that_fails_does_not_keep_the_others_from_being_measured() -> None:
    calls = itertools.count()

    def fails() -> None:
        raise RuntimeError("Non-zero status code. Name:'conv_3' Status Message: CUDNN_FE failure 8: HEURISTIC\nmore")

    def fails_later() -> None:
        if next(calls) > 3:
            raise RuntimeError("CUDA failure 2: out of memory ; GPU=0")

    found = medians({"works": lambda: None, "fails": fails, "later": fails_later}, seconds=0.01)
    assert isinstance(found["works"], float)
    assert found["fails"] == "conv_3: CUDNN_FE failure 8: HEURISTIC"
    assert is_memory(found["later"])
    assert not is_memory(found["fails"])


def test_a_reason_is_one_line() -> None:
    assert reason_of(ValueError("\n first\nsecond")) == "first"
    assert reason_of(ValueError()) == "ValueError"


def test_operators_are_those_of_the_median_run_after_the_warm_up() -> None:
    events: list[dict[str, Any]] = []
    for start, milliseconds in ((0, 900), (1000, 900), (2000, 9), (3000, 3), (4000, 6)):
        args = {"op_name": "MatMul", "provider": "CUDAExecutionProvider", "input_type_shape": [{"float16": [2, 3]}]}
        events.append({"name": "model_run", "cat": "Session", "ts": 1e3 * start, "dur": 999e3})
        for index, share in enumerate((1, 2)):
            name = f"product_{index}_kernel_time"
            events.append(
                {
                    "name": name,
                    "cat": "Node",
                    "ts": 1e3 * start + index,
                    "dur": share * milliseconds * 1e3 / 3,
                    "args": args,
                }
            )
    found = operators(events)
    assert found["total_ms"] == pytest.approx(6)
    assert found["kinds"] == [{"kind": "MatMul", "provider": "CUDA", "count": 2, "ms": pytest.approx(6)}]
    assert [one["name"] for one in found["slowest"]] == ["product_1", "product_0"]
    assert found["slowest"][0]["shapes"].startswith("float16[2,3] → ")


class _Scaled:
    """A session whose embedding is the first samples of a clip, times a factor."""

    def __init__(self, factor: float) -> None:
        self._factor = factor

    def run(self, _outputs: list[str], feeds: dict[str, Any]) -> list[Any]:
        return [self._factor * feeds["waveform"][:, :64]]


def test_parity_counts_every_clip_and_refuses_what_is_no_number() -> None:
    found = parity(_Scaled(1.5), _Scaled(1))
    assert found["clips"] == sum(len(feeds["waveform"]) for feeds in batches()) == 6
    assert found["min_cosine"] == pytest.approx(1)
    assert found["relative_error"] == pytest.approx(0.5)
    with pytest.raises(ValueError, match="of the device are not finite"):
        parity(_Scaled(float("nan")), _Scaled(1))


def test_what_is_told_of_serving_is_the_measured_phase_alone() -> None:
    found: dict[str, Any] = {
        "clips": 9000,
        "seconds": 60.0,
        "clips_per_s": 900.0,
        "measured_clips": 5400,
        "measured_seconds": 6.0,
    }
    found |= {"steadiness": "steady", "bottleneck": "server", "mean_concurrency": 128.0, "server": None}
    line = served_line("large", "grpc", found, 1000.0)
    assert line.startswith("large through Triton by grpc: 900.0 clips/s (0.90 of in-process), steady, 5400 clips")
