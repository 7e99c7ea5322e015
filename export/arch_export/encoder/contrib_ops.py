"""ONNX Runtime's own operators (domain `com.microsoft`) as functions to trace: one kernel for what ONNX has in several.

They mark nodes of a graph and compute nothing in torch. All have been in ONNX Runtime since before 1.19, for CUDA in
fp32 and fp16, and all but `nhwc_convolution` for CPUs in fp32, where a graph with them is verified.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence


def _operator(
    name: str,
    inputs: Sequence[torch.Tensor | None],
    shape: Sequence[int | torch.SymInt],
    **attributes: Any,
) -> torch.Tensor:
    first = next(one for one in inputs if one is not None)
    result: torch.Tensor = torch.onnx.ops.symbolic(
        f"com.microsoft::{name}", inputs, attributes, dtype=first.dtype, shape=shape, version=1
    )
    return result


def bias_gelu(hidden: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """GELU (by the error function) of [..., size] + [size]: the same shape.

    Also without a bias to add: on an H100 its kernel takes half the time of the plain operator's.
    """
    return _operator("BiasGelu", [hidden, bias], hidden.shape)


def skip_layer_norm(
    hidden: torch.Tensor, skip: torch.Tensor, bias: torch.Tensor | None, norm: torch.nn.LayerNorm
) -> torch.Tensor:
    """The layer norm of a sum.

    Args:
        hidden: [batch, frames, size].
        skip: the same shape, or [1, frames, size] for all clips of the batch.
        bias: [size], added too.
        norm: over the last axis, with weight and bias.

    Returns:
        [batch, frames, size].
    """
    inputs = [hidden, skip, norm.weight, norm.bias, bias]
    return _operator("SkipLayerNormalization", inputs, hidden.shape, epsilon=norm.eps)


def skip_layer_norm_and_sum(
    hidden: torch.Tensor, skip: torch.Tensor, bias: torch.Tensor | None, norm: torch.nn.LayerNorm
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `skip_layer_norm`, and behind it the sum; apart, because a kernel writes what is named."""
    statistics = (*hidden.shape[:-1], 1)  # the second and third output, which nothing takes and no kernel writes
    outputs = torch.onnx.ops.symbolic_multi_out(
        "com.microsoft::SkipLayerNormalization",
        [hidden, skip, norm.weight, norm.bias, bias],
        {"epsilon": norm.eps},
        dtypes=[hidden.dtype, torch.float32, torch.float32, hidden.dtype],
        shapes=[hidden.shape, statistics, statistics, hidden.shape],
        version=1,
    )
    return outputs[0], outputs[3]


def multi_head_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    heads: int,
    lengths: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """Scaled dot-product attention.

    Args:
        query: [batch, frames, size]; key and value likewise.
        key: see query.
        value: see query.
        heads: into which size is divided.
        lengths: INT32 [batch], how many keys of each clip count; all by default.
        bias: [batch, heads, frames, frames], added to the scores.

    Returns:
        [batch, frames, size].
    """
    inputs = [query, key, value, None, lengths, bias]
    while inputs[-1] is None:
        inputs.pop()
    return _operator("MultiHeadAttention", inputs, query.shape, num_heads=heads)


def nhwc_convolution(hidden: torch.Tensor, weight: torch.Tensor, stride: int) -> torch.Tensor:
    """Convolution over time, channels last, without padding; for CUDA only.

    Args:
        hidden: [batch, frames, 1, channels].
        weight: [output channels, kernel, 1, channels].
        stride: in frames.

    Returns:
        [batch, (frames - kernel) // stride + 1, 1, output channels].
    """
    kernel = weight.shape[1]
    shape = (hidden.shape[0], (hidden.shape[1] - kernel) // stride + 1, 1, weight.shape[0])
    return _operator("NhwcConv", [hidden, weight], shape, kernel_shape=[kernel, 1], strides=[stride, 1])
