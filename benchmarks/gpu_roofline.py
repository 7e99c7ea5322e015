"""A prediction, without a GPU, of how long an exported graph takes on one: its FLOPs and bytes at an H100's rates.

    python benchmarks/gpu_roofline.py models/hubert-large-fp16/1/model.onnx --batch 16 --seconds 10

Each operator takes the longest of its FLOPs at the rate of matrix products, its bytes at the rate of memory, and the
least that a kernel takes. That steers and does not measure: kernels reach less of either rate, and ONNX Runtime's
fusions save bytes that are counted here. The weights need not be there, the graph alone is read.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import onnx
from graph_shapes import Tensor, attribute, tensors_of
from onnx import TensorProto
from rich.console import Console
from rich.table import Table

SAMPLE_RATE = 16000
# What ONNX Runtime renames, or answers from shapes alone.
VIEWS = {"Constant", "Flatten", "Identity", "Reshape", "Shape", "Size", "Squeeze", "Unsqueeze"}
CONVOLUTIONS = {"Conv", "NhwcConv"}
PRODUCTS = CONVOLUTIONS | {"FusedMatMul", "Gemm", "MatMul", "MultiHeadAttention"}
# Read only as much of their first input as they write.
PICKING = {"Gather", "GatherElements", "GatherND", "Slice"}
# Read their inputs and write their outputs once. Everything else is taken for the same, and listed as unknown.
_STREAMING = """
Abs Add And BiasGelu Cast Clip Concat ConstantOfShape Cos CumSum Div Equal Erf Exp Expand FastGelu Floor Gelu Greater
GreaterOrEqual GroupNormalization InstanceNormalization IsNaN LayerNormalization Less LessOrEqual Log LogSoftmax Max Min
Mod Mul Neg Not Or Pad Pow QuickGelu Range Reciprocal ReduceMax ReduceMean ReduceMin ReduceSum Relu Sigmoid Sign Sin
SkipLayerNormalization Softmax Split Sqrt Sub Sum Tanh Tile Transpose Trilu Where
"""
STREAMING = PICKING | set(_STREAMING.split())
_SHORT = {"float16": "fp16", "float": "fp32", "double": "fp64", "bfloat16": "bf16"}


@dataclass(frozen=True)
class Rates:
    """What the card reaches.

    Attributes:
        tflops: TFLOP/s of dense products in fp16 and bf16; measured on an H100 SXM.
        bandwidth: TB/s of a copy, read and write together; measured there.
        kernel: microseconds that the smallest kernel takes with its launch; an assumption.
    """

    tflops: float = 759.0
    bandwidth: float = 3.0
    kernel: float = 2.0

    def flops(self, dtype: int) -> float:
        """FLOP/s of products of operands of `dtype`.

        By the H100 SXM datasheet 67 TFLOP/s in fp32, without TF32, and in fp64's tensor cores, beside 989 in fp16: the
        same share of what fp16 was measured to reach.
        """
        share = 1 if dtype in (TensorProto.FLOAT16, TensorProto.BFLOAT16) else 67 / 989
        return 1e12 * self.tflops * share


H100 = Rates()


@dataclass(frozen=True)
class Operator:
    """One node that costs time.

    Attributes:
        name: that of the node.
        kind: its operator type.
        shapes: types and shapes of inputs and outputs.
        flops: of products; what else computes is bound by its bytes.
        bytes: read and written.
        seconds: predicted.
        bound: what takes them: `FLOPs`, `bytes` or `kernel`.
        before: the operator types that its inputs come from, views left out; `input` or `weights` where none.
        after: those that take its outputs; `output` where none.
        between_convolutions: it stands between two products of the convolutional front.
    """

    name: str
    kind: str
    shapes: str
    flops: int
    bytes: int
    seconds: float
    bound: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    between_convolutions: bool


@dataclass(frozen=True)
class Prediction:
    """A graph at one shape.

    Attributes:
        batch: clips.
        rates: of the card.
        operators: the nodes that cost time, in the graph's order.
    """

    batch: int
    rates: Rates
    operators: list[Operator]

    @property
    def milliseconds(self) -> float:
        """Of one batch."""
        return 1e3 * sum(operator.seconds for operator in self.operators)

    @property
    def clips_per_second(self) -> float:
        """Of batches one after the other."""
        return 1e3 * self.batch / self.milliseconds

    @property
    def flops(self) -> int:
        """Of all products of one batch."""
        return sum(operator.flops for operator in self.operators)

    @property
    def share_of_limit(self) -> float:
        """Of the time that the products alone would take, were all of them in fp16."""
        return self.flops / (1e12 * self.rates.tflops) / (1e-3 * self.milliseconds)

    def of(self, kind: str) -> list[Operator]:
        """The operators of one type."""
        return [operator for operator in self.operators if operator.kind == kind]


def predict(path: Path | str, batch: int, seconds: float, rates: Rates = H100) -> Prediction:
    """What the graph at `path` takes on a GPU for `batch` clips of `seconds`.

    Raises:
        ValueError: if the graph leaves other dimensions open than these, or a shape depends on data.
    """
    model = onnx.load(path, load_external_data=False)
    tensors = tensors_of(model, {"batch": batch, "samples": round(seconds * SAMPLE_RATE)})
    graph = _Graph(model.graph, tensors)
    convolutions = graph.convolutions()
    operators = []
    for index, node in enumerate(model.graph.node):
        if index in graph.free:
            continue
        inputs = [tensors[name] for name in node.input if name]
        outputs = [tensors[name] for name in node.output if name]
        flops, moved = flops_of(node, tensors), bytes_of(node, tensors)
        takes = {
            "FLOPs": flops / rates.flops(inputs[0].dtype if inputs else TensorProto.FLOAT16),
            "bytes": moved / (1e12 * rates.bandwidth),
            "kernel": 1e-6 * rates.kernel,
        }
        bound = max(takes, key=takes.__getitem__)
        between = all(graph.nearest(index, step, graph.products) & convolutions for step in (graph.above, graph.below))
        operators.append(
            Operator(
                node.name,
                node.op_type,
                _short(f"{' '.join(map(str, inputs))} → {' '.join(map(str, outputs))}"),
                flops,
                moved,
                takes[bound],
                bound,
                graph.kinds(index, graph.above) or (_source(inputs),),
                graph.kinds(index, graph.below) or ("output",),
                between,
            )
        )
    return Prediction(batch, rates, operators)


def flops_of(node: onnx.NodeProto, tensors: dict[str, Tensor]) -> int:
    """Of a product, two for each multiplication and addition; 0 for what is none."""
    if node.op_type not in PRODUCTS:
        return 0
    left, output = tensors[node.input[0]].shape, tensors[node.output[0]]
    if node.op_type in CONVOLUTIONS:  # the weights: output channels, then kernel and input channels of a group
        return 2 * output.size * math.prod(tensors[node.input[1]].shape[1:])
    if node.op_type == "MultiHeadAttention":
        frames = tensors[node.input[1]].shape[1] if len(node.input) > 1 and node.input[1] else left[1]
        features = left[2] * left[4] if len(left) == 5 else left[2]
        return 2 * math.prod(left[:2]) * frames * (features + output.shape[2])  # scores, and their sums of the values
    inner = left[-2] if attribute(node, "transA", 0) else left[-1]
    return 2 * output.size * inner


def bytes_of(node: onnx.NodeProto, tensors: dict[str, Tensor]) -> int:
    """Read and written, each tensor once; attention as one kernel that keeps its scores to itself."""
    written = sum(tensors[name].bytes for name in node.output if name)
    read = [tensors[name].bytes for name in dict.fromkeys(node.input) if name]
    if node.op_type in PICKING:
        read[0] = min(read[0], written)
    return written + sum(read)


class _Graph:
    """Who feeds whom: nodes by index."""

    def __init__(self, graph: onnx.GraphProto, tensors: dict[str, Tensor]) -> None:
        self.nodes = graph.node
        # Only of data: what is known before the graph runs joins nothing.
        data = {name for name, tensor in tensors.items() if not tensor.constant and tensor.value is None}
        self._makers = {name: index for index, node in enumerate(self.nodes) for name in node.output if name in data}
        self._takers: dict[str, list[int]] = defaultdict(list)
        for index, node in enumerate(self.nodes):
            for name in data.intersection(node.input):
                self._takers[name].append(index)
        self.free = {index for index, node in enumerate(self.nodes) if _is_free(node, tensors)}
        self.products = {
            index for index, node in enumerate(self.nodes) if node.op_type in PRODUCTS and index not in self.free
        }

    def above(self, index: int) -> Iterable[int]:
        """The nodes that make the inputs."""
        return (self._makers[name] for name in self.nodes[index].input if name in self._makers)

    def below(self, index: int) -> Iterable[int]:
        """The nodes that take the outputs."""
        return (taker for name in self.nodes[index].output for taker in self._takers.get(name, ()))

    def nearest(self, index: int, step: Callable[[int], Iterable[int]], wanted: set[int]) -> set[int]:
        """The first of the `wanted` on every way from a node."""
        found, seen, pending = set(), set(), list(step(index))
        while pending:
            node = pending.pop()
            if node in wanted:
                found.add(node)
            elif node not in seen:
                seen.add(node)
                pending.extend(step(node))
        return found

    def kinds(self, index: int, step: Callable[[int], Iterable[int]]) -> tuple[str, ...]:
        """The operator types that cost time next to a node."""
        costly = set(range(len(self.nodes))) - self.free
        return tuple(sorted({self.nodes[near].op_type for near in self.nearest(index, step, costly)}))

    def convolutions(self) -> set[int]:
        """The convolutions, and the products before attention but for those that make queries, keys and values.

        Where a graph has products in place of convolutions, those are what lies before the first attention and feeds
        another product there: a query's feeds the attention only.
        """
        softmax, fused = (
            {index for index, node in enumerate(self.nodes) if node.op_type == kind}
            for kind in ("Softmax", "MultiHeadAttention")
        )
        behind = softmax | fused
        pending = list(behind)
        while pending:
            for node in self.below(pending.pop()):
                if node not in behind:
                    behind.add(node)
                    pending.append(node)
        stops = self.products | softmax
        scores = {index for index in self.products if self.nearest(index, self.below, stops) & softmax}
        front = self.products - behind - scores
        return {
            index
            for index in self.products
            if self.nodes[index].op_type in CONVOLUTIONS
            or (index in front and self.nearest(index, self.below, stops) & front)
        }


def _is_free(node: onnx.NodeProto, tensors: dict[str, Tensor]) -> bool:
    """A view, computed once at load, computed from shapes alone, or a cast to the same type."""
    outputs = [tensors[name] for name in node.output if name]
    if node.op_type in VIEWS or all(tensor.constant or tensor.value is not None for tensor in outputs):
        return True
    return node.op_type == "Cast" and tensors[node.input[0]].dtype == outputs[0].dtype


def _source(inputs: list[Tensor]) -> str:
    return "weights" if all(tensor.constant for tensor in inputs) else "input"


def _short(shapes: str) -> str:
    for long, short in _SHORT.items():
        shapes = shapes.replace(f"{long}[", f"{short}[")
    return shapes


def _by_kind(operators: list[Operator]) -> Table:
    table = Table(title="By operator type", title_justify="left")
    for column in ("type", "count", "GFLOP", "GB moved", "ms"):
        table.add_column(column, justify="left" if column == "type" else "right")
    kinds: dict[str, list[Operator]] = defaultdict(list)
    for operator in operators:
        kinds[operator.kind].append(operator)
    times = {kind: sum(operator.seconds for operator in found) for kind, found in kinds.items()}
    for kind in sorted(kinds, key=times.__getitem__, reverse=True):
        gflop, moved = (sum(getattr(one, key) for one in kinds[kind]) / 1e9 for key in ("flops", "bytes"))
        shown = kind if kind in STREAMING | PRODUCTS else f"{kind} (unknown)"
        table.add_row(
            shown, str(len(kinds[kind])), f"{gflop:,.1f}" if gflop else "", f"{moved:.3f}", f"{1e3 * times[kind]:.3f}"
        )
    return table


def _most_expensive(operators: list[Operator], count: int = 10) -> Table:
    table = Table(title=f"The {count} most expensive", title_justify="left")
    for column in ("ms", "bound by", "type", "name", "shapes"):
        table.add_column(column, justify="right" if column == "ms" else "left", overflow="fold")
    for one in sorted(operators, key=lambda operator: operator.seconds, reverse=True)[:count]:
        table.add_row(f"{1e3 * one.seconds:.3f}", one.bound, one.kind, one.name, one.shapes)
    return table


def _alike(operators: list[Operator], title: str) -> Table:
    """Operators that join the same, in one line."""
    table = Table(title=title, title_justify="left")
    for column in ("count", "ms", "what", "from", "to", "between convolutions"):
        table.add_column(column, justify="right" if column in ("count", "ms") else "left", overflow="fold")
    counts = Counter((one.shapes, one.before, one.after, one.between_convolutions) for one in operators)
    times: dict[tuple[object, ...], float] = defaultdict(float)
    for one in operators:
        times[one.shapes, one.before, one.after, one.between_convolutions] += 1e3 * one.seconds
    for key, count in counts.items():
        shapes, before, after, between = key
        cells = (shapes, ", ".join(before), ", ".join(after), "yes" if between else "")
        table.add_row(str(count), f"{times[key]:.3f}", *cells)
    return table


def main() -> None:
    """Print the prediction."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("model", type=Path, help="an exported model.onnx; its weights need not be there")
    arguments.add_argument("--batch", type=int, default=16, help="clips")
    arguments.add_argument("--seconds", type=float, default=10, help="of a clip")
    arguments.add_argument("--tflops", type=float, default=H100.tflops, help="of dense products in fp16")
    arguments.add_argument("--bandwidth", type=float, default=H100.bandwidth, help="TB/s, read and write together")
    arguments.add_argument("--kernel", type=float, default=H100.kernel, help="microseconds of the smallest kernel")
    asked = arguments.parse_args()
    rates = Rates(asked.tflops, asked.bandwidth, asked.kernel)
    try:
        found = predict(asked.model, asked.batch, asked.seconds, rates)
    except (OSError, ValueError) as error:
        raise SystemExit(f"{asked.model}: {error}") from error
    out = Console(width=130)
    out.print(
        f"{asked.model}, {found.batch} clips of {asked.seconds:g} s: predicted {found.milliseconds:.2f} ms, "
        f"{found.clips_per_second:,.0f} clips/s",
        f"{found.share_of_limit:.0%} of the limit: the products alone, {found.flops / found.batch / 1e9:,.1f} GFLOP "
        f"a clip, take {found.milliseconds * found.share_of_limit:.2f} ms at {rates.tflops:g} TFLOP/s",
        f"{len(found.operators)} kernels, at {rates.bandwidth:g} TB/s and {rates.kernel:g} µs at least for each",
        sep="\n",
        highlight=False,
        soft_wrap=True,
    )
    out.print(_by_kind(found.operators), _most_expensive(found.operators))
    for kind in ("Transpose", "Cast"):
        of_kind = found.of(kind)
        between = sum(operator.between_convolutions for operator in of_kind)
        out.print(_alike(of_kind, f"{kind}: {len(of_kind)}, {between} between convolutions"))


if __name__ == "__main__":
    main()
