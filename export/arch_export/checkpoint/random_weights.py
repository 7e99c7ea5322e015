"""Randomly initialised encoders as checkpoint folders: real code paths, no download."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from pathlib import Path


def write_random(
    folder: Path,
    family: str,
    do_normalize: bool = True,
    return_attention_mask: bool = False,
    seed: int = 0,
    trained_scales: bool = False,
    **config: Any,
) -> Path:
    """Write config.json, preprocessor_config.json and model.safetensors of an encoder with random weights.

    Args:
        folder: made if it is not there.
        family: the `model_type`, as transformers names it.
        do_normalize: see transformers' Wav2Vec2FeatureExtractor.
        return_attention_mask: likewise.
        seed: of the weights.
        trained_scales: give the weights the spread of a trained encoder's, see `spread_like_trained`.
        config: what differs from transformers' defaults for the family.
    """
    from transformers import AutoConfig, AutoModel, Wav2Vec2FeatureExtractor
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(seed)
    model = AutoModel.from_config(AutoConfig.for_model(family, **config))
    if trained_scales:
        spread_like_trained(model)
    model.save_pretrained(folder)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=do_normalize, return_attention_mask=return_attention_mask)
    extractor.save_pretrained(folder)
    return folder


def spread_like_trained(model: torch.nn.Module) -> None:
    """Give random weights what makes trained ones hard to round, in place.

    A fresh encoder is the kindest case there is: all channels alike, small products. A trained one has larger weights,
    norm gains that differ from channel to channel, biases, and a few channels far beyond the rest, which set the scale
    of everything that is quantised with them (Dettmers et al., LLM.int8(), 2022, section 3). Every hundredth channel
    becomes such an outlier here.

    How far they are spread is bounded by what no trained encoder is: chaotic. Over the 12 layers of a base model,
    PyTorch's fp32 stays within 3e-6 of its fp64; with weights three times as large, or rows of them that stick out
    fourfold, the error of rounding grew to half of the embedding.
    """
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, torch.nn.LayerNorm):
                layer.weight.mul_(0.5 * torch.exp(0.3 * torch.randn_like(layer.weight)))
                layer.weight[::100] *= 8
                layer.bias.add_(0.1 * torch.randn_like(layer.bias))
            elif isinstance(layer, torch.nn.Linear):
                layer.weight.mul_(2)
                if layer.bias is not None:
                    layer.bias.add_(0.05 * torch.randn_like(layer.bias))
            elif isinstance(layer, torch.nn.Conv1d) and layer.groups == 1:
                layer.weight.mul_(1.5)


def write_random_hubert(folder: Path, seed: int = 0) -> Path:
    """Write a HuBERT of 2 layers with 128 dimensions, for the demonstration.

    Its weights are random: it shows the speed of a small encoder and how well random features do, nothing more.
    """
    return write_random(
        folder,
        "hubert",
        seed=seed,
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=512,
        conv_dim=(64,) * 7,
        num_conv_pos_embeddings=32,
        num_conv_pos_embedding_groups=4,
    )
