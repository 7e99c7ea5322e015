"""Every tensor of an ONNX graph for one shape of its inputs: type, shape, and the few values that shapes depend on.

ONNX's own inference looks at one node at a time here, so that it has numbers where a whole graph would leave it names:
what a graph computes from shapes is computed. Weights that lie in a file of their own need not be there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONTRIB = "com.microsoft"
# Shapes and slice ends are this small; what is larger is data, of which only the shape counts.
_MOST_VALUES = 64


@dataclass(frozen=True)
class Tensor:
    """One tensor.

    Attributes:
        dtype: one of `TensorProto.DataType`.
        shape: all dimensions.
        constant: does not depend on the graph's inputs nor on their shapes; a runtime computes it once, at load.
        value: of a small tensor that depends on shapes alone; None where it depends on data or is large.
    """

    dtype: int
    shape: tuple[int, ...]
    constant: bool = False
    value: NDArray[Any] | None = None

    @property
    def size(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """How many bytes it takes."""
        # Not every release of ONNX has a NumPy type of two bytes for bfloat16.
        wide = 2 if self.dtype == TensorProto.BFLOAT16 else helper.tensor_dtype_to_np_dtype(self.dtype).itemsize
        return wide * self.size

    @property
    def dtype_name(self) -> str:
        """Such as `float16`."""
        return str(TensorProto.DataType.Name(self.dtype)).lower()

    def __str__(self) -> str:
        return f"{self.dtype_name}[{','.join(map(str, self.shape))}]"


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """The value of an attribute of `node`, or `default` where it has none."""
    return next((helper.get_attribute_value(found) for found in node.attribute if found.name == name), default)


def tensors_of(model: onnx.ModelProto, dimensions: dict[str, int]) -> dict[str, Tensor]:
    """Every tensor of `model` by name.

    Args:
        model: its nodes in the order in which they run, as ONNX wants it.
        dimensions: the sizes of the dimensions that the graph's inputs leave open, by name.

    Raises:
        ValueError: if the inputs have an open dimension of another name, or a shape depends on data.
    """
    tensors: dict[str, Tensor] = {}
    for initializer in model.graph.initializer:
        tensors[initializer.name] = _of_proto(initializer)
    for given in model.graph.input:
        if given.name not in tensors:
            kind = given.type.tensor_type
            tensors[given.name] = Tensor(kind.elem_type, tuple(_size(dim, dimensions) for dim in kind.shape.dim))
    for node in model.graph.node:
        inputs = [tensors[name] if name else None for name in node.input]
        found = zip(node.output, _outputs(model, node, inputs), strict=True)
        tensors |= {name: tensor for name, tensor in found if name}
    return tensors


def _size(dimension: onnx.TensorShapeProto.Dimension, sizes: dict[str, int]) -> int:
    if not dimension.dim_param:
        return dimension.dim_value
    if dimension.dim_param not in sizes:
        raise ValueError(f"the graph leaves a dimension {dimension.dim_param!r} open; known are {', '.join(sizes)}")
    return sizes[dimension.dim_param]


def _of_proto(proto: TensorProto) -> Tensor:
    shape = tuple(proto.dims)
    known = proto.data_location != TensorProto.EXTERNAL and math.prod(shape) <= _MOST_VALUES
    return Tensor(proto.data_type, shape, constant=True, value=numpy_helper.to_array(proto) if known else None)


def _outputs(model: onnx.ModelProto, node: onnx.NodeProto, inputs: list[Tensor | None]) -> list[Tensor]:
    """The outputs of `node`, one for each name, empty names included."""
    present = [tensor for tensor in inputs if tensor]
    if node.op_type == "Constant":
        evaluated = ReferenceEvaluator(node).run(None, {})
        return [_of_proto(numpy_helper.from_array(np.asarray(array))) for array in evaluated]
    constant = bool(present) and all(tensor.constant for tensor in present)
    if node.op_type in ("Shape", "Size"):
        (tensor,) = present
        size = np.array(tensor.size)
        shape = np.array(tensor.shape[attribute(node, "start", 0) : attribute(node, "end", None)], np.int64)
        value = shape if node.op_type == "Shape" else size
        return [Tensor(TensorProto.INT64, value.shape, tensor.constant, value)]
    inferred = _contrib(node, present) if node.domain == CONTRIB else _standard(model, node, inputs)
    values: list[Any] = [None] * len(inferred)
    small = all(math.prod(shape) <= _MOST_VALUES for _, shape in inferred)
    if small and node.domain != CONTRIB and present and all(tensor.value is not None for tensor in present):
        values = _values(model, node, inputs)
    return [Tensor(dtype, shape, constant, value) for (dtype, shape), value in zip(inferred, values, strict=True)]


def _standard(
    model: onnx.ModelProto, node: onnx.NodeProto, inputs: list[Tensor | None]
) -> list[tuple[int, tuple[int, ...]]]:
    """What ONNX infers of a node of its own, whose inputs are known."""
    declared, known = {}, {}
    for name, tensor in zip(node.input, inputs, strict=True):
        if tensor:
            declared[name] = helper.make_tensor_value_info(name, tensor.dtype, tensor.shape)
            if tensor.value is not None:
                known[name] = numpy_helper.from_array(tensor.value, name)
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    graph = helper.make_graph([node], "one", list(declared.values()), outputs, list(known.values()))
    alone = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    alone = onnx.shape_inference.infer_shapes(alone, check_type=True, strict_mode=True, data_prop=True)
    found = {value.name: value.type.tensor_type for value in alone.graph.output}
    result: list[tuple[int, tuple[int, ...]]] = []
    for name in node.output:
        if not name:
            result.append((int(TensorProto.UNDEFINED), (0,)))
            continue
        kind = found[name]
        if not kind.HasField("shape") or not all(dim.HasField("dim_value") for dim in kind.shape.dim):
            raise ValueError(f"the shape of {name!r} ({node.op_type} {node.name!r}) cannot be told without running it")
        result.append((kind.elem_type, tuple(dim.dim_value for dim in kind.shape.dim)))
    return result


def _values(model: onnx.ModelProto, node: onnx.NodeProto, inputs: list[Tensor | None]) -> list[Any]:
    """What `node` gives for the values of its inputs."""
    feeds = {name: tensor.value for name, tensor in zip(node.input, inputs, strict=True) if tensor}
    opsets = {opset.domain: opset.version for opset in model.opset_import}
    names = [name for name in node.output if name]
    found = dict(zip(names, ReferenceEvaluator(node, opsets=opsets).run(names, feeds), strict=True))
    return [np.asarray(found[name]) if name else None for name in node.output]


def _contrib(node: onnx.NodeProto, present: list[Tensor]) -> list[tuple[int, tuple[int, ...]]]:
    """What ONNX Runtime's own operators give; what is not known here has the shape of its first input."""
    first = present[0]
    shape = first.shape
    if node.op_type == "FusedMatMul":
        left, right = (tensor.shape for tensor in present[:2])
        if attribute(node, "transA", 0):
            left = (*left[:-2], left[-1], left[-2])
        if attribute(node, "transB", 0):
            right = (*right[:-2], right[-1], right[-2])
        shape = (*np.broadcast_shapes(left[:-2], right[:-2]), left[-2], right[-1])
    elif node.op_type == "MultiHeadAttention":
        if len(shape) == 5:  # queries, keys and values in one: [batch, frames, heads, 3, head size]
            shape = (*shape[:2], shape[2] * shape[4])
        elif len(node.input) > 2 and node.input[2] and len(present[2].shape) == 3:
            shape = (*shape[:2], present[2].shape[2])
    elif node.op_type == "NhwcConv":  # [batch, ..., channels], [output channels, kernel, ..., channels of a group]
        kernel = present[1].shape[1:-1]
        strides, dilations = (attribute(node, name, [1] * len(kernel)) for name in ("strides", "dilations"))
        pads = attribute(node, "pads", [0] * 2 * len(kernel))
        sizes = (
            (size + before + behind - dilation * (wide - 1) - 1) // stride + 1
            for size, before, behind, dilation, wide, stride in zip(
                shape[1:-1], pads[: len(kernel)], pads[len(kernel) :], dilations, kernel, strides, strict=True
            )
        )
        shape = (shape[0], *sizes, present[1].shape[0])
    elif node.op_type == "SkipLayerNormalization":  # the norm, mean and deviation, and the sum
        aside = (int(TensorProto.FLOAT), (*shape[:-1], 1))
        return [(first.dtype, shape), aside, aside, (first.dtype, shape)][: len(node.output)]
    return [(first.dtype, shape)] * len(node.output)
