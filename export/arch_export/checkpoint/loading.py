"""A checkpoint's feature extractor and encoder, read from its files."""

from __future__ import annotations

import pickle
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from arch_common.errors import ExportError, ExportUsageError, reason_of

from arch_export.checkpoint.configuration import CONFIG, build_skeleton, keys_of_size
from arch_export.checkpoint.files import PREPROCESSOR, PROCESSOR, Checkpoint, read_json, stored_weights, weight_files
from arch_export.encoder.clip_encoder import Normalization

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Only pre-training and fine-tuning read it; checkpoints of fine-tuned models lack it.
_UNUSED_AT_INFERENCE = {"masked_spec_embed"}
_LAYER = re.compile(r"\bencoder\.layers\.(\d+)\.")
# Of what a fine-tuned checkpoint holds beside the encoder, nothing lies in these.
_OF_THE_ENCODER = re.compile(r"^(\w+\.)?(feature_extractor|feature_projection|encoder)\.")
# As safetensors names them: the others are what quantised weights are kept in.
_FLOATS = {"F64", "F32", "F16", "BF16"}
_FEATURE_EXTRACTOR = "Wav2Vec2FeatureExtractor"
_SETTINGS = ("feature_size", "sampling_rate", "padding_value", "padding_side", "do_normalize", "return_attention_mask")
# In Hz: the shortest clip that an export is checked on, a quarter of a second, must give a frame, and fit into memory.
_RATES = (2000, 384_000)


@dataclass(frozen=True)
class FeatureExtractor:
    """What happens to the waveform before the encoder.

    Attributes:
        normalization: what the checkpoint's settings ask for.
        sample_rate: in Hz.
        features: transformers' own feature extractor.
        is_default: whether the checkpoint has no settings, so that these are the family's defaults.
    """

    normalization: Normalization
    sample_rate: int
    features: Any
    is_default: bool = False


def read_feature_extractor(checkpoint: Checkpoint, on_warning: Callable[[str], None]) -> FeatureExtractor:
    """Read `preprocessor_config.json` or `processor_config.json`; what they leave out takes transformers' defaults.

    Without them, `on_warning` is told that the default of the family is taken: zero mean and unit variance, over
    the valid samples where the encoder has layer norms, over the whole clip where it norms over time itself, as
    transformers' documentation of `return_attention_mask` recommends.

    Raises:
        ExportUsageError: if it asks for something that the graph's contract cannot give.
    """
    from transformers import Wav2Vec2FeatureExtractor

    path = checkpoint.folder / PREPROCESSOR
    nested = not path.is_file() and (checkpoint.folder / PROCESSOR).is_file()
    if nested:
        path = checkpoint.folder / PROCESSOR
    if not path.is_file():
        skeleton: Any = build_skeleton(checkpoint.config, checkpoint.source)
        norm = getattr(skeleton.feature_extractor.conv_layers[0], "layer_norm", None)
        masked = not isinstance(norm, torch.nn.GroupNorm)
        on_warning(
            f"{checkpoint.source} has no {PREPROCESSOR}: taking zero mean and unit variance over "
            f"{'the valid samples' if masked else 'the whole clip'} at 16 kHz, the default of {checkpoint.family}; "
            "if the encoder was trained otherwise, its embeddings are worth less: add the file"
        )
        default = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=masked)
        normalization = Normalization.VALID if masked else Normalization.WHOLE
        return FeatureExtractor(normalization, default.sampling_rate, default, is_default=True)
    settings = read_json(path, str(path))
    if nested and isinstance(settings, dict):
        settings = settings.get("feature_extractor")
    rate = settings.get("sampling_rate", 16000) if isinstance(settings, dict) else None
    if type(rate) is not int or not _RATES[0] <= rate <= _RATES[1]:
        raise ExportUsageError(
            f"{path} is no feature extractor's: wants an object with a sampling_rate in Hz, {_RATES[0]} to {_RATES[1]}"
        )
    kind = settings.get("feature_extractor_type", _FEATURE_EXTRACTOR)
    if kind != _FEATURE_EXTRACTOR:
        raise ExportUsageError(f"{path} asks for a {kind}; only a {_FEATURE_EXTRACTOR}, of raw waveforms, is supported")
    if settings.get("padding_value", 0.0) != 0.0 or settings.get("padding_side", "right") != "right":
        raise ExportUsageError(f"{path} pads otherwise than with zeros at the end, which is not supported")
    if settings.get("feature_size", 1) != 1:
        raise ExportUsageError(
            f"{path} asks for spectral features (feature_size > 1); only raw waveforms are supported"
        )
    for key, default_value in (("do_normalize", True), ("return_attention_mask", False)):
        if settings.get(key, default_value) not in (True, False, None):
            raise ExportUsageError(f"{path} names {settings[key]!r} as {key}: wants true or false")
    normalization = Normalization.NONE
    if settings.get("do_normalize", True):
        normalization = Normalization.VALID if settings.get("return_attention_mask", False) else Normalization.WHOLE
    features = Wav2Vec2FeatureExtractor(**{key: settings[key] for key in _SETTINGS if key in settings})
    return FeatureExtractor(normalization, rate, features)


def load_encoder(checkpoint: Checkpoint, on_warning: Callable[[str], None] = lambda _: None) -> torch.nn.Module:
    """Load the checkpoint's encoder in fp32 and evaluation mode.

    `on_warning` is told of weights that `config.json` has no place for: transformers leaves them out.

    Raises:
        ExportUsageError: if its files do not fit one another.
    """
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    skeleton = build_skeleton(checkpoint.config, checkpoint.source)
    _check_shapes(checkpoint, skeleton)
    try:
        model, info = type(skeleton).from_pretrained(  # type: ignore[attr-defined]
            checkpoint.folder,
            config=skeleton.config,
            dtype=torch.float32,
            attn_implementation="eager",
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # transformers raises whatever the file at fault provokes
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            raise ExportError(f"there is not enough memory for the weights of {checkpoint.source}") from error
        if isinstance(error, pickle.UnpicklingError):  # torch's own words advise to run what is in it
            raise ExportUsageError(
                f"the weights of {checkpoint.source} are no plain PyTorch weights: they are damaged, or hold code, "
                "which is not run; fetch them again, or as safetensors"
            ) from error
        raise ExportUsageError(
            f"the weights of {checkpoint.source} cannot be loaded ({reason_of(error)}): they are damaged; fetch them "
            "again"
        ) from error
    missing = sorted(set(info["missing_keys"]) - _UNUSED_AT_INFERENCE)
    if len(missing) >= len(set(model.state_dict()) - _UNUSED_AT_INFERENCE):
        found = min(info["unexpected_keys"], default="none")
        raise ExportUsageError(
            f"{checkpoint.source} holds its weights under other names ({found}, say) than transformers gives those of "
            f"{checkpoint.family}: mend model_type, or save it with transformers' save_pretrained"
        )
    if missing:
        # transformers fills them with random numbers: the export would verify and the embeddings be noise.
        raise ExportUsageError(
            f"{checkpoint.source} lacks {len(missing)} of the encoder's weights that its {CONFIG} asks for, among them "
            f"{missing[0]}: fetch it again, or mend {CONFIG}"
        )
    layers = len(model.encoder.layers)
    beyond = [key for key in info["unexpected_keys"] if (found := _LAYER.search(key)) and int(found[1]) >= layers]
    if beyond:
        raise ExportUsageError(
            f"{checkpoint.source} holds weights of more layers than the {layers} that its {CONFIG} names, among them "
            f"{min(beyond)}: set num_hidden_layers, or fetch it again"
        )
    left_out = sorted(key for key in info["unexpected_keys"] if _OF_THE_ENCODER.match(key))
    if left_out:
        on_warning(
            f"{checkpoint.source} holds {len(left_out)} weights of its encoder that its {CONFIG} has no place for, "
            f"among them {left_out[0]}: as in transformers, they are left out"
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


def is_untrained(encoder: torch.nn.Module) -> bool:
    """Whether every norm is as before any training: scales of exactly 1, and biases of exactly 0."""
    norms = [one for one in encoder.modules() if isinstance(one, torch.nn.LayerNorm | torch.nn.GroupNorm)]
    scaled = [one for one in norms if one.weight is not None]
    return bool(scaled) and all(bool((one.weight == 1).all()) and not one.bias.any() for one in scaled)


def _check_shapes(checkpoint: Checkpoint, skeleton: torch.nn.Module) -> None:
    """Hold the stored weights against the configuration, before memory is taken for either.

    Raises:
        ExportUsageError: if one has another shape, or none are numbers but codes.
    """
    prefix = f"{skeleton.base_model_prefix}."
    stored = {
        name.removeprefix(prefix): found for file in weight_files(checkpoint.folder) for name, found in _stored(file)
    }
    for name, parameter in skeleton.named_parameters():
        kind, shape = stored.get(name, ("F32", tuple(parameter.shape)))
        if kind not in _FLOATS:
            raise ExportUsageError(
                f"{checkpoint.source} holds {name} as {kind}: its weights are quantised; export the checkpoint that "
                "they were made from, and let --precision int8 quantise it"
            )
        wanted = tuple(parameter.shape)
        if shape != wanted:
            sizes = zip(wanted, shape, strict=False)
            keys = sorted({key for ours, theirs in sizes if ours != theirs for key in keys_of_size(skeleton, ours)})
            raise ExportUsageError(
                f"{name} of {checkpoint.source} is {list(shape)} in its weights and {list(wanted)} by its {CONFIG}: "
                + (f"mend {' or '.join(keys)} there, or " if keys else "")
                + "fetch the two files of one checkpoint"
            )


def _stored(file: Path) -> list[tuple[str, tuple[str, tuple[int, ...]]]]:
    """Names, types and shapes of the weights in a file; none where it is damaged, which who loads it will say."""
    if file.suffix == ".safetensors":
        return list(stored_weights(file).items())
    try:
        weights = torch.load(file, map_location="meta", weights_only=True)
        return [
            (name, ("F32" if one.is_floating_point() and one.element_size() > 1 else str(one.dtype), tuple(one.shape)))
            for name, one in weights.items()
        ]
    except Exception:  # torch and pickle raise whatever the damage provokes
        return []
