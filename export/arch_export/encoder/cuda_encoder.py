"""The encoder of `clip_encoder` in the form that ONNX Runtime runs best on a GPU: other operators, the same embeddings.

Every operator of a GPU reads its input from memory and writes its output there, so what is small is fused: attention is
one operator, a residual sum with its bias and norm another, bias and GELU a third. Convolutions are in
`cuda_convolutions`. Weights and hidden states are in the precision of the graph; in fp32 stay the waveform (its
normaliser and the statistics of a norm over time in fp64) and the mean over frames.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from arch_export.encoder.attention import MASKED, PositionBias, PositionGate
from arch_export.encoder.clip_encoder import (
    Normalization,
    NormalizedWaveform,
    fold_weight_norm,
    norms_come_first,
)
from arch_export.encoder.contrib_ops import multi_head_attention, skip_layer_norm, skip_layer_norm_and_sum
from arch_export.encoder.cuda_convolutions import (
    Activation,
    CudaPositionalConvolution,
    FirstConvolution,
    StridedConvolution,
)
from arch_export.encoder.feature_encoder import at_least_one_frame, receptive_field
from arch_export.encoder.options import EncoderOptions, Lengths


class Affine(torch.nn.Module):
    """A linear layer whose bias is added by whoever takes the product, or not at all.

    Args:
        weight: [out, in].
        bias: [out].
        dtype: what it computes in.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().T.to(dtype).contiguous())
        self.register_buffer("bias", bias.detach().to(dtype))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[..., in] -> [..., out], without the bias."""
        return torch.matmul(hidden, self.get_buffer("weight"))


class CudaSelfAttention(torch.nn.Module):
    """Self-attention in one operator between four products.

    A bias of the keys adds the same to all scores of a query, and the softmax takes it away; one of the values goes
    through, because the shares of a query add up to 1, so it becomes part of the output's bias.

    Args:
        attention: transformers' module, as for `attention.SelfAttention`.
        dtype: what it computes in.
    """

    def __init__(self, attention: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.heads: int = attention.num_heads
        query, key, value, out = (getattr(attention, f"{name}_proj") for name in ("q", "k", "v", "out"))
        self.query = Affine(query.weight, _bias(query), dtype)
        self.key = Affine(key.weight, torch.zeros(0), dtype)
        self.value = Affine(value.weight, torch.zeros(0), dtype)
        through = torch.mv(out.weight.detach().double(), _bias(value).double())
        self.out = Affine(out.weight, _bias(out).double() + through, dtype)
        self.gate = PositionGate(attention).to(dtype) if hasattr(attention, "gru_rel_pos_linear") else None

    def forward(
        self,
        hidden: torch.Tensor,
        lengths: torch.Tensor | None,
        mask: torch.Tensor | None,
        position_bias: torch.Tensor | None,
    ) -> torch.Tensor:
        """Attend.

        Args:
            hidden: [batch, frames, size].
            lengths: INT32 [batch], the keys that count; all by default.
            mask: [batch, 1, 1, frames], added to the scores in place of `lengths` where there is a bias.
            position_bias: [heads, frames, frames], gated and added to the scores (WavLM).

        Returns:
            [batch, frames, size], without the output's bias.
        """
        query = self.query(hidden) + self.query.get_buffer("bias")
        bias = None
        if self.gate is not None and position_bias is not None:
            bias = self.gate(hidden) * position_bias
            if mask is not None:
                bias, lengths = bias + mask, None
        mixed = multi_head_attention(query, self.key(hidden), self.value(hidden), self.heads, lengths, bias)
        result: torch.Tensor = self.out(mixed)
        return result


class CudaLayer(torch.nn.Module):
    """One transformer layer; what it adds to the hidden states is summed by the norm that comes next.

    Args:
        layer: transformers' `...EncoderLayer` or `...EncoderLayerStableLayerNorm`.
        dtype: what it computes in.
    """

    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.attention = CudaSelfAttention(layer.attention, dtype)
        self.norm = layer.layer_norm.to(dtype)
        first, second = layer.feed_forward.intermediate_dense, layer.feed_forward.output_dense
        self.first = Affine(first.weight, _bias(first), dtype)
        self.activation = Activation(layer.feed_forward.intermediate_act_fn)
        self.second = Affine(second.weight, _bias(second), dtype)
        self.final_norm = layer.final_layer_norm.to(dtype)
        adapter = getattr(layer, "adapter_layer", None)
        self.adapter = adapter.to(dtype) if adapter is not None else None

    def feed_forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[batch, frames, size] -> the same shape, without the last bias."""
        result: torch.Tensor = self.second(self.activation(self.first(hidden), self.first.get_buffer("bias")))
        return result


class CudaEncoder(torch.nn.Module):
    """What `clip_encoder.ClipEncoder` is, with the same inputs and outputs, for a graph that CUDA runs.

    Args:
        model: a transformers audio encoder in evaluation mode. Its modules are taken over and changed: it is of no use
            afterwards.
        normalization: what its feature extractor does.
        encoder_options: how many layers, and what padding does.
        dtype: what weights and hidden states are kept in.
    """

    def __init__(
        self, model: Any, normalization: Normalization, encoder_options: EncoderOptions, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.encoder_options = encoder_options
        self.dtype = dtype
        self.normalize = NormalizedWaveform(normalization)
        fold_weight_norm(model)
        layers = model.feature_extractor.conv_layers
        self.sizes = [(layer.conv.kernel_size[0], layer.conv.stride[0]) for layer in layers]
        self.first = FirstConvolution(layers[0], self._total_stride // self.sizes[0][1], dtype)
        self.convolutions = torch.nn.ModuleList(StridedConvolution(layer, dtype) for layer in layers[1:])
        projection = model.feature_projection
        has_norm = getattr(projection, "feat_proj_layer_norm", True)
        self.projection_norm = projection.layer_norm.to(dtype) if has_norm else None
        self.projection = Affine(projection.projection.weight, _bias(projection.projection), dtype)
        encoder = model.encoder
        self.positions = CudaPositionalConvolution(encoder.pos_conv_embed, dtype)
        self.norm_first = norms_come_first(encoder)
        self.norm = encoder.layer_norm.to(dtype)
        attention = encoder.layers[0].attention
        has_bias = hasattr(attention, "rel_attn_embed")
        self.position_bias = PositionBias(attention).to(dtype) if has_bias else None
        self.layers = torch.nn.ModuleList()
        del encoder.layers[encoder_options.cut_after_layer or len(encoder.layers) :]
        while len(encoder.layers):  # one at a time: the weights are copies
            self.layers.append(CudaLayer(encoder.layers[0], dtype))
            del encoder.layers[0]

    def forward(self, waveform: torch.Tensor, num_samples: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """As `ClipEncoder.forward`."""
        exact = self.encoder_options.lengths is Lengths.EXACT
        samples = at_least_one_frame(num_samples, waveform.shape[1], self.sizes) if exact else None
        hidden, frames = self._convolve(self.normalize(waveform, num_samples), samples)
        if self.projection_norm is not None:
            hidden = self.projection_norm(hidden)
        hidden = self.projection(hidden) + self.projection.get_buffer("bias")
        valid = lengths = mask = None
        if samples is not None:
            count = (samples - receptive_field(self.sizes)) // self._total_stride + 1
            valid = (torch.arange(frames, device=hidden.device)[None, :] < count).to(self.dtype)[:, :, None]
            lengths = count[:, 0].to(torch.int32)
            mask = ((1.0 - valid) * MASKED).view(-1, 1, 1, frames)
            hidden = hidden * valid
        bias = self.position_bias(frames, hidden.device) if self.position_bias is not None else None
        positions = self.positions(hidden, valid)
        if self.norm_first:
            normed, states = self._norm_first(positions, hidden, lengths, mask, bias)
        else:
            normed, states = self._norm_last(positions, hidden, lengths, mask, bias)
        whole = self.encoder_options.cut_after_layer is None
        embedding = _mean(normed if self.norm_first and whole else states[-1], valid)
        if not self.encoder_options.all_layers:
            return (embedding,)
        return embedding, torch.stack([_mean(state, valid) for state in states], dim=1)

    def _norm_last(
        self, added: torch.Tensor, hidden: torch.Tensor, *attention: torch.Tensor | None
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The transformer layers, each norm behind a sum: the last states, and those between the layers."""
        states = [skip_layer_norm(added, hidden, None, self.norm)]
        layer: Any
        for layer in self.layers:
            attended = layer.attention(states[-1], *attention)
            normed = skip_layer_norm(attended, states[-1], layer.attention.out.bias, layer.norm)
            states.append(skip_layer_norm(layer.feed_forward(normed), normed, layer.second.bias, layer.final_norm))
        return states[-1], states

    def _norm_first(
        self, added: torch.Tensor, hidden: torch.Tensor, *attention: torch.Tensor | None
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The same with each norm before what takes it; so a sum and the norm of the next block are one operator."""
        layers: list[Any] = list(self.layers)
        normed, summed = skip_layer_norm_and_sum(added, hidden, None, layers[0].norm)
        states = [summed]
        for layer, norm in zip(layers, [*(after.norm for after in layers[1:]), self.norm], strict=True):
            attended = layer.attention(normed, *attention)
            normed, summed = skip_layer_norm_and_sum(attended, summed, layer.attention.out.bias, layer.final_norm)
            normed, summed = skip_layer_norm_and_sum(layer.feed_forward(normed), summed, layer.second.bias, norm)
            if layer.adapter is not None:
                summed = summed + layer.adapter(summed)
                normed = norm(summed)
            states.append(summed)
        return normed, states

    @property
    def _total_stride(self) -> int:
        return math.prod(stride for _, stride in self.sizes)

    def _convolve(self, waveform: torch.Tensor, valid: torch.Tensor | None) -> tuple[torch.Tensor, int]:
        """FP32 [batch, samples] -> [batch, frames, channels] and the number of frames; `valid` counts samples.

        The clip is padded to a whole number of last frames, so that each convolution's input can be cut into blocks.
        What is computed of the padding is cut off in the end; no other frame sees it.
        """
        batch, samples = waveform.shape
        total, field = self._total_stride, receptive_field(self.sizes)
        # Without, torch cannot tell that there is a frame.
        torch._check(samples >= field)  # type: ignore[no-untyped-call]
        frames = (samples - field) // total + 1
        more = -(-(field - 1) // total)
        size = total * (frames + more)
        kernel, stride = self.sizes[0]
        behind = total + kernel  # at least what the last windows reach over
        padded = torch.cat([waveform, waveform.new_zeros(batch, size + behind - samples)], dim=1)
        if valid is None:
            count = torch.full((1, 1), (samples - kernel) // stride + 1, device=waveform.device)
        else:
            count = (valid - kernel) // stride + 1
        # Of each convolution, `slope` frames for each of the last frames, and some more.
        slope, offset = total // stride, total // stride * more
        hidden = self.first(padded, slope * frames + offset, count)
        for layer, (kernel, stride) in zip(self.convolutions, self.sizes[1:], strict=True):
            slope, offset = slope // stride, (offset - kernel) // stride + 1
            hidden = layer(hidden, slope * frames + offset)
        return hidden.narrow(1, 0, frames), frames


def _bias(linear: Any) -> torch.Tensor:
    return linear.bias.detach() if linear.bias is not None else torch.zeros(linear.out_features)


def _mean(hidden: torch.Tensor, valid: torch.Tensor | None) -> torch.Tensor:
    """Over frames: [batch, frames, size] -> FP32 [batch, size].

    As a product, which a GPU takes less time for than for ONNX Runtime's sum over an axis in the middle.
    """
    shares = torch.full((1, 1, hidden.shape[1]), 1.0 / hidden.shape[1], device=hidden.device)
    if valid is not None:
        counted = valid.float().transpose(1, 2)
        shares = counted / counted.sum(dim=2, keepdim=True)
    return torch.matmul(shares, hidden.float()).squeeze(1)
