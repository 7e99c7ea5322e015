"""The arithmetic of the prediction for a GPU, on graphs made by hand."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gpu_roofline
import numpy as np
import onnx
import pytest
from gpu_roofline import H100, Operator, Prediction, Rates, predict
from onnx import TensorProto, helper, numpy_helper

pytestmark = pytest.mark.torch

FP16, FP32 = TensorProto.FLOAT16, TensorProto.FLOAT
BATCH, SECONDS = 4, 0.01  # 160 samples
CONTRIB = "com.microsoft"


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    """Names are separated by spaces, `-` is none."""
    takes, gives = ([name.replace("-", "") for name in listed.split()] for listed in (inputs, outputs))
    contrib = kind in ("BiasGelu", "FusedMatMul", "MultiHeadAttention", "NhwcConv", "SkipLayerNormalization", "Strange")
    return helper.make_node(kind, takes, gives, gives[0], domain=CONTRIB if contrib else "", **attributes)


def predicted(
    folder: Path,
    nodes: Sequence[onnx.NodeProto],
    hidden: Sequence[int | str] = ("batch", "samples"),
    dtype: int = FP16,
    weights: Mapping[str, tuple[int, ...]] | None = None,
    integers: dict[str, list[int]] | None = None,
    rates: Rates = H100,
) -> Prediction:
    """A graph from `hidden` to the last node's first output; weights lie in a file that is not there."""
    initializers = []
    for name, shape in (weights or {}).items():
        tensor = TensorProto(name=name, data_type=dtype, dims=shape, data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="absent.data")
        initializers.append(tensor)
    for name, values in (integers or {}).items():
        initializers.append(numpy_helper.from_array(np.array(values, np.int64), name))
    given = [helper.make_tensor_value_info("hidden", dtype, list(hidden))]
    gives = [onnx.ValueInfoProto(name=nodes[-1].output[0])]
    graph = helper.make_graph(list(nodes), "graph", given, gives, initializers)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(CONTRIB, 1)]
    path = folder / "model.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())
    return predict(path, BATCH, SECONDS, rates)


def only(found: Prediction) -> Operator:
    (operator,) = found.operators
    return operator


def test_a_product_takes_its_flops_or_its_bytes(tmp_path: Path) -> None:
    product = [node("MatMul", "hidden weight", "out")]
    large = only(predicted(tmp_path, product, ("batch", 4096, 8192), weights={"weight": (8192, 8192)}))
    assert large.flops == 2 * 4 * 4096 * 8192 * 8192
    assert large.bytes == 2 * (2 * 4 * 4096 * 8192 + 8192 * 8192)
    assert large.bound == "FLOPs"
    assert large.seconds == pytest.approx(large.flops / 759e12)
    thin = only(predicted(tmp_path, product, ("batch", 4096, 8192), weights={"weight": (8192, 8)}))
    assert thin.bound == "bytes"
    assert thin.seconds == pytest.approx(thin.bytes / 3e12)
    small = only(predicted(tmp_path, product, ("batch", 2, 8), weights={"weight": (8, 8)}))
    assert small.bound == "kernel"
    assert small.seconds == 2e-6


def test_products_in_fp32_and_fp64_are_slower(tmp_path: Path) -> None:
    product = [node("MatMul", "hidden weight", "out")]
    weights = {"weight": (8192, 8192)}
    for dtype, tflops in ((FP16, 759), (TensorProto.BFLOAT16, 759), (FP32, 759 * 67 / 989)):
        found = only(predicted(tmp_path, product, ("batch", 4096, 8192), dtype, weights))
        assert found.seconds == pytest.approx(found.flops / (1e12 * tflops))


@pytest.mark.parametrize(
    ("kind", "hidden", "weight", "attributes", "flops", "shape"),
    [
        ("Conv", ("batch", 6, "samples"), (8, 3, 5), {"group": 2, "strides": [5]}, 4 * 8 * 32 * 3 * 5, "4,8,32"),
        ("NhwcConv", ("batch", "samples", 1, 6), (8, 3, 1, 6), {"strides": [2, 1]}, 4 * 8 * 79 * 3 * 6, "4,79,1,8"),
        ("Gemm", (7, "batch"), (9, 7), {"transA": 1, "transB": 1}, 4 * 7 * 9, "4,9"),
        ("FusedMatMul", (3, "batch", 7, 5), (6, 7), {"transA": 1, "transB": 1}, 3 * 4 * 5 * 7 * 6, "3,4,5,6"),
        ("MatMul", (3, 1, "batch", 5), (2, 5, 6), {}, 3 * 2 * 4 * 5 * 6, "3,2,4,6"),
    ],
)
def test_flops_and_shapes_of_products(
    tmp_path: Path,
    kind: str,
    hidden: tuple[int | str, ...],
    weight: tuple[int, ...],
    attributes: dict[str, Any],
    flops: int,
    shape: str,
) -> None:
    found = only(predicted(tmp_path, [node(kind, "hidden w", "out", **attributes)], hidden, weights={"w": weight}))
    assert found.flops == 2 * flops
    assert found.shapes.endswith(f"→ fp16[{shape}]")


def test_fused_operators(tmp_path: Path) -> None:
    """As in the graphs for CUDA: attention, residual with norm (its sum is output 3), bias with GELU."""
    nodes = [
        node("MatMul", "hidden wq", "q"),
        node("MatMul", "hidden wk", "k"),
        node("MatMul", "hidden wv", "v"),
        node("MultiHeadAttention", "q k v - - scores", "mixed", num_heads=4),
        node("SkipLayerNormalization", "mixed hidden gain shift bias", "normed - - summed"),
        node("BiasGelu", "normed bias", "activated"),
        node("Add", "activated summed", "out"),
    ]
    weights: dict[str, tuple[int, ...]] = dict.fromkeys(("wq", "wk", "wv"), (16, 16))
    weights |= {"gain": (16,), "shift": (16,), "bias": (16,), "scores": (1, 4, 160, 160)}
    found = predicted(tmp_path, nodes, ("batch", "samples", 16), weights=weights)
    state = 2 * 4 * 160 * 16
    (attention,) = found.of("MultiHeadAttention")
    assert attention.flops == 4 * 4 * 160 * 160 * 16
    assert attention.bytes == 4 * state + 2 * 4 * 160 * 160
    assert found.of("SkipLayerNormalization")[0].bytes == 4 * state + 3 * 2 * 16
    assert found.of("BiasGelu")[0].bytes == 2 * state + 2 * 16
    assert found.of("Add")[0].bytes == 3 * state
    assert found.flops == attention.flops + 3 * 2 * 4 * 160 * 16 * 16
    assert found.share_of_limit == pytest.approx(found.flops / 759e12 / (1e-3 * found.milliseconds))
    assert found.clips_per_second == pytest.approx(4 / (1e-3 * found.milliseconds))


def test_what_shapes_alone_tell_costs_nothing(tmp_path: Path) -> None:
    """A runtime gets those from shapes, and computes once at load what depends on weights alone."""
    nodes = [
        node("Shape", "hidden", "length", start=1, end=2),
        node("Div", "length two", "half"),
        node("Concat", "all half two", "shape", axis=0),
        node("Reshape", "hidden shape", "pairs"),
        node("Slice", "pairs start half axis", "picked"),
        node("Transpose", "weight", "turned", perm=[1, 0]),
        node("MatMul", "picked turned", "out"),
    ]
    integers = {"two": [2], "all": [0], "start": [1], "axis": [1]}
    found = predicted(tmp_path, nodes, weights={"weight": (6, 2)}, integers=integers)
    assert [(one.kind, one.shapes.split(" → ")[1]) for one in found.operators] == [
        ("Slice", "fp16[4,79,2]"),
        ("MatMul", "fp16[4,79,6]"),
    ]
    picked = 2 * 4 * 79 * 2
    assert found.operators[0].bytes == 2 * picked + 3 * 8  # what it picks, not what it picks from


def test_casts_say_what_they_join(tmp_path: Path) -> None:
    nodes = [
        node("Cast", "hidden", "same", to=FP16),
        node("Gelu", "same", "gelu"),
        node("Unsqueeze", "gelu axis", "view"),
        node("Cast", "view", "wide", to=FP32),
        node("Softmax", "wide", "softmax"),
        node("Cast", "softmax", "out", to=FP16),
    ]
    up, down = predicted(tmp_path, nodes, integers={"axis": [1]}).of("Cast")
    assert (up.shapes, up.before, up.after) == ("fp16[4,1,160] → fp32[4,1,160]", ("Gelu",), ("Softmax",))
    assert (down.before, down.after) == (("Softmax",), ("output",))
    assert up.bytes == (2 + 4) * 4 * 160


FUSED = [
    node("MatMul", "turned_3 wq", "q"),
    node("MatMul", "turned_3 wk", "k"),
    node("MatMul", "turned_3 wv", "v"),
    node("MultiHeadAttention", "q k v", "mixed", num_heads=4),
]
PLAIN = [
    *FUSED[:3],
    node("Transpose", "k", "turned_k", perm=[0, 2, 1]),
    node("MatMul", "q turned_k", "scores"),
    node("Softmax", "scores", "shares"),
    node("MatMul", "shares v", "mixed"),
]


@pytest.mark.parametrize("attention", [FUSED, PLAIN], ids=["fused", "plain"])
@pytest.mark.parametrize("first", ["Conv", "MatMul"])
def test_transposes_between_convolutions_are_told_from_others(
    tmp_path: Path, first: str, attention: list[onnx.NodeProto]
) -> None:
    """Products that stand for convolutions count as such; queries, keys, values and what is behind them do not."""
    nodes = [
        node("Transpose", "hidden", "turned_0", perm=[0, 2, 1]),
        node(first, f"turned_0 {first}", "first"),
        node("Transpose", "first", "turned_1", perm=[0, 2, 1]),
        node("Gelu", "turned_1", "gelu"),
        node("MatMul", "gelu w", "second"),
        node("Transpose", "second", "turned_2", perm=[1, 0, 2]),
        node("Transpose", "turned_2", "turned_3", perm=[1, 0, 2]),
        *attention,
        node("Add", "mixed turned_3", "added"),
        node("Transpose", "added", "turned_4", perm=[0, 2, 1]),
        node("Transpose", "turned_4", "turned_5", perm=[0, 2, 1]),
        node("MatMul", "turned_5 wq", "out"),
    ]
    weights = {"Conv": (16, 16, 1), "MatMul": (160, 160)} | dict.fromkeys(("w", "wq", "wk", "wv"), (16, 16))
    found = predicted(tmp_path, nodes, ("batch", "samples", 16), weights=weights)
    assert [one.name for one in found.of("Transpose") if one.between_convolutions] == ["turned_1"]


def test_other_rates(tmp_path: Path) -> None:
    rates = Rates(tflops=100, bandwidth=1, kernel=50)
    found = only(predicted(tmp_path, [node("Gelu", "hidden", "out")], rates=rates))
    assert found.bound == "kernel"
    assert found.seconds == pytest.approx(50e-6)
    wide = only(predicted(tmp_path, [node("Gelu", "hidden", "out")], ("batch", 10**8), rates=rates))
    assert wide.bound == "bytes"
    assert wide.seconds == pytest.approx(2 * 2 * 4e8 / 1e12)


def test_what_it_cannot_tell(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dimension 'frames' open; known are batch, samples"):
        predicted(tmp_path, [node("Gelu", "hidden", "out")], ("batch", "frames"))
    with pytest.raises(ValueError, match=r"the shape of 'out' \(NonZero 'out'\) cannot be told without running it"):
        predicted(tmp_path, [node("NonZero", "hidden", "out")])


def test_the_command_prints_tables_and_names_the_unknown(tmp_path: Path) -> None:
    nodes = [node("Strange", "hidden", "strange"), node("Transpose", "strange", "out", perm=[1, 0])]
    predicted(tmp_path, nodes)
    command = [sys.executable, gpu_roofline.__file__, str(tmp_path / "model.onnx"), "--batch", "4", "--seconds", "0.01"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "4 clips of 0.01 s: predicted 0.00 ms, 1,000,000 clips/s" in done.stdout
    assert "Strange (unknown)" in done.stdout
    assert "Transpose: 1, 0 between convolutions" in done.stdout
    assert "Cast: 0" in done.stdout
