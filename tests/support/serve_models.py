"""Small ONNX models in a Triton model repository, for the tests of arch_serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from pathlib import Path

WIDTH = 4

CONFIG = """\
backend: "onnxruntime"
max_batch_size: {max_batch_size}
input [ {{ name: "x" data_type: TYPE_FP32 dims: [ {dims} ] }} ]
output [
  {{ name: "double" data_type: TYPE_FP32 dims: [ {dims} ] }},
  {{ name: "sum" data_type: TYPE_FP32 dims: [ {sum_dims} ] }}
]
instance_group [ {{ kind: {kind} count: {count} }} ]
{extra}
"""

BATCHING = "dynamic_batching { max_queue_delay_microseconds: 20000 }"


def add_model(
    repository: Path,
    name: str,
    *,
    count: int = 1,
    extra: str = BATCHING,
    kind: str = "KIND_CPU",
    max_batch_size: int = 16,
    fail_on_negative: bool = False,
) -> None:
    """Add a model with the outputs `double` = 2 x and `sum` = the sum over the last axis.

    `fail_on_negative` makes the graph fail at run time for a batch in which a sum is negative.
    """
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    onnx.save(_graph(fail_on_negative), folder / "model.onnx")
    dims, sum_dims = (f"{WIDTH}", "1") if max_batch_size else (f"-1, {WIDTH}", "-1, 1")
    config = CONFIG.format(
        count=count, dims=dims, extra=extra, kind=kind, max_batch_size=max_batch_size, sum_dims=sum_dims
    )
    (repository / name / "config.pbtxt").write_text(config)


def _graph(fail_on_negative: bool) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["double"]),
        helper.make_node("ReduceSum", ["x", "last"], ["sum" if not fail_on_negative else "plain"], keepdims=1),
    ]
    constants = [
        numpy_helper.from_array(np.array([2.0], np.float32), "two"),
        numpy_helper.from_array(np.array([1], np.int64), "last"),
    ]
    if fail_on_negative:
        # Gathering index -1000 of an axis of length 1 is an error at run time, one of index 0 is not.
        constants += [
            numpy_helper.from_array(np.array([0.0], np.float32), "zero"),
            numpy_helper.from_array(np.array([-1000], np.int64), "outside"),
        ]
        nodes += [
            helper.make_node("Less", ["plain", "zero"], ["negative"]),
            helper.make_node("Cast", ["negative"], ["flag"], to=TensorProto.INT64),
            helper.make_node("ReduceMax", ["flag"], ["any"], keepdims=0),
            helper.make_node("Mul", ["any", "outside"], ["index"]),
            helper.make_node("Gather", ["plain", "index"], ["sum"], axis=1),
        ]
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", WIDTH])]
    outputs = [
        helper.make_tensor_value_info("double", TensorProto.FLOAT, ["batch", WIDTH]),
        helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["batch", 1]),
    ]
    graph = helper.make_graph(nodes, "test", values, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    onnx.checker.check_model(model)
    return model
