"""Self-attention of the wav2vec 2.0 family in a form that ONNX runtimes execute well, with WavLM's position bias."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

# Added to the scores of keys that do not count: far below any score, and a number in fp16 too.
MASKED = -1e4


class SelfAttention(torch.nn.Module):
    """Multi-head self-attention with one product for queries, keys and values, and the scale in its weights.

    Args:
        attention: transformers' module: `q_proj`, `k_proj`, `v_proj`, `out_proj`, `num_heads`, `scaling`, and in WavLM
            `gru_rel_pos_linear` and `gru_rel_pos_const`.
    """

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.heads: int = attention.num_heads
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        weights = [projection.weight for projection in projections]
        biases = [
            projection.bias if projection.bias is not None else torch.zeros(len(projection.weight))
            for projection in projections
        ]
        weights[0], biases[0] = weights[0] * attention.scaling, biases[0] * attention.scaling
        self.qkv = torch.nn.Linear(weights[0].shape[1], 3 * len(weights[0]), device="meta")
        self.qkv.weight = torch.nn.Parameter(torch.cat(weights), requires_grad=False)
        self.qkv.bias = torch.nn.Parameter(torch.cat(biases), requires_grad=False)
        self.out = attention.out_proj
        self.gate = PositionGate(attention) if hasattr(attention, "gru_rel_pos_linear") else None

    def forward(
        self, hidden: torch.Tensor, mask: torch.Tensor | None = None, position_bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Attend.

        Args:
            hidden: FP32 [batch, frames, size].
            mask: FP32 [batch, 1, 1, frames], added to the scores.
            position_bias: FP32 [heads, frames, frames], gated and added to the scores (WavLM).

        Returns:
            FP32 [batch, frames, size].
        """
        batch, frames, size = hidden.shape
        parts = self.qkv(hidden).view(batch, frames, 3, self.heads, size // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        scores = torch.matmul(query, key.transpose(2, 3))
        if self.gate is not None and position_bias is not None:
            scores = scores + self.gate(hidden) * position_bias
        if mask is not None:
            scores = scores + mask
        mixed = torch.matmul(torch.softmax(scores, dim=-1), value)
        result: torch.Tensor = self.out(mixed.transpose(1, 2).reshape(batch, frames, size))
        return result


class PositionGate(torch.nn.Module):
    """How much of the position bias a query takes: the gate of WavLM (arXiv 2110.13900, equation 3).

    transformers projects each head's frame to 8 values and sums them in two groups of 4; here the weights are summed.

    Args:
        attention: transformers' `WavLMAttention`.
    """

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.heads: int = attention.num_heads
        linear = attention.gru_rel_pos_linear
        self.register_buffer("weight", linear.weight.view(2, 4, -1).sum(dim=1).T.contiguous())
        self.register_buffer("bias", linear.bias.view(2, 4).sum(dim=1))
        self.register_buffer("scale", attention.gru_rel_pos_const.data)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """FP32 [batch, frames, size] -> FP32 [batch, heads, frames, 1]."""
        weight, bias, scale = (self.get_buffer(name) for name in ("weight", "bias", "scale"))
        batch, frames, size = hidden.shape
        by_head = hidden.view(batch, frames, self.heads, size // self.heads)
        gates = torch.sigmoid(torch.matmul(by_head, weight) + bias).transpose(1, 2)
        first, second = gates.chunk(2, dim=-1)
        return first * (second * scale - 1.0) + 2.0


class PositionBias(torch.nn.Module):
    """WavLM's relative position bias, which all layers share.

    The bias depends on the distance of two frames alone and stays the same beyond `max_distance`. So it is a table over
    distances, and the graph needs neither the logarithm of the buckets nor a copy for every clip of a batch.

    Args:
        attention: the `WavLMAttention` of the first layer, which holds the embedding.
    """

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.furthest: int = attention.max_distance
        buckets: Callable[[torch.Tensor], torch.Tensor] = attention._relative_positions_bucket
        distances = torch.arange(-self.furthest, self.furthest + 1)
        self.register_buffer("table", attention.rel_attn_embed(buckets(distances)).T.contiguous())

    def forward(self, frames: int, device: torch.device) -> torch.Tensor:
        """FP32 [heads, frames, frames]: what a query (row) adds to the score of a key (column)."""
        positions = torch.arange(frames, device=device)
        distances = (positions[None, :] - positions[:, None]).clamp(-self.furthest, self.furthest)
        return self.get_buffer("table")[:, distances + self.furthest]
