"""A small randomly initialised HuBERT as a checkpoint folder, for the demonstration: real code paths, no download."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from pathlib import Path


def write_random_hubert(folder: Path, seed: int = 0) -> Path:
    """Write a HuBERT of 2 layers with 128 dimensions (config.json, preprocessor_config.json, safetensors).

    Its weights are random: it shows the speed of a small encoder and how well random features do, nothing more.
    """
    from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

    torch.manual_seed(seed)
    config = HubertConfig(
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=512,
        conv_dim=(64,) * 7,
        num_conv_pos_embeddings=32,
        num_conv_pos_embedding_groups=4,
    )
    HubertModel(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False).save_pretrained(folder)
    return folder
