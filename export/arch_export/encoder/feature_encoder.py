"""The convolutions over the waveform, with an exact and cheap form of the first one where it is normed over time.

In the `feat_extract_norm: group` checkpoints, layer 0 convolves the waveform and then normalises every channel over
time, which asks a runtime for sums over tens of thousands of values. ONNX Runtime's plain fp32 sums are off by up to
3e-5 where most of the clip is padding. But channel c of the convolution is w_c . f(t), where f(t) holds the few samples
under the kernel; so its mean over time is w_c . mean(f) and its variance w_c' Cov(f) w_c. Those come from one small
covariance matrix in fp64, and what remains is a single matrix product that convolves, normalises and adds the bias in
one pass. Statistics over the valid samples only cost no more: the other frames get no weight in mean and covariance.
"""

from __future__ import annotations

from typing import Any

import torch


class GroupNormConvolution(torch.nn.Module):
    """Convolution, one-channel group norm and activation of a wav2vec2-family layer 0.

    Args:
        convolution: one input channel, no dilation, no padding; a bias cancels in the norm.
        norm: with as many groups as channels.
        activation: applied to the result.
    """

    def __init__(self, convolution: torch.nn.Conv1d, norm: torch.nn.GroupNorm, activation: torch.nn.Module) -> None:
        super().__init__()
        self.kernel = convolution.kernel_size[0]
        self.stride = convolution.stride[0]
        self.epsilon = norm.eps
        self.activation = activation
        self.register_buffer("weight", convolution.weight[:, 0].detach().double())
        self.register_buffer("gain", norm.weight.detach().double())
        self.register_buffer("bias", norm.bias.detach().double())

    def forward(self, waveform: torch.Tensor, count: torch.Tensor | None = None) -> torch.Tensor:
        """FP32 [batch, samples] -> FP32 [batch, channels, frames].

        Args:
            waveform: the clips.
            count: INT64 [batch, 1], how many frames the statistics are taken over; all by default.
        """
        weight, gain, bias = (self.get_buffer(name) for name in ("weight", "gain", "bias"))
        last = self.kernel - 1
        taps = [waveform[:, tap : (tap - last) or None : self.stride] for tap in range(self.kernel)]
        frames = torch.stack(taps, dim=1)  # [batch, kernel, frames]
        # For the other side of the covariance, stacked again and not transposed: ONNX Runtime 1.19 to 1.25 would fuse a
        # transpose with the product into one operator, which they have not in fp64 on the CPU, and not load the graph.
        rows = torch.stack(taps, dim=2).double()  # [batch, frames, kernel]
        exact = frames.double()
        if count is None:
            mean = exact.mean(dim=2)
            centred = exact - mean[:, :, None]
            covariance = torch.matmul(centred, rows - mean[:, None, :]) / centred.shape[2]
        else:
            valid = torch.arange(frames.shape[2], device=frames.device)[None, :] < count
            share = (valid.double() / count)[:, None, :]
            mean = (exact * share).sum(dim=2)
            centred = exact - mean[:, :, None]
            covariance = torch.matmul(centred * share, rows - mean[:, None, :])
        variance = (torch.matmul(weight, covariance) * weight).sum(dim=2).clamp(min=0)
        scale = gain / torch.sqrt(variance + self.epsilon)
        # The product takes centred frames, so that nothing large cancels in it: in bf16 a clip with an offset would
        # lose most of its digits. A row of ones carries the bias through.
        shift = bias.expand(scale.shape[0], -1)
        weights = torch.cat([weight * scale[:, :, None], shift[:, :, None]], dim=2).float()
        frames = torch.cat([centred.float(), torch.ones_like(frames[:, :1])], dim=1)
        result: torch.Tensor = self.activation(torch.matmul(weights, frames))
        return result


class FeatureEncoder(torch.nn.Module):
    """All convolutions over the waveform.

    Only a norm over time makes a frame depend on more than the samples under its kernels, so with that taken over the
    valid samples, a clip's own frames are the same however it is padded.

    Args:
        features: transformers' `...FeatureEncoder`.
    """

    def __init__(self, features: Any) -> None:
        super().__init__()
        self.sizes = [(layer.conv.kernel_size[0], layer.conv.stride[0]) for layer in features.conv_layers]
        self.layers = torch.nn.ModuleList()
        for layer in features.conv_layers:
            norm = getattr(layer, "layer_norm", None)
            if isinstance(norm, torch.nn.GroupNorm):
                self.layers.append(GroupNormConvolution(layer.conv, norm, layer.activation))
            else:
                self.layers.append(layer)

    def forward(
        self, waveform: torch.Tensor, num_samples: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Convolve.

        Args:
            waveform: FP32 [batch, samples], normalised.
            num_samples: INT64 [batch, 1], the valid samples, if padding is not to count.

        Returns:
            Features FP32 [batch, frames, channels] and, with `num_samples`, how many of the frames are valid, at least
            1: INT64 [batch, 1].
        """
        count = None if num_samples is None else at_least_one_frame(num_samples, waveform.shape[1], self.sizes)
        hidden = waveform
        for index, (layer, (kernel, stride)) in enumerate(zip(self.layers, self.sizes, strict=True)):
            if count is not None:
                # torch.div would divide as floats, which fp16 cannot count in.
                count = (count - kernel) // stride + 1
            if isinstance(layer, GroupNormConvolution):
                hidden = layer(hidden, count)
            else:
                hidden = layer(hidden[:, None] if index == 0 else hidden)
        return hidden.transpose(1, 2), count


def receptive_field(sizes: list[tuple[int, int]]) -> int:
    """The samples under one last frame of convolutions of these (kernel, stride)."""
    needed = 1
    for kernel, stride in reversed(sizes):
        needed = (needed - 1) * stride + kernel
    return needed


def at_least_one_frame(num_samples: torch.Tensor, samples: int, sizes: list[tuple[int, int]]) -> torch.Tensor:
    """INT64 [batch, 1], the valid samples of each clip of `samples`, as if zero-padded to the length of one frame."""
    return num_samples.clamp(min=receptive_field(sizes)).minimum(torch.full_like(num_samples, samples))
