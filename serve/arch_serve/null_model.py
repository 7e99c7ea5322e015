"""A model that answers at once with zeros: what is left is the client, and the way to the server and back."""

from __future__ import annotations

from pathlib import Path

NAME = "null"

_CONFIG = """\
name: "null"
backend: "python"
max_batch_size: 8
input [
  {{ name: "waveform" data_type: TYPE_FP32 dims: [ -1 ] }},
  {{ name: "num_samples" data_type: TYPE_INT64 dims: [ 1 ] }}
]
output [ {{ name: "embedding" data_type: TYPE_FP32 dims: [ {size} ] }} ]
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
dynamic_batching {{ max_queue_delay_microseconds: 0 }}
"""

_MODEL = '''\
"""Answers at once with zeros."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        zeros = np.zeros((1, {size}), dtype=np.float32)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("embedding", zeros)]) for _ in requests]
'''


def write_null_model(repository: Path, embedding_size: int) -> None:
    """Put the model into a repository, with the inputs of an exported one and an embedding of that size."""
    folder = repository / NAME
    (folder / "1").mkdir(parents=True, exist_ok=True)
    (folder / "1/model.py").write_text(_MODEL.format(size=embedding_size), encoding="utf-8")
    (folder / "config.pbtxt").write_text(_CONFIG.format(size=embedding_size), encoding="utf-8")
