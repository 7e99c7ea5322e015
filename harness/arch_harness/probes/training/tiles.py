"""Register-blocked inner products and sums with AdamW in their last step, as LLVM vector code that numba calls.

numba has no vector type, and LLVM's own vectoriser does not keep a block of a matrix product in registers; so the few
instructions that nearly all of a probe's training time goes into are written out here. They are generic LLVM code: the
compiler fits the 16 lanes to what the processor has.

All addresses and strides are in bytes; nothing checks them.
"""

# ruff: noqa: ARG001  numba counts an intrinsic's arguments by its signature and hands their values to `generate`.

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from arch_harness.probes.training.optimiser import BETAS

LANES = 16
TILE = 4 * LANES
"""Columns that a tile covers; the rows of every matrix are padded with zeros to a multiple of it."""

_FLOAT, _INT, _INDEX = ir.FloatType(), ir.IntType(64), ir.IntType(32)
_VECTOR = ir.VectorType(_FLOAT, LANES)
_VECTOR_BYTES, _TILE_BYTES, _ADDRESS_BYTES = 4 * LANES, 4 * TILE, 8


def _at(build: ir.IRBuilder, address: Any, kind: Any) -> Any:
    return build.inttoptr(address, kind.as_pointer())


def _read(build: ir.IRBuilder, address: Any, kind: Any = _VECTOR) -> Any:
    return build.load(_at(build, address, kind), align=4)


def _write(build: ir.IRBuilder, value: Any, address: Any) -> None:
    build.store(value, _at(build, address, value.type), align=4)


def _moved(build: ir.IRBuilder, address: Any, count: int, stride: Any) -> Any:
    return build.add(address, build.mul(stride, _INT(count)))


def _shuffled(build: ir.IRBuilder, one: Any, other: Any, lanes: Sequence[int]) -> Any:
    return build.shuffle_vector(one, other, ir.Constant(ir.VectorType(_INDEX, len(lanes)), list(lanes)))


def _repeated(build: ir.IRBuilder, number: Any) -> Any:
    nothing = ir.Constant(_VECTOR, ir.Undefined)
    return _shuffled(build, build.insert_element(nothing, number, _INDEX(0)), nothing, [0] * LANES)


def _constant(number: float) -> Any:
    return ir.Constant(_VECTOR, [float(np.float32(number))] * LANES)


def _call(build: ir.IRBuilder, name: str, *values: Any) -> Any:
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * len(values))
    return build.call(cgutils.get_or_insert_function(build.module, kind, f"llvm.{name}.v{LANES}f32"), values)


def _zeros(build: ir.IRBuilder, count: int) -> list[Any]:
    sums = [cgutils.alloca_once(build, _VECTOR) for _ in range(count)]
    for one in sums:
        build.store(_constant(0), one)
    return sums


# llvm.fmuladd, not llvm.fma: where a processor cannot fuse the two, it multiplies and adds, while fma calls libm for
# every lane.
def _add_product(build: ir.IRBuilder, total: Any, one: Any, other: Any) -> None:
    build.store(_call(build, "fmuladd", one, other, build.load(total)), total)


def _lane_sums(build: ir.IRBuilder, vectors: list[Any]) -> Any:
    """The sums over the lanes of `LANES` vectors, as one vector: each round halves the lanes that belong together."""
    width = LANES
    while len(vectors) > 1:
        first = [start + lane for start in range(0, 2 * LANES, width) for lane in range(width // 2)]
        second = [lane + width // 2 for lane in first]
        vectors = [
            build.fadd(_shuffled(build, one, other, first), _shuffled(build, one, other, second))
            for one, other in zip(vectors[::2], vectors[1::2], strict=True)
        ]
        width //= 2
    return vectors[0]


def _dot_tile(rows: int, columns: int) -> Callable[..., None]:
    @intrinsic  # type: ignore[untyped-decorator]
    def tile(_typing: Any, left: Any, right: Any, block: Any, blocks: Any, out: Any, out_stride: Any) -> Any:
        def generate(context: Any, build: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
            left, right, block, blocks, out, out_stride = arguments
            lefts = [_read(build, _moved(build, left, row, _INT(_ADDRESS_BYTES)), _INT) for row in range(rows)]
            sums = _zeros(build, rows * columns)
            with cgutils.for_range(build, blocks, intp=_INT) as loop:
                lefts = [build.add(address, build.mul(loop.index, _INT(_TILE_BYTES))) for address in lefts]
                right = build.add(right, build.mul(loop.index, block))
                for vector in range(TILE // LANES):
                    offset = _INT(vector * _VECTOR_BYTES)
                    ones = [_read(build, build.add(address, offset)) for address in lefts]
                    for column in range(columns):
                        other = _read(build, build.add(_moved(build, right, column, _INT(_TILE_BYTES)), offset))
                        for row, one in enumerate(ones):
                            _add_product(build, sums[row * columns + column], one, other)
            totals = _lane_sums(build, [build.load(one) for one in sums])
            for row in range(rows):
                part = _shuffled(build, totals, totals, range(row * columns, (row + 1) * columns))
                _write(build, part, _moved(build, out, row, out_stride))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), generate

    found: Callable[..., None] = tile
    return found


dot_tile_4x4, dot_tile_8x2 = _dot_tile(4, 4), _dot_tile(8, 2)
"""Products of every left row with every right row, written to a block of `out`.

Args:
    left: of a table of the rows' addresses.
    right: of the first row's first `TILE` numbers; those of the next row follow them.
    block: from there to the first row's next `TILE` numbers.
    blocks: of `TILE` numbers in a row.
    out: where the products are written.
    out_stride: from one of its rows to the next.
"""


def _weighted_sums(
    build: ir.IRBuilder, height: int, weights: Any, across: Any, along: Any, rows: Any, offset: Any, count: Any
) -> list[Any]:
    """Vectors [height * 4] of sums over `count` rows, each row times a weight: weights + i * across + row * along."""
    width = TILE // LANES
    sums = _zeros(build, height * width)
    with cgutils.for_range(build, count, intp=_INT) as loop:
        row = _read(build, build.add(rows, build.mul(loop.index, _INT(_ADDRESS_BYTES))), _INT)
        row = build.add(row, offset)
        values = [_read(build, _moved(build, row, column, _INT(_VECTOR_BYTES))) for column in range(width)]
        first = build.add(weights, build.mul(loop.index, along))
        for line in range(height):
            weight = _repeated(build, _read(build, _moved(build, first, line, across), _FLOAT))
            for column, value in enumerate(values):
                _add_product(build, sums[line * width + column], weight, value)
    return [build.load(one) for one in sums]


@intrinsic  # type: ignore[untyped-decorator]
def sum_tile(
    _typing: Any, weights: Any, across: Any, along: Any, rows: Any, offset: Any, count: Any, out: Any, stride: Any
) -> Any:
    """Weighted sums of rows, written to a block of `out` of 4 rows and `TILE` columns.

    Args:
        weights: of the first row's weight in the block's first row.
        across: from there to its weight in the block's second row.
        along: from there to the second row's weight in the block's first row.
        rows: of a table of the rows' addresses.
        offset: of the block's columns in a row.
        count: of rows.
        out: where the block begins.
        stride: from one of its rows to the next.
    """

    def generate(context: Any, build: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        *summed, out, stride = arguments
        for index, value in enumerate(_weighted_sums(build, 4, *summed)):
            place = _moved(build, out, index // 4, stride)
            _write(build, value, _moved(build, place, index % 4, _INT(_VECTOR_BYTES)))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 8), generate


def _adamw_tile(height: int) -> Callable[..., None]:
    @intrinsic  # type: ignore[untyped-decorator]
    def tile(
        _typing: Any,
        weights: Any,
        across: Any,
        along: Any,
        rows: Any,
        offset: Any,
        count: Any,
        parameters: Any,
        moment: Any,
        keep: Any,
        epsilon: Any,
        rate: Any,
    ) -> Any:
        def generate(context: Any, build: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
            *summed, parameters, moment, keep, epsilon, rate = arguments
            gradients = _weighted_sums(build, height, *summed)
            keep, epsilon, rate = (_repeated(build, number) for number in (keep, epsilon, rate))
            for index, gradient in enumerate(gradients):
                place = _moved(build, parameters, index, _INT(_VECTOR_BYTES))
                places = [place, build.add(place, moment), _moved(build, place, 2, moment)]
                old, first, second = (_read(build, one) for one in places)
                first = _call(build, "fmuladd", _constant(BETAS[0]), first, gradient)
                second = _call(build, "fmuladd", gradient, gradient, build.fmul(_constant(BETAS[1]), second))
                below = build.fadd(_call(build, "sqrt", second), epsilon)
                # The reciprocal's estimate and a step of Newton's do: they are right to the last bit or two.
                update = build.fdiv(first, below, flags=("arcp", "ninf"))
                new = _call(build, "fmuladd", update, rate, build.fmul(keep, old))
                for value, one in zip((new, first, second), places, strict=True):
                    _write(build, value, one)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 8, *[types.float32] * 3), generate

    found: Callable[..., None] = tile
    return found


adamw_tile_4, adamw_tile_2 = _adamw_tile(4), _adamw_tile(2)
"""AdamW on 4 or 2 rows of `TILE` parameters, one behind the other, whose gradients are sums as in `sum_tile`.

Args:
    weights: see `sum_tile`, and so are the next five.
    across: see there.
    along: see there.
    rows: see there.
    offset: see there.
    count: see there.
    parameters: where the first row begins.
    moment: from there to the first moment, and from that to the second.
    keep: what weight decay leaves of a parameter, FP32.
    epsilon: added to the root of the second moment, FP32.
    rate: of the step, negative, FP32.
"""
