"""A Hugging Face audio encoder as one module from waveform to clip embedding, the way the ARCH protocol has it."""

from __future__ import annotations

import json
import logging
import warnings
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.utils import parametrize

from arch_export.checkpoints import PREPROCESSOR, Checkpoint
from arch_export.errors import ExportError, ExportUsageError

if TYPE_CHECKING:
    from pathlib import Path

# Only pre-training and fine-tuning read it; checkpoints of fine-tuned models lack it.
_UNUSED_AT_INFERENCE = {"masked_spec_embed"}


class Normalization(StrEnum):
    """What the checkpoint's feature extractor does to the waveform (transformers' Wav2Vec2FeatureExtractor)."""

    NONE = "none"
    """`do_normalize` is false."""
    WHOLE = "whole"
    """Zero mean and unit variance over the whole padded clip: the padding becomes -mean/std."""
    VALID = "valid"
    """Zero mean and unit variance over the valid samples; the padding stays 0."""


@dataclass(frozen=True)
class FeatureExtractor:
    """What `preprocessor_config.json` asks for; `sample_rate` in Hz."""

    normalization: Normalization
    sample_rate: int


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


class ClipEncoder(torch.nn.Module):
    """Normalisation, encoder without attention mask, mean over all frames, padding included (the ARCH protocol).

    Args:
        encoder: a transformers audio encoder.
        normalization: what its feature extractor does.
        layers: also give the mean of every layer's hidden state.
    """

    def __init__(self, encoder: torch.nn.Module, normalization: Normalization, layers: bool = False) -> None:
        super().__init__()
        self.normalize = NormalizedWaveform(normalization)
        self.encoder = encoder
        self.layers = layers

    def forward(self, waveform: torch.Tensor, num_samples: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Embed clips.

        Args:
            waveform: FP32 [batch, samples] in [-1, 1], zero-padded at the end.
            num_samples: INT64 [batch, 1], the valid samples of each clip.

        Returns:
            `embedding` FP32 [batch, embedding size] and, with `layers`, `layer_embeddings` FP32 [batch, layers + 1,
            embedding size]: what enters the first transformer layer, then what leaves each.
        """
        output = self.encoder(self.normalize(waveform, num_samples), output_hidden_states=self.layers)
        embedding: torch.Tensor = output.last_hidden_state.mean(dim=1)
        if not self.layers:
            return (embedding,)
        return embedding, torch.stack([frames.mean(dim=1) for frames in output.hidden_states], dim=1)


def read_feature_extractor(folder: Path) -> FeatureExtractor:
    """Read `preprocessor_config.json`; what it leaves out takes transformers' defaults.

    Raises:
        ExportUsageError: if it asks for something that the graph's contract cannot give.
    """
    path = folder / PREPROCESSOR
    try:
        settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ExportUsageError(f"{path} is no JSON: {error}") from error
    if not isinstance(settings, dict) or type(settings.get("sampling_rate", 16000)) is not int:
        raise ExportUsageError(f"{path} is no feature extractor's: wants an object with a sampling_rate in Hz")
    if settings.get("padding_value", 0.0) != 0.0 or settings.get("padding_side", "right") != "right":
        raise ExportUsageError(f"{path} pads otherwise than with zeros at the end, which is not supported")
    if settings.get("feature_size", 1) != 1:
        raise ExportUsageError(
            f"{path} asks for spectral features (feature_size > 1); only raw waveforms are supported"
        )
    normalization = Normalization.NONE
    if settings.get("do_normalize", True):
        normalization = Normalization.VALID if settings.get("return_attention_mask", False) else Normalization.WHOLE
    return FeatureExtractor(normalization, int(settings.get("sampling_rate", 16000)))


def load_encoder(checkpoint: Checkpoint) -> torch.nn.Module:
    """Load the checkpoint's encoder in fp32 and evaluation mode.

    Raises:
        ExportUsageError: if its files do not fit one another.
    """
    from transformers import AutoModel
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        model, info = AutoModel.from_pretrained(
            checkpoint.folder,
            dtype=torch.float32,
            attn_implementation="eager",
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # transformers raises whatever the file at fault provokes
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ExportUsageError(f"{checkpoint.source} cannot be loaded: {reason}") from error
    missing = sorted(set(info["missing_keys"]) - _UNUSED_AT_INFERENCE)
    if missing:
        # transformers fills them with random numbers: the export would verify and the embeddings be noise.
        raise ExportUsageError(
            f"{checkpoint.source} lacks {len(missing)} of the encoder's weights, among them {missing[0]}"
        )
    encoder: torch.nn.Module = model.eval().requires_grad_(False)
    return encoder


def fold_weight_norm(module: torch.nn.Module) -> None:
    """Replace every parametrised weight by its value, so that the graph holds constants."""
    for part in list(module.modules()):
        if parametrize.is_parametrized(part):
            for name in list(part.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(part, name)


def _drop_metadata(model: Any) -> None:
    """Remove the exporter's notes: they hold memory addresses, and the same model must give the same file."""
    for graph in [model.graph, *(function.graph for function in model.functions.values())]:
        for noted in [graph, *graph.all_nodes(), *graph.inputs]:
            noted.metadata_props.clear()
        for node in graph.all_nodes():
            for value in node.outputs:
                value.metadata_props.clear()
    model.metadata_props.clear()


def write_onnx(module: torch.nn.Module, path: Path, outputs: list[str], sample_rate: int, opset: int) -> None:
    """Export `module` (waveform, num_samples -> the named outputs) with free batch size and length.

    Weights beyond protobuf's 2 GB limit go into `<path>.data`.

    Raises:
        ExportError: if torch cannot export the module.
    """
    # A batch of 1 or a short clip would be taken for a constant.
    waveform = torch.zeros(2, 2 * sample_rate)
    num_samples = torch.full((2, 1), 2 * sample_rate, dtype=torch.int64)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                (waveform, num_samples),
                dynamo=True,
                opset_version=opset,
                input_names=["waveform", "num_samples"],
                output_names=outputs,
                dynamic_shapes={"waveform": {0: "batch", 1: "samples"}, "num_samples": {0: "batch"}},
                verbose=False,
            )
    except Exception as error:  # the exporter wraps whatever went wrong
        raise ExportError(f"torch could not export the model: {str(error).strip().splitlines()[0]}") from error
    finally:
        logger.setLevel(level)
    if program is None:
        raise ExportError("torch gave no ONNX program")
    _drop_metadata(program.model)
    size = sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())
    program.save(path, external_data=size > 1_900_000_000)
