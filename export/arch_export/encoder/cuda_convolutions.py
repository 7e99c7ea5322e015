"""The convolutions of the wav2vec 2.0 family in the form that a GPU runs best, channels last from the first on.

cuDNN runs them badly or not at all: it refuses the grouped convolution over positions in fp16, and channels-first data
are transposed around each. So the first convolution and the one over positions are matrix products of windows here, and
the others are channels-last convolutions in fp16, the one form that cuDNN is made for, and products elsewhere.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from arch_export.encoder.contrib_ops import bias_gelu, nhwc_convolution, skip_layer_norm

# Frames that one row of a product gives. More of them are fewer windows to gather and more zeros in the weights: on an
# H100, 4 and 8 frames of HuBERT-large take 1.05 and 0.66 ms for 16 clips of 10 s, and 0.07 and 0.14 GB of weights.
_BLOCK = 8
# Rows of a product of fp16 start at multiples of 16 bytes, which the fast kernels ask for.
_ALIGNMENT = 8


class Activation(torch.nn.Module):
    """An activation, with what is added before it.

    Args:
        function: the checkpoint's.
    """

    def __init__(self, function: torch.nn.Module) -> None:
        super().__init__()
        self.function = function
        # transformers' "gelu" is either class.
        self.is_gelu = type(function).__name__ == "GELUActivation" or (
            isinstance(function, torch.nn.GELU) and function.approximate == "none"
        )

    def forward(self, hidden: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """[..., size] + [size] -> the same shape."""
        if self.is_gelu:
            return bias_gelu(hidden, bias)
        result: torch.Tensor = self.function(hidden + bias)
        return result


class FirstConvolution(torch.nn.Module):
    """Layer 0 with its norm, as one product of windows over the waveform.

    A layer norm over the channels of w_c . f + b_c, where f holds the samples under the kernel, divides by the root of
    a quadratic form in (f, 1). With the norm's centring in the weights, that is the length of R (f, 1) for a small
    triangular R, so the windows are scaled instead of the channels, in fp32. A group norm over time is one scale for
    each channel and clip, which goes into the weights; mean and covariance of the windows give it (see
    `feature_encoder.GroupNormConvolution`), in fp64.

    Args:
        layer: transformers' `...ConvLayer` 0.
        block: the number of frames is a multiple of it.
        dtype: of the product.
    """

    def __init__(self, layer: Any, block: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.block = block
        # Frames that one row of the product gives, if its weights differ from clip to clip.
        rows = math.gcd(_BLOCK, block)
        conv = layer.conv
        norm: Any = getattr(layer, "layer_norm", None)
        self.kernel, self.stride, self.rows, self.dtype = conv.kernel_size[0], conv.stride[0], rows, dtype
        self.channels: int = conv.out_channels
        self.activation = Activation(layer.activation)
        weight = conv.weight[:, 0].detach().double()  # [channels, kernel]
        bias = conv.bias.detach().double() if conv.bias is not None else torch.zeros(self.channels).double()
        self.over_time = isinstance(norm, torch.nn.GroupNorm)
        self.epsilon = norm.eps if norm is not None else 0.0
        self.register_buffer("zeros", torch.zeros(self.channels, dtype=dtype))
        if self.over_time:
            self.register_buffer("weight", weight)
            self.register_buffer("gain", norm.weight.detach().double())
            self.register_buffer("bias", norm.bias.detach().double())
            self.register_buffer("taps", self._toeplitz(weight).float())
            return
        extended = torch.cat([weight, bias[:, None]], dim=1)  # [channels, kernel + 1]: of (f, 1)
        self.over_channels = norm is not None
        if norm is not None:
            extended = extended - extended.mean(dim=0)
            factor = torch.linalg.qr(extended / math.sqrt(self.channels), mode="r").R
            self.register_buffer("factor", _padded(factor.T.float(), 1))
            extended = extended * norm.weight.detach().double()[:, None]
            extended = torch.cat([extended, norm.bias.detach().double()[:, None]], dim=1)
        self.missing = -extended.shape[1] % _ALIGNMENT
        self.register_buffer("weight", _padded(extended.T, 0).to(dtype))

    def _toeplitz(self, weight: torch.Tensor) -> torch.Tensor:
        """[channels, kernel] -> [samples under a block, frames of a block, channels]."""
        taps = torch.zeros((self.rows - 1) * self.stride + self.kernel, self.rows, self.channels, dtype=weight.dtype)
        for row in range(self.rows):
            taps[row * self.stride : row * self.stride + self.kernel, row] = weight.T
        return taps

    def forward(self, waveform: torch.Tensor, frames: int, count: torch.Tensor) -> torch.Tensor:
        """Convolve, norm, activate.

        Args:
            waveform: FP32 [batch, samples], with at least a kernel of zeros behind the last frame's start.
            frames: how many to give, a multiple of the block; those past the clip's end are of no use.
            count: INT64 [batch or 1, 1], how many of them the norm over time counts.

        Returns:
            [batch, frames, channels].
        """
        hidden = self._over_time(waveform, frames, count) if self.over_time else self._over_channels(waveform, frames)
        result: torch.Tensor = self.activation(hidden, self.get_buffer("zeros"))
        return result

    def _windows(self, waveform: torch.Tensor, rows: int, step: int, size: int) -> torch.Tensor:
        """[batch, samples] -> [batch, rows, size]: windows at every `step` samples."""
        parts = []
        for start in range(0, size, step):
            part = waveform[:, start : start + rows * step].reshape(-1, rows, step)
            parts.append(part[:, :, : min(step, size - start)])
        return torch.cat(parts, dim=2)

    def _over_channels(self, waveform: torch.Tensor, frames: int) -> torch.Tensor:
        windows = self._windows(waveform, frames, self.stride, self.kernel)
        ones = torch.ones_like(windows[:, :, :1])
        windows = torch.cat([windows, ones], dim=2)
        if self.over_channels:
            variance = torch.matmul(windows, self.get_buffer("factor")).square().sum(dim=2, keepdim=True)
            windows = torch.cat([windows * torch.rsqrt(variance + self.epsilon), ones], dim=2)
        if self.missing:
            windows = torch.cat([windows, torch.zeros_like(windows[:, :, : self.missing])], dim=2)
        return torch.matmul(windows.to(self.dtype), self.get_buffer("weight"))

    def _over_time(self, waveform: torch.Tensor, frames: int, count: torch.Tensor) -> torch.Tensor:
        weight, gain, bias, taps = (self.get_buffer(name) for name in ("weight", "gain", "bias", "taps"))
        # The moments of (f, 1) in one product: sums, and sums of products, which fp64 can hold without centring. Block
        # by block, because one product over all frames would keep a single multiprocessor busy.
        windows = self._windows(waveform, frames, self.stride, self.kernel)
        windows = torch.cat([windows, torch.ones_like(windows[:, :, :1])], dim=2).double()
        blocks = windows.reshape(-1, frames // self.block, self.block, self.kernel + 1)
        valid = torch.arange(frames, device=waveform.device)[None, :] < count
        # Between transpose and product, of which ONNX Runtime 1.19 to 1.25 make one operator that CPUs lack in fp64.
        counted = blocks.transpose(2, 3) * valid.double().reshape(-1, frames // self.block, 1, self.block)
        moments = torch.matmul(counted, blocks).sum(dim=1) / count.double()[:, :, None]
        mean = moments[:, -1:, :-1]  # [batch, 1, kernel]
        covariance = moments[:, :-1, :-1] - mean.transpose(1, 2) * mean
        variance = (torch.matmul(weight, covariance) * weight).sum(dim=2).clamp(min=0)
        scale = gain / torch.sqrt(variance + self.epsilon)  # [batch, channels]
        # What enters the product has no offset and is of size 1, so that fp16 keeps its digits; the weights make up.
        # Where a clip is constant, the padding behind it must not overflow.
        centre = mean.mean(dim=2)  # [batch, 1]
        trace = (covariance * torch.eye(self.kernel, dtype=torch.float64)).sum(dim=(1, 2))[:, None].clamp(min=0)
        size = torch.sqrt(trace / self.kernel + 1e-12 + (1e-3 * centre).square())
        shift = bias - scale * torch.matmul(mean[:, 0] - centre, weight.T)
        step, width = self.rows * self.stride, taps.shape[0]
        samples = (waveform - centre.float()) / size.float()
        rows = self._windows(samples, frames // self.rows, step, width)
        missing = -(width + 1) % _ALIGNMENT
        rows = torch.cat([rows, torch.ones_like(rows[:, :, :1]), torch.zeros_like(rows[:, :, :missing])], dim=2)
        scaled = taps[None] * (scale * size).float()[:, None, None, :]
        shifts = shift.float()[:, None, None, :].expand(-1, 1, self.rows, -1)
        weights = torch.cat([scaled, shifts, torch.zeros_like(scaled[:, :missing])], dim=1).flatten(2)
        product = torch.matmul(rows.to(self.dtype), weights.to(self.dtype))
        return product.reshape(-1, frames, self.channels)


def _padded(matrix: torch.Tensor, dim: int) -> torch.Tensor:
    """With zeros up to a multiple of `_ALIGNMENT` along an axis of two."""
    missing = -matrix.shape[dim] % _ALIGNMENT
    return torch.nn.functional.pad(matrix, (0, missing) if dim == 1 else (0, 0, 0, missing)).contiguous()


class StridedConvolution(torch.nn.Module):
    """A convolution of the feature encoder after the first, with its layer norm, if it has one, and activation.

    Args:
        layer: transformers' `...ConvLayer`.
        dtype: what it computes in.
    """

    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        super().__init__()
        conv = layer.conv
        self.kernel, self.stride = conv.kernel_size[0], conv.stride[0]
        self.nhwc = dtype is torch.float16
        weight = conv.weight.detach().permute(0, 2, 1)  # [out, kernel, in]
        self.register_buffer(
            "weight", (weight[:, :, None] if self.nhwc else weight.flatten(1).T).to(dtype).contiguous()
        )
        bias = conv.bias.detach() if conv.bias is not None else torch.zeros(conv.out_channels)
        self.register_buffer("bias", bias.to(dtype))
        self.register_buffer("zeros", torch.zeros(conv.out_channels, dtype=dtype))
        norm = getattr(layer, "layer_norm", None)
        self.norm = norm.to(dtype) if norm is not None else None
        self.activation = Activation(layer.activation)

    def forward(self, hidden: torch.Tensor, frames: int) -> torch.Tensor:
        """[batch, frames before, channels] -> [batch, frames, channels], `frames` being what the kernel gives."""
        weight, bias, zeros = (self.get_buffer(name) for name in ("weight", "bias", "zeros"))
        if self.nhwc:
            hidden = nhwc_convolution(hidden.unsqueeze(2), weight, self.stride).squeeze(2)
        else:
            places = torch.arange(frames, device=hidden.device)[:, None] * self.stride
            places = places + torch.arange(self.kernel, device=hidden.device)
            windows = torch.index_select(hidden, 1, places.flatten())
            hidden = torch.matmul(windows.reshape(-1, frames, self.kernel * hidden.shape[2]), weight)
        if self.norm is not None:
            hidden, bias = layer_norm(hidden, bias, self.norm), zeros
        result: torch.Tensor = self.activation(hidden, bias)
        return result


def layer_norm(hidden: torch.Tensor, bias: torch.Tensor, norm: torch.nn.LayerNorm) -> torch.Tensor:
    """The layer norm of [batch, frames, size] + [size].

    With a residual of zeros, because the operator with one takes a third of the time of the plain one on an H100.
    """
    none = hidden.new_zeros(1, hidden.shape[1], hidden.shape[2])
    return skip_layer_norm(hidden, none, bias, norm)


class CudaPositionalConvolution(torch.nn.Module):
    """The convolutions that tell the frames their positions, as products of windows of several frames at once.

    A block of n frames sees n + kernel - 1 frames; the weights of its product hold the kernel n times, each a frame
    further down.

    Args:
        embedding: transformers' `...PositionalConvEmbedding`.
        dtype: what it computes in.
    """

    def __init__(self, embedding: Any, dtype: torch.dtype) -> None:
        super().__init__()
        layers = embedding.layers if hasattr(embedding, "layers") else [embedding]
        self.layers = torch.nn.ModuleList(_PositionalLayer(layer, dtype) for layer in layers)

    def forward(self, hidden: torch.Tensor, valid: torch.Tensor | None) -> torch.Tensor:
        """[batch, frames, size] -> the same shape; `valid` [batch, frames, 1] is 1 where frames count."""
        for layer in self.layers:
            hidden = layer(hidden, valid)
        return hidden


class _PositionalLayer(torch.nn.Module):
    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        super().__init__()
        conv = layer.conv
        self.kernel, self.groups = conv.kernel_size[0], conv.groups
        self.width = conv.in_channels // conv.groups
        weight = conv.weight.detach().view(self.groups, -1, self.width, self.kernel).permute(0, 3, 2, 1)
        span = _BLOCK + self.kernel - 1
        products = torch.zeros(self.groups, span, self.width, _BLOCK, weight.shape[3])
        for frame in range(_BLOCK):
            products[:, frame : frame + self.kernel, :, frame] = weight
        self.register_buffer("weight", products.view(self.groups, span * self.width, -1).to(dtype))
        self.register_buffer("bias", conv.bias.detach().to(dtype))
        self.register_buffer("zeros", torch.zeros(conv.out_channels, dtype=dtype))
        batch_norm, norm = getattr(layer, "batch_norm", None), getattr(layer, "layer_norm", None)
        self.batch_norm = batch_norm.to(dtype) if batch_norm is not None else None
        self.norm = None
        if norm is not None:
            self.norm = torch.nn.LayerNorm(conv.out_channels, norm.eps, dtype=dtype)
            if norm.elementwise_affine:
                self.norm.load_state_dict(norm.state_dict())
        self.activation = Activation(layer.activation)

    def forward(self, hidden: torch.Tensor, valid: torch.Tensor | None) -> torch.Tensor:
        batch, frames, size = hidden.shape
        if self.batch_norm is not None:
            hidden = self.batch_norm(hidden.transpose(1, 2)).transpose(1, 2)
        if valid is not None:
            hidden = hidden * valid
        blocks, span = (frames + _BLOCK - 1) // _BLOCK, _BLOCK + self.kernel - 1
        before = self.kernel // 2
        behind = blocks * _BLOCK + self.kernel - 1 - before - frames
        padded = torch.cat(
            [hidden.new_zeros(batch, before, size), hidden, hidden.new_zeros(batch, behind, size)], dim=1
        )
        by_group = padded.view(batch, -1, self.groups, self.width).permute(2, 0, 1, 3)
        places = torch.arange(blocks, device=hidden.device)[:, None] * _BLOCK
        places = places + torch.arange(span, device=hidden.device)
        windows = torch.index_select(by_group, 2, places.flatten())
        windows = windows.reshape(self.groups, batch * blocks, span * self.width)
        product = torch.matmul(windows, self.get_buffer("weight"))
        product = product.reshape(self.groups, batch, blocks * _BLOCK, self.width).permute(1, 2, 0, 3)
        hidden = product.reshape(batch, blocks * _BLOCK, size).narrow(1, 0, frames)
        bias, zeros = self.get_buffer("bias"), self.get_buffer("zeros")
        if self.norm is not None:
            hidden, bias = layer_norm(hidden, bias, self.norm), zeros
        result: torch.Tensor = self.activation(hidden, bias)
        return result
