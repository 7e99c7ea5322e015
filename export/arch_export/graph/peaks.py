"""The largest magnitude of values inside a graph: what fp16, which ends at 65504, has to hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

FP16_MAX = 65504.0


def fp16_values(path: Path) -> set[str]:
    """The names of the values that a graph holds in fp16."""
    graph = onnx.load(path, load_external_data=False).graph
    return {one.name for one in graph.value_info if one.type.tensor_type.elem_type == TensorProto.FLOAT16}


def largest_magnitude(
    model: onnx.ModelProto,
    names: Collection[str],
    folder: Path,
    feeds: Iterable[dict[str, NDArray[np.generic]]],
) -> float:
    """Run a graph on the CPU and take the peak of each of the named values; infinity where one overflows.

    Args:
        model: the graph; changed to also give the peaks.
        names: of fp32 or fp16 values.
        folder: where its weights lie, should they be external.
        feeds: inputs to try.
    """
    peaks, nodes = [], []
    for node in model.graph.node:
        nodes.append(node)
        for name in node.output:
            if name not in names:
                continue
            peak = f"peak_of_{name}"
            nodes.append(helper.make_node("Cast", [name], [f"{peak}_fp32"], to=TensorProto.FLOAT))
            nodes.append(helper.make_node("Abs", [f"{peak}_fp32"], [f"{peak}_abs"]))
            nodes.append(helper.make_node("ReduceMax", [f"{peak}_abs"], [peak], keepdims=0))
            model.graph.output.append(helper.make_tensor_value_info(peak, TensorProto.FLOAT, []))
            peaks.append(peak)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    options = onnxruntime.SessionOptions()
    # In the order of the file, each peak right after its value: taken last, all values would be in memory together.
    options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    options.enable_cpu_mem_arena = False
    probe = folder / "peaks.onnx"
    try:
        onnx.save_model(model, probe)
        session = onnxruntime.InferenceSession(probe, options, providers=["CPUExecutionProvider"])
        return float(max(np.max(session.run(peaks, feed)) for feed in feeds))
    finally:
        probe.unlink(missing_ok=True)
