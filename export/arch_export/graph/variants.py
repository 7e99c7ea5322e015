"""The fp32 graph in other precisions."""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from arch_common.errors import ExportError, reason_of
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import ExternalDataInfo, load_external_data_for_tensor

from arch_export.encoder.precision import Precision
from arch_export.graph.peaks import largest_magnitude
from arch_export.graph.trace import EXTERNAL_DATA_FROM

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

# In fp32 whatever the precision: statistics over many values.
_SENSITIVE = ("LayerNormalization", "InstanceNormalization", "GroupNormalization", "ReduceMean", "ReduceSum")
_ACTIVATIONS = ("Gelu", "Relu")
# A product with fewer output channels costs less than to quantise its activations.
_FEWEST_CHANNELS = 16
_ALIGNMENT = 4096  # of weights in a file of their own, so that a runtime can map them


def write_variant(fp32: Path, path: Path, precision: Precision) -> None:
    """Write the fp32 graph `fp32` to `path` in fp16 or int8.

    Raises:
        ExportError: if the conversion fails.
    """
    try:
        if precision is Precision.FP16:
            _write_fp16(fp32, path)
        else:
            _write_int8(fp32, path)
    except (OSError, ExportError):
        raise
    except Exception as error:  # the converters raise whatever a graph they do not know provokes
        raise ExportError(f"the graph cannot be converted to {precision}: {reason_of(error)}") from error


def _write_fp16(fp32: Path, path: Path) -> None:
    """Convert the graph without the weights that lie in a file of their own, and then those, one by one.

    With all of them in memory, the converter takes five times their size, and it takes none of more than 2 GB.
    """
    from onnxruntime.transformers.float16 import convert_np_to_float16

    model = onnx.shape_inference.infer_shapes(onnx.load(fp32, load_external_data=False))
    apart: dict[str, _Apart] = {}
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            apart[tensor.name] = _Apart.of(tensor)
            # The converter looks at every weight's shape, but not into those that hold nothing.
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
            tensor.dims[:], tensor.raw_data = [0], b""
    _to_fp16(model)
    del model.graph.value_info[:]  # some have that shape now; a runtime infers them again
    data = path.with_name(f"{path.name}.data")
    with data.open("wb") if apart else contextlib.nullcontext() as file:
        for tensor in model.graph.initializer:
            if file is None or tensor.name not in apart:
                continue
            weights = apart[tensor.name]
            values = weights.read(fp32.parent)
            if tensor.data_type == TensorProto.FLOAT16:
                values = convert_np_to_float16(values)
            file.seek(-file.tell() % _ALIGNMENT, os.SEEK_CUR)
            tensor.ClearField("raw_data")
            tensor.dims[:], tensor.data_location = weights.dims, TensorProto.EXTERNAL
            for key, value in (("location", data.name), ("offset", file.tell()), ("length", values.nbytes)):
                tensor.external_data.add(key=key, value=str(value))
            values.tofile(file)
    onnx.save_model(model, path)


@dataclass(frozen=True)
class _Apart:
    """Weights that lie in a file of their own."""

    dims: list[int]
    dtype: np.dtype[Any]
    location: str
    offset: int

    @classmethod
    def of(cls, tensor: onnx.TensorProto) -> _Apart:
        info = ExternalDataInfo(tensor)
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        return cls(list(tensor.dims), dtype, info.location, info.offset or 0)

    def read(self, folder: Path) -> NDArray[Any]:
        """All values, without their shape."""
        return np.fromfile(folder / self.location, self.dtype, int(np.prod(self.dims)), offset=self.offset)


def _to_fp16(model: onnx.ModelProto) -> None:
    """Convert a graph in place; it must have its shapes."""
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    # The converter needs a name for every node, and writes about every weight it rounds to zero.
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"node_{index}"
    logger = logging.getLogger("onnxruntime.transformers.float16")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        convert_float_to_float16(
            model,
            keep_io_types=True,
            disable_shape_infer=True,
            op_block_list=[*DEFAULT_OP_BLOCK_LIST, *_SENSITIVE],
            node_block_list=sorted(_feature_encoder(model.graph) | _pooling(model.graph)),
        )
    finally:
        logger.setLevel(level)
    _join_casts(model.graph)


def _join_casts(graph: onnx.GraphProto) -> None:
    """Take out every way from fp32 to fp16 and back, in place.

    The converter puts one between any two nodes that stay in fp32, and before and behind the first and last: what they
    hand on would be rounded all the same, and a sum over frames overflow.
    """
    makers = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        before = makers.get(node.input[0]) if node.op_type == "Cast" and _cast_to(node) == TensorProto.FLOAT else None
        if before is not None and before.op_type == "Cast" and _cast_to(before) == TensorProto.FLOAT16:
            node.op_type = "Identity"
            node.ClearField("attribute")
            node.input[0] = before.input[0]
    used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    nodes = [node for node in graph.node if node.op_type != "Cast" or used.intersection(node.output)]
    # The converter appends its casts at the end; ONNX wants every node behind those that it takes from.
    makers = {output: index for index, node in enumerate(nodes) for output in node.output}
    order = TopologicalSorter(
        {index: [makers[name] for name in node.input if name in makers] for index, node in enumerate(nodes)}
    )
    del graph.node[:]
    graph.node.extend(nodes[index] for index in order.static_order())


def _cast_to(node: onnx.NodeProto) -> int:
    return int(next(attribute.i for attribute in node.attribute if attribute.name == "to"))


def _feature_encoder(graph: onnx.GraphProto) -> set[str]:
    """The nodes before the first activation: waveform normaliser, first convolution, its norm."""
    first = next((node for node in graph.node if node.op_type in _ACTIVATIONS), None)
    makers = {output: node for node in graph.node for output in node.output}
    found: set[str] = set()
    pending = list(first.input) if first else []
    while pending:
        node = makers.get(pending.pop())
        if node is not None and node.name not in found:
            found.add(node.name)
            pending += node.input
    return found


def _pooling(graph: onnx.GraphProto) -> set[str]:
    """What takes a sum over frames, such as the division by their number: the sum itself may exceed fp16."""
    sums = {output for node in graph.node if node.op_type == "ReduceSum" for output in node.output}
    return {node.name for node in graph.node if sums.intersection(node.input)}


def _write_int8(fp32: Path, path: Path) -> None:
    """Quantise the matrix products with weights, and give them the form that ONNX Runtime runs as one operator.

    The scheme is that of ONNX Runtime's `quantize_dynamic` for MatMul: uint8 activations with one scale and zero point
    for a whole tensor, taken as it comes; symmetric int8 weights with a scale for each output channel, because the
    channels of a trained encoder differ a hundredfold, in all 8 bits, which CPUs with VNNI multiply without overflow.
    Its code holds the weights more than three times over. Convolutions stay in fp32: ConvInteger is slow, and the
    feature encoder as integer products brought the mean cosine of HuBERT-base to 0.77.
    """
    model = onnx.load(fp32, load_external_data=False)
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    quantised: dict[str, list[str]] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        weight = weights.get(node.input[1]) if node.op_type == "MatMul" else None
        if weight is None or weight.data_type != TensorProto.FLOAT or not _worth_int8(list(weight.dims)):
            nodes.append(node)
            continue
        activation, output = node.input[0], node.output[0]
        if activation not in quantised:
            quantised[activation] = [f"{activation}_{part}" for part in ("quantized", "scale", "zero_point")]
            nodes.append(helper.make_node("DynamicQuantizeLinear", [activation], quantised[activation]))
        names = [f"{weight.name}_{part}" for part in ("quantized", "scale", "zero_point")]
        if names[0] not in weights:
            for name, part in zip(names, _quantise(_values(weight, fp32.parent)), strict=True):
                weights[name] = numpy_helper.from_array(part, name)
                graph.initializer.append(weights[name])
        (integers, scale, zero), (q_weight, w_scale, w_zero) = quantised[activation], names
        nodes += [
            helper.make_node("MatMulInteger", [integers, q_weight, zero, w_zero], [f"{output}_int32"]),
            helper.make_node("Cast", [f"{output}_int32"], [f"{output}_sums"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [scale, w_scale], [f"{output}_scales"]),
            helper.make_node("Mul", [f"{output}_sums", f"{output}_scales"], [output]),
        ]
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    for tensor in kept:
        if tensor.data_location == TensorProto.EXTERNAL:
            load_external_data_for_tensor(tensor, str(fp32.parent))
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
    del graph.initializer[:]
    graph.initializer.extend(kept)
    if sum(len(tensor.raw_data) for tensor in kept) > EXTERNAL_DATA_FROM:
        onnx.save_model(model, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=1024)
    else:
        onnx.save_model(model, path)


def _worth_int8(dims: list[int]) -> bool:
    """Whether a product with a weight of this shape costs more than to quantise what it takes: not WavLM's gates."""
    return len(dims) == 2 and dims[1] >= _FEWEST_CHANNELS


def _values(tensor: onnx.TensorProto, folder: Path) -> NDArray[Any]:
    if tensor.data_location == TensorProto.EXTERNAL:
        return _Apart.of(tensor).read(folder).reshape(tuple(tensor.dims))
    return numpy_helper.to_array(tensor)


def _quantise(weight: NDArray[np.float32]) -> tuple[NDArray[Any], ...]:
    """FP32 [in, out] -> INT8 [in, out], its scales FP32 [out] and zero points INT8 [out], all 0."""
    peaks = np.abs(weight).max(axis=0)
    scales = np.where(peaks > 0, peaks / 127, 1).astype(np.float32)
    return np.rint(weight / scales).astype(np.int8), scales, np.zeros(len(scales), dtype=np.int8)


def fp16_peak(fp32: Path, feeds: Iterable[dict[str, NDArray[np.generic]]]) -> float:
    """The largest magnitude that the fp32 graph gives to a value which its fp16 variant holds in fp16.

    A CPU computes fp16 by way of fp32 and hides an overflow, which a GPU would answer with infinity. So it is looked
    for in the fp32 graph.

    Args:
        fp32: the fp32 graph.
        feeds: inputs to try.
    """
    model = onnx.shape_inference.infer_shapes(onnx.load(fp32, load_external_data=False))
    floats = {one.name for one in model.graph.value_info if one.type.tensor_type.elem_type == TensorProto.FLOAT}
    kept = _feature_encoder(model.graph) | _pooling(model.graph)
    halved = [node for node in model.graph.node if node.op_type not in _SENSITIVE and node.name not in kept]
    # What the nodes in fp16 give, and what they take from those in fp32.
    names = floats.intersection(name for node in halved for name in (*node.output, *node.input))
    return largest_magnitude(model, names, fp32.parent, feeds)
