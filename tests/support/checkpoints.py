"""Small checkpoints with random weights, saved the way a real one is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from arch_export.checkpoint.random_weights import write_random

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
GROUP_NORM = {"feat_extract_norm": "group", "do_stable_layer_norm": False}
LAYER_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
# As in the checkpoints of the family, but with a narrower kernel.
DATA2VEC = {"num_conv_pos_embeddings": 5, "conv_pos_kernel_size": 19, "conv_bias": False}
# Distances past `max_bucket_distance` occur in clips beyond 0.4 s.
WAVLM = {"num_buckets": 16, "max_bucket_distance": 20}


def write_checkpoint(
    folder: Path,
    family: str = "hubert",
    norm: dict[str, Any] = GROUP_NORM,
    do_normalize: bool = True,
    return_attention_mask: bool = False,
    **config: Any,
) -> Path:
    """Write config.json, preprocessor_config.json and model.safetensors into `folder`."""
    settings = {**SMALL, **norm, **config}
    return write_random(folder, family, do_normalize, return_attention_mask, seed=3, **settings)
