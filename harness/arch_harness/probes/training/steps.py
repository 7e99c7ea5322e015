"""The training steps of one probe on the CPU, compiled: from a batch of clips to updated parameters.

Compiled code is kept on the disk, so that only the first run on a machine waits for the compiler. It runs without the
interpreter's lock.

A layer is FP32 [3, blocks, outputs, TILE]: its weights, and the first and second moments of their gradients. A step
goes through each of the three from its beginning to its end. Its biases are FP32 [3, outputs].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numba
import numpy as np

from arch_harness.probes.training.networks import DROPOUT
from arch_harness.probes.training.optimiser import BATCH_SIZE, BETAS
from arch_harness.probes.training.tiles import (
    LANES,
    TILE,
    adamw_tile_2,
    adamw_tile_4,
    dot_tile_4x4,
    dot_tile_8x2,
    sum_tile,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

_KEPT = np.float32(1 / (1 - DROPOUT))
_BETA1, _BETA2 = np.float32(BETAS[0]), np.float32(BETAS[1])
_TILE_BYTES = 4 * TILE
_ONE, _HALF = np.float32(1), np.float32(0.5)

_Function = TypeVar("_Function", bound=Callable[..., Any])


def stride_of(dimensions: int) -> int:
    """Values from one row of inputs to the next: whole tiles, and more where rows would share lines of the cache."""
    return blocks_of(dimensions) * TILE + LANES


def blocks_of(dimensions: int) -> int:
    """Tiles that a row of `dimensions` numbers takes."""
    return -(-dimensions // TILE)


def padded_outputs(outputs: int) -> int:
    """Outputs of a layer with those added that only fill up a tile; their weights stay 0."""
    return outputs + outputs % 2


def _compiled(function: _Function) -> _Function:
    def compiled(cache: bool) -> Any:
        # Sums may be reordered, which is what lets the compiler use vectors; infinity and NaN stay what they are.
        allowed = {"reassoc", "contract", "nsz", "arcp"}
        return numba.njit(nogil=True, error_model="numpy", fastmath=allowed, cache=cache)(function)

    try:
        found: _Function = compiled(cache=True)
    except RuntimeError:
        # Neither the installation's folder nor the user's cache can be written to.
        found = compiled(cache=False)
    return found


@_compiled
def _address(array: NDArray[Any]) -> Any:
    return np.int64(array.ctypes.data)


@_compiled
def _list_rows(matrix: NDArray[np.float32], table: NDArray[np.int64]) -> None:
    for row in range(len(table)):
        table[row] = _address(matrix) + 4 * row * matrix.shape[1]


@_compiled
def _exp(x: Any) -> Any:
    """E ** x for x up to 88, to the last bit or two, in operations that the compiler turns into vectors.

    Source: the range reduction and polynomial of Moshier's Cephes library, expf.
    """
    x = max(np.float32(-87), min(np.float32(88), x))
    power = np.floor(x * np.float32(1.44269504088896341) + _HALF)
    x = x - power * np.float32(0.693359375) + power * np.float32(2.12194440e-4)
    y = np.float32(1.9875691500e-4)
    y = y * x + np.float32(1.3981999507e-3)
    y = y * x + np.float32(8.3334519073e-3)
    y = y * x + np.float32(4.1665795894e-2)
    y = y * x + np.float32(1.6666665459e-1)
    y = y * x + np.float32(5.0000001201e-1)
    y = y * x * x + x + _ONE
    return y * np.int32((np.int32(power) + 127) << 23).view(np.float32)


@_compiled
def _outputs(
    rows: NDArray[np.int64], layer: NDArray[np.float32], bias: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    """Write the layer's outputs [batch, outputs]; `rows` holds the addresses of its inputs."""
    blocks, outputs = layer.shape[1:3]
    whole, block, stride = outputs // 4 * 4, outputs * _TILE_BYTES, 4 * out.shape[1]
    table, weights, to = _address(rows), _address(layer), _address(out)
    for row in range(0, BATCH_SIZE, 4):
        for output in range(0, whole, 4):
            at = weights + output * _TILE_BYTES
            dot_tile_4x4(table + 8 * row, at, block, blocks, to + row * stride + 4 * output, stride)
    if outputs > whole:
        for row in range(0, BATCH_SIZE, 8):
            at = weights + whole * _TILE_BYTES
            dot_tile_8x2(table + 8 * row, at, block, blocks, to + row * stride + 4 * whole, stride)
    for row in range(BATCH_SIZE):
        for output in range(outputs):
            out[row, output] += bias[0, output]


@_compiled
def _update(
    layer: NDArray[np.float32],
    bias: NDArray[np.float32],
    residual: NDArray[np.float32],
    rows: NDArray[np.int64],
    numbers: NDArray[np.float32],
) -> None:
    """One step of AdamW; the gradients are `residual`'s products with the inputs, whose addresses `rows` holds."""
    blocks, outputs = layer.shape[1:3]
    whole, block, stride = outputs // 4 * 4, outputs * _TILE_BYTES, 4 * residual.shape[1]
    keep, epsilon, rate = numbers[0], numbers[1], numbers[2]
    moment, weights, table = blocks * block, _address(residual), _address(rows)
    for column in range(blocks):
        at, offset = _address(layer) + column * block, column * _TILE_BYTES
        for output in range(0, whole, 4):
            first, to = weights + 4 * output, at + output * _TILE_BYTES
            adamw_tile_4(first, 4, stride, table, offset, BATCH_SIZE, to, moment, keep, epsilon, rate)
        if outputs > whole:
            first, to = weights + 4 * whole, at + whole * _TILE_BYTES
            adamw_tile_2(first, 4, stride, table, offset, BATCH_SIZE, to, moment, keep, epsilon, rate)
    for output in range(outputs):
        gradient = np.float32(0)
        for row in range(BATCH_SIZE):
            gradient += residual[row, output]
        _adamw(bias[:, output], gradient, keep, epsilon, rate)


@_compiled
def _adamw(state: NDArray[np.float32], gradient: Any, keep: Any, epsilon: Any, rate: Any) -> None:
    state[1] = _BETA1 * state[1] + gradient
    state[2] = _BETA2 * state[2] + gradient * gradient
    state[0] = keep * state[0] + rate * state[1] / (np.sqrt(state[2]) + epsilon)


@_compiled
def _to_residual(
    outputs: NDArray[np.float32], targets: NDArray[np.float32], order: NDArray[np.int64], count: int, multi_label: bool
) -> None:
    """Outputs to the gradient of their mean loss, in place; clips from `count` on take no part."""
    classes = targets.shape[1]
    share = np.float32(1 / (count * (classes if multi_label else 1)))
    for row in range(BATCH_SIZE):
        line, target = outputs[row], targets[order[row]]
        if row >= count:
            line[:] = 0
        elif multi_label:
            for column in range(classes):
                line[column] = (_ONE / (_ONE + _exp(-line[column])) - target[column]) * share
        else:
            highest = line[0]
            for column in range(1, classes):
                highest = max(highest, line[column])
            total = np.float32(0)
            for column in range(classes):
                raised = _exp(line[column] - highest)
                line[column] = raised
                total += raised
            scale = share / total
            for column in range(classes):
                line[column] = line[column] * scale - target[column] * share


@_compiled
def _back(
    residual: NDArray[np.float32], layer: NDArray[np.float32], table: NDArray[np.int64], out: NDArray[np.float32]
) -> None:
    """Write the gradients at the layer's inputs, [batch, stride]; `table` is overwritten."""
    blocks, outputs = layer.shape[1:3]
    across, stride = 4 * residual.shape[1], 4 * out.shape[1]
    _list_rows(layer[0, 0], table)
    for column in range(blocks):
        offset, to = column * outputs * _TILE_BYTES, _address(out) + column * _TILE_BYTES
        for row in range(0, BATCH_SIZE, 4):
            first = _address(residual) + row * across
            sum_tile(first, across, 4, _address(table), offset, outputs, to + row * stride, stride)


@_compiled
def _softmax(numbers: NDArray[np.float32]) -> NDArray[np.float32]:
    raised = np.exp(numbers - numbers.max())
    weights: NDArray[np.float32] = (raised / raised.sum()).astype(np.float32)
    return weights


@_compiled
def _mix(
    inputs: NDArray[np.float32], order: NDArray[np.int64], weights: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    """Write the weighted sum of the layers of each clip of a batch, [batch, stride]."""
    dimensions = inputs.shape[1] // len(weights)
    for row in range(BATCH_SIZE):
        line, into = inputs[order[row]], out[row]
        into[:dimensions] = 0
        for layer in range(len(weights)):
            for column in range(dimensions):
                into[column] += weights[layer] * line[layer * dimensions + column]


@_compiled
def _update_mixing(
    mixing: NDArray[np.float32],
    weights: NDArray[np.float32],
    inputs: NDArray[np.float32],
    order: NDArray[np.int64],
    back: NDArray[np.float32],
    numbers: NDArray[np.float32],
) -> None:
    """One step of AdamW for what the layers' weights are the softmax of, FP32 [3, layers]."""
    dimensions = inputs.shape[1] // len(weights)
    of_weights = np.zeros(len(weights), dtype=np.float32)
    for row in range(BATCH_SIZE):
        line, gradient = inputs[order[row]], back[row]
        for layer in range(len(weights)):
            total = np.float32(0)
            for column in range(dimensions):
                total += gradient[column] * line[layer * dimensions + column]
            of_weights[layer] += total
    mean = np.float32(0)
    for layer in range(len(weights)):
        mean += weights[layer] * of_weights[layer]
    for layer in range(len(weights)):
        _adamw(mixing[:, layer], weights[layer] * (of_weights[layer] - mean), numbers[0], numbers[1], numbers[2])


@_compiled
def take_steps(
    inputs: NDArray[np.float32],
    targets: NDArray[np.float32],
    multi_label: bool,
    order: NDArray[np.int64],
    count: int,
    kept: NDArray[np.bool_],
    numbers: NDArray[np.float32],
    mixing: NDArray[np.float32],
    hidden: NDArray[np.float32],
    hidden_bias: NDArray[np.float32],
    last: NDArray[np.float32],
    last_bias: NDArray[np.float32],
) -> None:
    """Take a step on each of several batches, updating the layers in place.

    Args:
        inputs: FP32 [all clips, stride], zeros behind the embeddings; with layers to mix, [all clips, layers *
            dimensions].
        targets: FP32 [all clips, classes] of 0 and 1.
        multi_label: whether a clip may have any number of labels.
        order: int64 [steps * BATCH_SIZE], the clips of the batches one after the other.
        count: how many of these take part; those behind them only fill up the last batch.
        kept: bool [steps * BATCH_SIZE, hidden units], what dropout leaves; of no rows without a hidden layer.
        numbers: FP32 [steps, 3], see `optimiser.step_numbers`.
        mixing: FP32 [3, layers], none where there is nothing to mix; with moments, as the layers are.
        hidden: the hidden layer; of no outputs if there is none.
        hidden_bias: its biases.
        last: the layer whose outputs are the classes'.
        last_bias: its biases.
    """
    width, with_hidden = last.shape[1] * TILE + LANES, hidden.shape[2] > 0
    rows, table = np.empty(BATCH_SIZE, dtype=np.int64), np.empty(last.shape[2], dtype=np.int64)
    outputs = np.zeros((BATCH_SIZE, last.shape[2]), dtype=np.float32)
    between, back = np.zeros((BATCH_SIZE, width), dtype=np.float32), np.zeros((BATCH_SIZE, width), dtype=np.float32)
    between_rows = np.empty(BATCH_SIZE, dtype=np.int64)
    _list_rows(between, between_rows)
    weights = np.zeros(mixing.shape[1], dtype=np.float32)
    for step in range(len(numbers)):
        start = step * BATCH_SIZE
        batch, present = order[start : start + BATCH_SIZE], min(BATCH_SIZE, count - start)
        for row in range(BATCH_SIZE):
            rows[row] = _address(inputs) + 4 * batch[row] * inputs.shape[1]
        last_rows = rows
        if len(weights):
            weights = _softmax(mixing[0])
            _mix(inputs, batch, weights, between)
            last_rows = between_rows
        if with_hidden:
            _outputs(rows, hidden, hidden_bias, between)
            for row in range(BATCH_SIZE):
                for unit in range(kept.shape[1]):
                    value = between[row, unit] * _KEPT
                    between[row, unit] = value if value > 0 and kept[start + row, unit] else np.float32(0)
            last_rows = between_rows
        _outputs(last_rows, last, last_bias, outputs)
        _to_residual(outputs, targets, batch, present, multi_label)
        if with_hidden or len(weights):
            _back(outputs, last, table, back)
        _update(last, last_bias, outputs, last_rows, numbers[step])
        if with_hidden:
            # A hidden unit that ReLU or dropout set to 0 passes no gradient back.
            for row in range(BATCH_SIZE):
                for unit in range(kept.shape[1]):
                    back[row, unit] = back[row, unit] * _KEPT if between[row, unit] > 0 else np.float32(0)
            _update(hidden, hidden_bias, back, rows, numbers[step])
        if len(weights):
            _update_mixing(mixing, weights, inputs, batch, back, numbers[step])
