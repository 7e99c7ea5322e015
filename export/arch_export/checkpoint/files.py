"""A checkpoint's files on this disk: its configuration and its weights."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arch_common.errors import ExportUsageError

from arch_export.checkpoint.aliases import FAMILIES

CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"
# Where transformers 5 puts the same, under the key `feature_extractor`, if a tokenizer was saved with it.
PROCESSOR = "processor_config.json"
# In order of preference: one format is enough, and safetensors cannot run code.
WEIGHTS = (
    ("model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
)
_LARGEST_HEADER = 100_000_000  # that safetensors itself takes
_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files are on this disk.

    Attributes:
        folder: holds `config.json`, `preprocessor_config.json` or `processor_config.json`, and the weights.
        source: the hub id, or `local:<folder name>`.
        revision: the hub commit, or `sha256:<digest of the folder's weights>` for a local folder.
        name: what the exported model is called unless told otherwise.
        config: the content of `config.json`.
    """

    folder: Path
    source: str
    revision: str
    name: str
    config: dict[str, Any]

    @property
    def family(self) -> str:
        """The `model_type` of `config.json`."""
        return str(self.config.get("model_type", "unknown"))


def read_config(folder: Path, source: str) -> dict[str, Any]:
    """The content of `config.json`.

    Args:
        folder: of the checkpoint.
        source: what messages call it.

    Raises:
        ExportUsageError: if there is none, or it is of an architecture that is not supported.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ExportUsageError(f"{source} is no checkpoint: it has no {CONFIG}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ExportUsageError(f"the {CONFIG} of {source} is no JSON: {error}") from error
    if not isinstance(config, dict) or "model_type" not in config:
        raise ExportUsageError(f"the {CONFIG} of {source} names no model_type: this is no Hugging Face checkpoint")
    if config["model_type"] not in FAMILIES:
        raise ExportUsageError(
            f"{source} is of the architecture {config['model_type']!r}; supported: {', '.join(FAMILIES)}"
        )
    return config


def weight_files(folder: Path) -> list[Path]:
    """The files of a checkpoint folder that hold its weights, in one format.

    Raises:
        ExportUsageError: if some or all are missing.
    """
    files = _listed_weights(folder)
    for file in files:
        with file.open("rb") as stream:
            if stream.read(len(_LFS_POINTER)) == _LFS_POINTER:
                raise ExportUsageError(f"{file} only names the weights (Git LFS): fetch them with git lfs pull")
    return files


def _listed_weights(folder: Path) -> list[Path]:
    for single, index in WEIGHTS:
        if (folder / single).is_file():
            return [folder / single]
        if (folder / index).is_file():
            try:
                weight_map = json.loads((folder / index).read_text(encoding="utf-8"))["weight_map"]
                shards = sorted(set(weight_map.values()))
                if not shards or not all(isinstance(shard, str) for shard in shards):
                    raise TypeError(shards)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ExportUsageError(f"{folder / index} is no index of weights: it has no weight_map") from error
            missing = [shard for shard in shards if not (folder / shard).is_file()]
            if missing:
                raise ExportUsageError(f"{folder} is incomplete: {index} lists {missing[0]}, which is not there")
            return [folder / shard for shard in shards]
    raise ExportUsageError(f"{folder} holds no weights: neither {' nor '.join(single for single, _ in WEIGHTS)}")


def fp32_size(folder: Path) -> int:
    """Bytes of the weights in fp32, whatever they are stored in.

    A `.bin` does not say so without being unpickled: its own size is taken.
    """
    return sum(_fp32_size(file) for file in weight_files(folder))


def _fp32_size(file: Path) -> int:
    size = file.stat().st_size
    if file.suffix != ".safetensors":
        return size
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length)) if length < min(size, _LARGEST_HEADER) else {}
        return sum(4 * math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__") or size
    except (ValueError, KeyError, TypeError, AttributeError):  # damaged: who loads it will say so
        return size
