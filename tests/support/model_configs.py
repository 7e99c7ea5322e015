"""What an exported model's `config.pbtxt` says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2


def config_of(model: Path) -> Any:
    """The configuration of the model in a folder of a repository, as Triton reads it."""
    return text_format.Parse((model / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def facts_of(model: Path) -> dict[str, str]:
    """Its parameters: what arch wrote down of the model."""
    return {key: value.string_value for key, value in config_of(model).parameters.items()}
