"""A checkpoint's feature extractor and encoder, read from its files."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from arch_common.errors import ExportError, ExportUsageError, reason_of

from arch_export.checkpoint.files import CONFIG, PREPROCESSOR, PROCESSOR, Checkpoint
from arch_export.encoder.clip_encoder import Normalization

if TYPE_CHECKING:
    from collections.abc import Callable

# Only pre-training and fine-tuning read it; checkpoints of fine-tuned models lack it.
_UNUSED_AT_INFERENCE = {"masked_spec_embed"}
_LAYER = re.compile(r"\bencoder\.layers\.(\d+)\.")


@dataclass(frozen=True)
class FeatureExtractor:
    """What happens to the waveform before the encoder.

    Attributes:
        normalization: what the checkpoint's settings ask for.
        sample_rate: in Hz.
        features: transformers' own feature extractor.
    """

    normalization: Normalization
    sample_rate: int
    features: Any


def read_feature_extractor(checkpoint: Checkpoint, on_warning: Callable[[str], None]) -> FeatureExtractor:
    """Read `preprocessor_config.json` or `processor_config.json`; what they leave out takes transformers' defaults.

    Without them, `on_warning` is told that the default of the family is taken: zero mean and unit variance, over
    the valid samples where the encoder has layer norms, over the whole clip where it norms over time itself, as
    transformers' documentation of `return_attention_mask` recommends.

    Raises:
        ExportUsageError: if it asks for something that the graph's contract cannot give.
    """
    from transformers import AutoFeatureExtractor, Wav2Vec2FeatureExtractor

    path = checkpoint.folder / PREPROCESSOR
    nested = not path.is_file() and (checkpoint.folder / PROCESSOR).is_file()
    if nested:
        path = checkpoint.folder / PROCESSOR
    if not path.is_file():
        # data2vec's configuration does not name it: it has layer norms always.
        masked = checkpoint.family == "data2vec-audio" or checkpoint.config.get("feat_extract_norm") == "layer"
        on_warning(
            f"{checkpoint.source} has no {PREPROCESSOR}: taking zero mean and unit variance over "
            f"{'the valid samples' if masked else 'the whole clip'} at 16 kHz, the default of {checkpoint.family}; "
            "if the encoder was trained otherwise, its embeddings are worth less: add the file"
        )
        default = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=masked)
        return FeatureExtractor(Normalization.VALID if masked else Normalization.WHOLE, default.sampling_rate, default)
    try:
        settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ExportUsageError(f"{path} is no JSON: {error}") from error
    if nested and isinstance(settings, dict):
        settings = settings.get("feature_extractor")  # type: ignore[assignment]
    rate = settings.get("sampling_rate", 16000) if isinstance(settings, dict) else None
    if type(rate) is not int or rate <= 0:
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
    try:
        features = AutoFeatureExtractor.from_pretrained(checkpoint.folder, local_files_only=True)
    except Exception as error:  # transformers raises whatever the file at fault provokes
        words = f"the feature extractor of {checkpoint.source} cannot be loaded ({reason_of(error)}): mend {path}"
        raise ExportUsageError(words) from error
    return FeatureExtractor(normalization, int(settings.get("sampling_rate", 16000)), features)


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
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            raise ExportError(f"there is not enough memory for the weights of {checkpoint.source}") from error
        raise ExportUsageError(
            f"{checkpoint.source} cannot be loaded ({reason_of(error)}): its weights are damaged or do not fit "
            f"its {CONFIG}; fetch it again"
        ) from error
    missing = sorted(set(info["missing_keys"]) - _UNUSED_AT_INFERENCE)
    if missing:
        # transformers fills them with random numbers: the export would verify and the embeddings be noise.
        raise ExportUsageError(
            f"{checkpoint.source} lacks {len(missing)} of the encoder's weights, among them {missing[0]}"
        )
    layers = len(model.encoder.layers)
    beyond = [key for key in info["unexpected_keys"] if (found := _LAYER.search(key)) and int(found[1]) >= layers]
    if beyond:
        raise ExportUsageError(
            f"{checkpoint.source} holds weights of more layers than the {layers} that its {CONFIG} names, among them "
            f"{min(beyond)}: set num_hidden_layers, or fetch it again"
        )
    # What a download leaves that took its space beforehand and was cut short.
    empty = [name for name, weights in model.named_parameters() if weights.dim() > 1 and not weights.any()]
    if empty:
        raise ExportUsageError(
            f"{checkpoint.source} holds nothing but zeros in {len(empty)} of the encoder's weights, among them "
            f"{empty[0]}: fetch it again"
        )
    encoder: torch.nn.Module = model.eval().requires_grad_(False)
    return encoder
