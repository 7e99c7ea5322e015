"""An audio encoder of the wav2vec 2.0 family as one module from waveform to clip embedding.

wav2vec 2.0, HuBERT, WavLM, data2vec-audio and UniSpeech(-SAT) are one architecture: convolutions over the waveform, a
projection, a convolution that tells positions, transformer layers. What differs between checkpoints stands in their
configuration and in which modules they have. The forward pass is written out here, over transformers' modules and
weights, because what a graph for serving needs (a cut after a layer, valid samples only, one product for queries, keys
and values) transformers' own does not have; every export is compared with transformers' own.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import torch
from torch.nn.utils import parametrize

from arch_export.encoder.attention import MASKED, PositionBias, SelfAttention
from arch_export.encoder.feature_encoder import FeatureEncoder
from arch_export.encoder.options import EncoderOptions, Lengths

# See `_make_odd`.
_FEW_CHANNELS = 16


class Normalization(StrEnum):
    """What the checkpoint's feature extractor does to the waveform (transformers' Wav2Vec2FeatureExtractor)."""

    NONE = "none"
    """`do_normalize` is false."""
    WHOLE = "whole"
    """Zero mean and unit variance over the whole padded clip: the padding becomes -mean/std."""
    VALID = "valid"
    """Zero mean and unit variance over the valid samples; the padding stays 0."""


class NormalizedWaveform(torch.nn.Module):
    """Wav2Vec2FeatureExtractor's normalisation: population variance, epsilon 1e-7 inside the root."""

    def __init__(self, normalization: Normalization) -> None:
        super().__init__()
        self.normalization = normalization

    def forward(self, waveform: torch.Tensor, num_samples: torch.Tensor) -> torch.Tensor:
        """Normalise `waveform` FP32 [batch, samples]; `num_samples` INT64 [batch, 1] counts the valid samples."""
        if self.normalization is Normalization.NONE:
            return waveform
        # In fp64: a runtime's plain fp32 sum over a long, mostly constant clip is off by parts in a thousand. Padding
        # becomes -mean/std, and the first norm of some encoders blows such a difference up.
        waveform = waveform.double()
        if self.normalization is Normalization.WHOLE:
            centred = waveform - waveform.mean(dim=1, keepdim=True)
            # Again, because a runtime that computes in bf16 leaves a part in 500 of the mean, more than a quiet clip.
            centred = centred - centred.mean(dim=1, keepdim=True)
            return (centred / torch.sqrt(centred.square().mean(dim=1, keepdim=True) + 1e-7)).float()
        positions = torch.arange(waveform.shape[1], device=waveform.device)
        valid = (positions[None, :] < num_samples).to(waveform.dtype)
        # Counted from the mask: a num_samples beyond the clip's end, or 0, must not skew the mean.
        count = valid.sum(dim=1, keepdim=True).clamp(min=1)
        centred = (waveform - (waveform * valid).sum(dim=1, keepdim=True) / count) * valid
        centred = (centred - centred.sum(dim=1, keepdim=True) / count) * valid  # again, as above
        return (centred / torch.sqrt(centred.square().sum(dim=1, keepdim=True) / count + 1e-7)).float()


class PositionalConvolution(torch.nn.Module):
    """The convolutions that tell the frames their positions: one, or data2vec's several with norms between.

    Args:
        embedding: transformers' `...PositionalConvEmbedding`.
    """

    def __init__(self, embedding: Any) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(embedding.layers if hasattr(embedding, "layers") else [embedding])
        for layer in self.layers:
            _make_odd(layer)

    def forward(self, hidden: torch.Tensor, valid: torch.Tensor | None) -> torch.Tensor:
        """FP32 [batch, frames, size] -> the same shape; `valid` FP32 [batch, frames, 1] is 1 where frames count."""
        hidden = hidden.transpose(1, 2)
        layer: Any
        for layer in self.layers:
            batch_norm, layer_norm = (getattr(layer, name, None) for name in ("batch_norm", "layer_norm"))
            if batch_norm is not None:
                hidden = batch_norm(hidden)
            if valid is not None:
                hidden = hidden * valid.transpose(1, 2)
            hidden = layer.padding(layer.conv(hidden))
            if layer_norm is not None:
                hidden = layer_norm(hidden.transpose(1, 2)).transpose(1, 2)
            hidden = layer.activation(hidden)
        return hidden.transpose(1, 2)


class Layer(torch.nn.Module):
    """One transformer layer.

    Args:
        layer: transformers' `...EncoderLayer` or `...EncoderLayerStableLayerNorm`.
        norm_first: it is the latter.
    """

    def __init__(self, layer: Any, norm_first: bool) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.attention = SelfAttention(layer.attention)
        self.norm = layer.layer_norm
        self.feed_forward = layer.feed_forward
        self.final_norm = layer.final_layer_norm
        self.adapter = getattr(layer, "adapter_layer", None)

    def forward(
        self, hidden: torch.Tensor, mask: torch.Tensor | None, position_bias: torch.Tensor | None
    ) -> torch.Tensor:
        """FP32 [batch, frames, size] -> the same shape; see `SelfAttention` for the others."""
        if not self.norm_first:
            hidden = self.norm(hidden + self.attention(hidden, mask, position_bias))
            result: torch.Tensor = self.final_norm(hidden + self.feed_forward(hidden))
            return result
        hidden = hidden + self.attention(self.norm(hidden), mask, position_bias)
        hidden = hidden + self.feed_forward(self.final_norm(hidden))
        return hidden if self.adapter is None else hidden + self.adapter(hidden)


class ClipEncoder(torch.nn.Module):
    """Normalisation, encoder without attention mask, mean over all frames, padding included (the ARCH protocol).

    With `Lengths.EXACT`, everything counts the clip's own samples only. A clip too short for one frame counts as zero-
    padded to the length that gives one.

    Args:
        model: a transformers audio encoder in evaluation mode. Its modules are taken over and changed: it is of no use
            afterwards.
        normalization: what its feature extractor does.
        encoder_options: how many layers, and what padding does.
    """

    def __init__(self, model: Any, normalization: Normalization, encoder_options: EncoderOptions) -> None:
        super().__init__()
        self.encoder_options = encoder_options
        self.normalize = NormalizedWaveform(normalization)
        fold_weight_norm(model)
        self.feature_encoder = FeatureEncoder(model.feature_extractor)
        projection = model.feature_projection
        self.projection_norm = projection.layer_norm if getattr(projection, "feat_proj_layer_norm", True) else None
        self.projection = projection.projection
        encoder = model.encoder
        self.positions = PositionalConvolution(encoder.pos_conv_embed)
        norm_first = norms_come_first(encoder)
        self.norm_before = None if norm_first else encoder.layer_norm
        self.norm_after = encoder.layer_norm if norm_first and encoder_options.cut_after_layer is None else None
        first = encoder.layers[0].attention
        self.position_bias = PositionBias(first) if hasattr(first, "rel_attn_embed") else None
        self.layers = torch.nn.ModuleList()
        del encoder.layers[encoder_options.cut_after_layer or len(encoder.layers) :]
        while len(encoder.layers):  # one at a time: the merged weights are copies
            self.layers.append(Layer(encoder.layers[0], norm_first))
            del encoder.layers[0]

    def forward(self, waveform: torch.Tensor, num_samples: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Embed clips.

        Args:
            waveform: FP32 [batch, samples] in [-1, 1], zero-padded at the end.
            num_samples: INT64 [batch, 1], the valid samples of each clip.

        Returns:
            `embedding` FP32 [batch, embedding size] and, with `all_layers`, `layer_embeddings` FP32 [batch, layers + 1,
            embedding size]: what enters the first transformer layer, then what leaves each.
        """
        samples = num_samples if self.encoder_options.lengths is Lengths.EXACT else None
        features, count = self.feature_encoder(self.normalize(waveform, num_samples), samples)
        if self.projection_norm is not None:
            features = self.projection_norm(features)
        hidden = self.projection(features)
        frames = hidden.shape[1]
        valid = mask = None
        if count is not None:
            valid = (torch.arange(frames, device=hidden.device)[None, :] < count).to(hidden.dtype)[:, :, None]
            mask = ((1.0 - valid) * MASKED).view(-1, 1, 1, frames)
            hidden = hidden * valid
        hidden = hidden + self.positions(hidden, valid)
        if self.norm_before is not None:
            hidden = self.norm_before(hidden)
        bias = self.position_bias(frames, hidden.device) if self.position_bias is not None else None
        means = [_mean(hidden, valid)] if self.encoder_options.all_layers else []
        for layer in self.layers:
            hidden = layer(hidden, mask, bias)
            if self.encoder_options.all_layers:
                means.append(_mean(hidden, valid))
        embedding = _mean(hidden if self.norm_after is None else self.norm_after(hidden), valid)
        return (embedding, torch.stack(means, dim=1)) if means else (embedding,)


def norms_come_first(encoder: Any) -> bool:
    """Whether each norm of transformers' `...Encoder` comes before what it norms the input of.

    Asked of the module, because not every family heeds `do_stable_layer_norm`; the two kinds have the same parts, and
    differ in name and forward pass.
    """
    return type(encoder.layers[0]).__name__.endswith("StableLayerNorm")


def _mean(hidden: torch.Tensor, valid: torch.Tensor | None) -> torch.Tensor:
    """Over frames: FP32 [batch, frames, size] -> FP32 [batch, size]."""
    return hidden.mean(dim=1) if valid is None else (hidden * valid).sum(dim=1) / valid.sum(dim=1)


def _make_odd(layer: Any) -> None:
    """Give an even kernel over few channels a last tap of zero, which stands in for the cut of the last frame.

    Where a group has an even number of input channels below 16, and channels times taps are 64, 96, 128, ..., oneDNN
    (3.12, 3.13) computes bf16 convolutions with AMX wrongly: the error is as large as the result. Encoders of published
    sizes have 48 channels or more; an odd kernel over so few never gives such a product.
    """
    conv = layer.conv
    if conv.kernel_size[0] % 2 == 0 and conv.in_channels // conv.groups < _FEW_CHANNELS:
        weight = torch.nn.functional.pad(conv.weight.detach(), (0, 1))
        conv.weight = torch.nn.Parameter(weight, requires_grad=False)
        conv.kernel_size = (weight.shape[2],)
        layer.padding = torch.nn.Identity()


def fold_weight_norm(module: torch.nn.Module) -> None:
    """Replace every parametrised weight by its value, so that the graph holds constants."""
    for part in list(module.modules()):
        if parametrize.is_parametrized(part):
            for name in list(part.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(part, name)
