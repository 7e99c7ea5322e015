"""The fp32 ONNX graph of what is exported, and the original's embeddings to check it and its variants against."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from arch_export import parity
from arch_export.encoder import fold_weight_norm, write_onnx
from arch_export.front_end import replace_group_norm_convolution
from arch_export.subject import Step, Subject

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

# Gelu is one operator from here on; NVIDIA's containers have run it since 24.04.
OPSET = 20


@dataclass(frozen=True)
class Graph:
    """An fp32 graph on disk. From here on nothing needs torch.

    Attributes:
        path: the ONNX file.
        outputs: the graph's outputs and their shapes, without the batch.
        reference: the original model's embeddings of the clips of `parity.cases`, computed before it was rewritten.
        sample_rate: in Hz.
        facts: parameters of config.pbtxt that hold for every variant of the graph.
    """

    path: Path
    outputs: dict[str, list[int]]
    reference: parity.Reference
    sample_rate: int
    facts: dict[str, str]


def write_graph(subject: Subject, path: Path, on_step: Step) -> Graph:
    """Write the fp32 graph of `subject` to `path`; its module is rewritten for it.

    Raises:
        ExportError: if torch cannot export the module.
    """
    sample_rate = subject.extractor.sample_rate
    parameter_count = sum(parameter.numel() for parameter in subject.module.parameters())
    on_step("computing the reference embeddings")
    answers = _Answers(subject.reference, sample_rate)
    embeddings, embedding_size = answers.shape
    fold_weight_norm(subject.module)
    replace_group_norm_convolution(subject.module)

    on_step("writing the ONNX graph")
    write_onnx(subject.module, path, subject.outputs, sample_rate, OPSET)
    shapes = {"embedding": [embedding_size], "layer_embeddings": [embeddings - 1, embedding_size]}
    facts = {
        "source": subject.source,
        "revision": subject.revision,
        "family": subject.family,
        "sample_rate": str(sample_rate),
        "normalization": str(subject.extractor.normalization),
        "embedding_size": str(embedding_size),
        "layer_embeddings": str(embeddings - 1),
        "parameter_count": str(parameter_count),
        "opset": str(OPSET),
        "exported_by": f"arch-bench {version('arch-bench')}, torch {version('torch')}, "
        f"transformers {version('transformers')}, onnxruntime {version('onnxruntime')}",
    }
    return Graph(path, {output: shapes[output] for output in subject.outputs}, answers, sample_rate, facts)


class _Answers:
    """A reference's embeddings of all clips of `parity.cases`: the model behind it changes, and is slow.

    Attributes:
        shape: (embeddings of a clip, embedding size).
    """

    def __init__(self, reference: parity.Reference, sample_rate: int) -> None:
        self._known: dict[tuple[bytes, int], NDArray[np.floating[Any]]] = {}
        for seed, case in enumerate(parity.cases(sample_rate)):
            for clip in parity.test_clips(case, seed, sample_rate):
                answer = reference(clip, case.length)
                self._known[clip.tobytes(), case.length] = answer
                self.shape: tuple[int, ...] = answer.shape

    def __call__(self, clip: NDArray[np.float32], length: int) -> NDArray[np.floating[Any]]:
        return self._known[clip.tobytes(), length]
