"""A checkpoint's `config.json`, and the encoder that transformers makes of it, without weights."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import warnings
from typing import TYPE_CHECKING, Any

from arch_common.errors import ExportUsageError, last_line, reason_of

from arch_export.checkpoint.aliases import FAMILIES
from arch_export.checkpoint.files import read_json, told_of_others

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import torch

CONFIG = "config.json"

# How transformers is to run or find a model, not which one it is. Here it always runs in fp32 with plain attention, and
# from the files that were found.
_NOT_THE_MODEL = {
    "attn_implementation",
    "auto_map",
    "model_type",
    "name_or_path",
    "quantization_config",
    "tie_last_hidden_states",
    "torch_dtype",
    "torchscript",
    "transformers_weights",
}
# It makes another model, and none of these families takes it: not to be left out without a word.
_REFUSED_BY_TRANSFORMERS = {"per_layer_config"}
# Beyond any published encoder; transformers would build a million layers without a word, or find NaN.
_BOUNDS: dict[str, tuple[int, int]] = {
    "hidden_size": (1, 1_000_000),
    "intermediate_size": (1, 1_000_000),
    "num_hidden_layers": (1, 1000),
    "num_attention_heads": (1, 1_000_000),
    "layer_norm_eps": (0, 1),
    "conv_dim": (1, 1_000_000),
    "conv_kernel": (1, 1_000_000),
    "conv_stride": (1, 1_000_000),
    "num_conv_pos_embeddings": (1, 1000),  # a kernel; data2vec's is a number of layers
    "num_conv_pos_embedding_groups": (1, 1_000_000),
    "conv_pos_kernel_size": (1, 1_000_000),
    "num_buckets": (1, 1_000_000),
    "max_bucket_distance": (1, 1_000_000),
}
_MOST_CONVOLUTIONS = 100


def read_config(folder: Path, source: str) -> dict[str, Any]:
    """The content of `config.json`, of which transformers can make an encoder.

    Args:
        folder: of the checkpoint.
        source: what messages call it.

    Raises:
        ExportUsageError: if there is none, it is of an architecture that is not supported, or no encoder can be made
            of it.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ExportUsageError(f"{source} is no checkpoint: it has no {CONFIG}{told_of_others(folder)}")
    config = read_json(path, f"the {CONFIG} of {source}")
    if not isinstance(config, dict) or "model_type" not in config:
        raise ExportUsageError(f"the {CONFIG} of {source} names no model_type: this is no Hugging Face checkpoint")
    if config["model_type"] not in FAMILIES:
        raise ExportUsageError(
            f"{source} is of the architecture {config['model_type']!r}; supported: {', '.join(FAMILIES)}"
        )
    if method := _quantization(config):
        raise ExportUsageError(
            f"the {CONFIG} of {source} has quantization_config ({method}): export the checkpoint that it was made "
            "from, and let --precision int8 quantise it"
        )
    weights = config.get("transformers_weights")
    if weights is not None:
        raise ExportUsageError(
            f"the {CONFIG} of {source} names its weights in transformers_weights ({weights!r}): call that file "
            "model.safetensors, and remove the key"
        )
    build_skeleton(config, source)
    return config


def _quantization(config: dict[str, Any]) -> str:
    """The method that the weights are quantised with; empty where they are not."""
    settings = config.get("quantization_config")
    if not settings:
        return ""
    method = settings.get("quant_method", "no quant_method") if isinstance(settings, dict) else settings
    return " ".join(str(method).split())


def build_skeleton(config: dict[str, Any], source: str) -> torch.nn.Module:
    """The encoder that transformers makes of a configuration, all its weights on the device `meta`: without memory.

    What a family does with a key is asked of this module, not of the key: data2vec ignores `do_stable_layer_norm`,
    HuBERT `add_adapter`.

    Args:
        config: the content of `config.json`, of a supported family.
        source: what messages call it.

    Raises:
        ExportUsageError: if transformers cannot make an encoder of it.
    """
    family, kept = config["model_type"], _model_settings(config)
    for key, (least, most) in _BOUNDS.items():
        values = kept.get(key)
        listed = values if isinstance(values, list) else [values]
        if len(listed) > _MOST_CONVOLUTIONS:
            raise ExportUsageError(f"the {CONFIG} of {source} names {len(listed)} convolutions in {key}")
        for value in listed:
            if isinstance(value, int | float) and not least <= value <= most:
                raise ExportUsageError(
                    f"the {CONFIG} of {source} names {value} as {key}: wants a number from {least} to {most:,}"
                )
    try:
        return _build(family, kept)
    except Exception as error:  # transformers and torch raise whatever the key at fault provokes
        # A field of a wrong type: its name is in the first line, what is wrong with it in the last.
        reason = last_line(str(error), reason_of(error))
        if isinstance(error, KeyError):
            reason = f"transformers knows no {reason}"
        keys = _at_fault(family, kept)
        look = f"mend {' and '.join(f'{key} ({kept[key]!r:.60})' for key in keys)}" if keys else "mend the file"
        raise ExportUsageError(
            f"no {family} encoder can be made of the {CONFIG} of {source} ({reason:.200}): {look}"
        ) from error


def _model_settings(config: dict[str, Any]) -> dict[str, Any]:
    """The keys that say which encoder it is. Some others would hide methods of transformers' configuration."""
    from transformers import CONFIG_MAPPING, PreTrainedConfig

    family = CONFIG_MAPPING[config["model_type"]]
    declared = _declared(family) | _REFUSED_BY_TRANSFORMERS
    return {
        key: value
        for key, value in config.items()
        if key not in _NOT_THE_MODEL | _declared(PreTrainedConfig)
        and not key.startswith("_")
        and (key in declared or not hasattr(family, key))
    }


def _declared(configuration: Any) -> set[str]:
    """The keys that a class of configurations names; the first releases of transformers 5 have no dataclasses."""
    if dataclasses.is_dataclass(configuration):
        return {field.name for field in dataclasses.fields(configuration)}
    return set(inspect.signature(configuration.__init__).parameters) - {"self", "kwargs"}


def _build(family: str, settings: dict[str, Any]) -> torch.nn.Module:
    import torch
    from transformers import CONFIG_MAPPING, MODEL_MAPPING

    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        configuration = CONFIG_MAPPING[family](**settings, attn_implementation="eager")
        skeleton: torch.nn.Module = MODEL_MAPPING[type(configuration)](configuration)
    return skeleton.eval()


def _at_fault(family: str, settings: dict[str, Any]) -> tuple[str, ...]:
    """The key, or the two, without which there would be an encoder; none if that is not enough."""
    default = _build(family, {}).config
    different = [key for key, value in settings.items() if getattr(default, key, None) != value]
    choices: Iterable[tuple[str, ...]] = (*zip(different), *itertools.combinations(different, 2))
    for keys in choices:
        try:
            _build(family, {key: value for key, value in settings.items() if key not in keys})
        except Exception:  # noqa: S112 - another key is at fault
            continue
        return keys
    return ()


def keys_of_size(skeleton: torch.nn.Module, size: int) -> list[str]:
    """The keys of a configuration that this size of a weight can come from."""
    found = []
    for key in _BOUNDS:
        value = getattr(skeleton.config, key, None)
        if key != "layer_norm_eps" and size in (value if isinstance(value, list | tuple) else [value]):
            found.append(key)
    return found
