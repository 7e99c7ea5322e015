"""A graph for CUDA as one that a CPU can run, to verify it on a machine without a GPU.

The operators stay those of the graph, in ONNX Runtime's kernels for CPUs. Channels-last convolutions, which those lack,
become plain ones between transposes. What fp16 rounds, they round themselves. They know neither bf16 nor TF32: there
the twin computes in fp32 and rounds, every value of a bf16 graph to bf16's 8 significant bits, and what enters a
product of a TF32 graph to TF32's 11. What a twin cannot show are the sums inside a GPU's kernels; those are in fp32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto, helper, numpy_helper

from arch_export.encoder.precision import Precision

if TYPE_CHECKING:
    from pathlib import Path

_SIGNIFICANT_BITS = {Precision.BF16: 8, Precision.TF32: 11}
_FP32_BITS = 24
_PRODUCTS = ("MatMul", "Conv", "MultiHeadAttention")


def write_cpu_twin(path: Path, precision: Precision) -> Path:
    """Write the twin of the graph `path` beside it, over the same weights, and return its path.

    Args:
        path: a graph for CUDA.
        precision: that of the graph.
    """
    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    nodes = [twin for node in graph.node for twin in _plain_convolution(node)]
    if precision is Precision.BF16:
        nodes = _in_fp32(graph, nodes)
    elif precision is Precision.TF32:
        nodes = _with_rounded_operands(graph, nodes)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    twin = path.with_name(f"{path.stem}.twin.onnx")
    onnx.save_model(model, twin)
    return twin


def _plain_convolution(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """`NhwcConv` as `Conv`; any other node as it is."""
    if node.op_type != "NhwcConv":
        return [node]
    data, weight, output = node.input[0], node.input[1], node.output[0]
    convolution = helper.make_node("Conv", [f"{output}_nchw_in", f"{output}_oihw"], [f"{output}_nchw_out"])
    convolution.attribute.extend(node.attribute)
    return [
        helper.make_node("Transpose", [data], [f"{output}_nchw_in"], perm=[0, 3, 1, 2]),
        helper.make_node("Transpose", [weight], [f"{output}_oihw"], perm=[0, 3, 1, 2]),
        convolution,
        helper.make_node("Transpose", [f"{output}_nchw_out"], [output], perm=[0, 2, 3, 1]),
    ]


def _in_fp32(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Every value that is bf16 becomes fp32, rounded to bf16."""
    halves = {one.name for one in graph.value_info if one.type.tensor_type.elem_type == TensorProto.BFLOAT16}
    weights = [tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.BFLOAT16]
    twins = [helper.make_node("Cast", [name], [f"{name}_fp32"], to=TensorProto.FLOAT) for name in weights]
    renamed = {name: f"{name}_fp32" for name in weights}
    for node in nodes:
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == TensorProto.BFLOAT16:
                attribute.i = TensorProto.FLOAT
            if attribute.HasField("t") and attribute.t.data_type == TensorProto.BFLOAT16:
                value = numpy_helper.to_array(attribute.t).astype("float32")
                attribute.t.CopyFrom(numpy_helper.from_array(value))
        twins.append(node)
        for index, name in enumerate(node.output):
            if name in halves:
                node.output[index] = f"{name}_exact"
                twins += _rounded(graph, f"{name}_exact", name, _SIGNIFICANT_BITS[Precision.BF16])
    return twins


def _with_rounded_operands(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    twins: list[onnx.NodeProto] = []
    doubles = {one.name for one in graph.value_info if one.type.tensor_type.elem_type == TensorProto.DOUBLE}
    done: set[str] = set()
    for node in nodes:
        if node.op_type in _PRODUCTS and not doubles.intersection([*node.input, *node.output]):
            operands = 3 if node.op_type == "MultiHeadAttention" else 2
            for index, name in enumerate(node.input[:operands]):
                if name not in done:
                    twins += _rounded(graph, name, f"{name}_tf32", _SIGNIFICANT_BITS[Precision.TF32])
                    done.add(name)
                node.input[index] = f"{name}_tf32"
        twins.append(node)
    return twins


def _rounded(graph: onnx.GraphProto, name: str, output: str, bits: int) -> list[onnx.NodeProto]:
    """Round fp32 to so many significant bits by Veltkamp's splitting: c = (2^s + 1) x, and then c - (c - x)."""
    factor = f"splitter_of_{bits}"
    if not any(tensor.name == factor for tensor in graph.initializer):
        value = helper.make_tensor(factor, TensorProto.FLOAT, [], [float(2 ** (_FP32_BITS - bits) + 1)])
        graph.initializer.append(value)
    scaled, rest = f"{output}_scaled", f"{output}_rest"
    return [
        helper.make_node("Mul", [name, factor], [scaled]),
        helper.make_node("Sub", [scaled, name], [rest]),
        helper.make_node("Sub", [scaled, rest], [output]),
    ]
