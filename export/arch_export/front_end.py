"""An exact and cheap form of the first convolution of the `feat_extract_norm: group` checkpoints.

That layer convolves the waveform and then normalises every channel over time, which asks a runtime for sums over
tens of thousands of values. ONNX Runtime's plain fp32 sums are off by up to 3e-5 where most of the clip is padding.
But channel c of the convolution is w_c . f(t), where f(t) holds the few samples under the kernel; so its mean over
time is w_c . mean(f) and its variance w_c' Cov(f) w_c. Those come from one small covariance matrix in fp64, and what
remains is a single matrix product that convolves, normalises and adds the bias in one pass.
"""

from __future__ import annotations

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

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """FP32 [batch, 1, samples] -> FP32 [batch, channels, frames]."""
        weight, gain, bias = (self.get_buffer(name) for name in ("weight", "gain", "bias"))
        last = self.kernel - 1
        taps = [waveform[:, 0, tap : (tap - last) or None : self.stride] for tap in range(self.kernel)]
        frames = torch.stack(taps, dim=1)  # [batch, kernel, frames]
        exact = frames.double()
        mean = exact.mean(dim=2, keepdim=True)
        centred = exact - mean
        covariance = torch.matmul(centred, centred.transpose(1, 2)) / centred.shape[2]
        variance = (torch.matmul(weight, covariance) * weight).sum(dim=2).clamp(min=0)
        scale = gain / torch.sqrt(variance + self.epsilon)
        # The product takes centred frames, so that nothing large cancels in it: in bf16 a clip with an offset would
        # lose most of its digits. A row of ones carries the bias through.
        shift = bias.expand(scale.shape[0], -1)
        weights = torch.cat([weight * scale[:, :, None], shift[:, :, None]], dim=2).float()
        result: torch.Tensor = self.activation(
            torch.matmul(weights, torch.cat([centred.float(), torch.ones_like(frames[:, :1])], dim=1))
        )
        return result


def replace_group_norm_convolution(module: torch.nn.Module) -> None:
    """Put a `GroupNormConvolution` in the place of every layer below `module` that it can stand for."""
    for parent in list(module.modules()):
        for name, layer in list(parent.named_children()):
            convolution, norm, activation = (
                getattr(layer, part, None) for part in ("conv", "layer_norm", "activation")
            )
            if (
                isinstance(convolution, torch.nn.Conv1d)
                and isinstance(norm, torch.nn.GroupNorm)
                and isinstance(activation, torch.nn.Module)
                and norm.num_groups == norm.num_channels
                and (convolution.in_channels, convolution.dilation, convolution.padding) == (1, (1,), (0,))
            ):
                setattr(parent, name, GroupNormConvolution(convolution, norm, activation))
