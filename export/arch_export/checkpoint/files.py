"""A checkpoint on this disk, and the files that hold its weights."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arch_common.errors import ExportUsageError

PREPROCESSOR = "preprocessor_config.json"
# Where transformers 5 puts the same, under the key `feature_extractor`, if a tokenizer was saved with it.
PROCESSOR = "processor_config.json"
# In order of preference: one format is enough, and safetensors cannot run code.
WEIGHTS = (
    ("model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
)
MODEL_CARD = "README.md"
PEFT_ADAPTER = "adapter_config.json"
_OTHER_FORMATS = {".ckpt", ".gguf", ".h5", ".msgpack", ".nemo", ".onnx", ".pt", ".pth"}
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
        licence: as its `README.md` states it; empty where it states none.
    """

    folder: Path
    source: str
    revision: str
    name: str
    config: dict[str, Any]
    licence: str = ""

    @property
    def family(self) -> str:
        """The `model_type` of `config.json`."""
        return str(self.config.get("model_type", "unknown"))


def read_json(path: Path, called: str) -> Any:
    """What a JSON file holds.

    Raises:
        ExportUsageError: if it is no JSON; `called` is what the message calls it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:  # RecursionError: brackets in brackets, a thousand deep
        raise ExportUsageError(f"{called} is no JSON: {error}") from error


def licence_of(folder: Path) -> str:
    """The licence in the metadata of a checkpoint's `README.md`; empty where it states none that can be read."""
    from huggingface_hub.repocard import metadata_load

    try:
        metadata = metadata_load(folder / MODEL_CARD) or {}
    except Exception:  # YAML that is none, bytes that are no text: the card is nothing that an export depends on
        return ""
    found = metadata.get("license")
    if found == "other":
        found = metadata.get("license_name", found)
    licences = found if isinstance(found, list) else [found]
    return ", ".join(" ".join(one.split()) for one in licences if isinstance(one, str))


def weight_files(folder: Path) -> list[Path]:
    """The files of a checkpoint folder that hold its weights, in one format.

    Raises:
        ExportUsageError: if some or all are missing.
    """
    if (folder / PEFT_ADAPTER).is_file():
        # transformers adds it to the weights where peft is installed, and leaves it out where not.
        raise ExportUsageError(f"{folder} holds an adapter of PEFT ({PEFT_ADAPTER}): merge it into the weights first")
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
            content = read_json(folder / index, str(folder / index))
            try:
                weight_map = content["weight_map"]
                shards = sorted(set(weight_map.values()))
                if not shards or not all(isinstance(shard, str) for shard in shards):
                    raise TypeError(shards)
            except (KeyError, TypeError, AttributeError) as error:
                raise ExportUsageError(f"{folder / index} is no index of weights: it has no weight_map") from error
            missing = [shard for shard in shards if not (folder / shard).is_file()]
            if missing:
                raise ExportUsageError(f"{folder} is incomplete: {index} lists {missing[0]}, which is not there")
            return [folder / shard for shard in shards]
    raise ExportUsageError(
        f"{folder} holds no weights: neither {' nor '.join(single for single, _ in WEIGHTS)}{told_of_others(folder)}"
    )


def told_of_others(folder: Path) -> str:
    """What to say of weights in a format that cannot be exported, after what is missing; empty where there are none."""
    found = sorted(path.name for path in folder.iterdir() if path.suffix in _OTHER_FORMATS)
    return f" ({found[0]} is of another format: save the model with transformers' save_pretrained)" if found else ""


def stored_weights(file: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The type and shape of each weight in a `.safetensors`, by name; none where its header cannot be read."""
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length)) if length < min(size, _LARGEST_HEADER) else {}
        return {
            name: (str(entry["dtype"]), tuple(int(count) for count in entry["shape"]))
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):  # damaged: who loads it will say so
        return {}


def fp32_size(folder: Path) -> int:
    """Bytes of the weights in fp32, whatever they are stored in.

    A `.bin` does not say so without being unpickled: its own size is taken.
    """
    return sum(
        4 * sum(math.prod(shape) for _, shape in stored_weights(file).values()) or file.stat().st_size
        for file in weight_files(folder)
    )
