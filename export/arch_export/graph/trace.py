"""The ONNX graph of what is exported, and the original's embeddings to check it and its variants against."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from arch_common.errors import ExportError, reason_of

from arch_export.checkpoint.export_source import ExportSource, Step
from arch_export.encoder.options import Lengths
from arch_export.encoder.precision import Precision
from arch_export.verify import parity

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

# Gelu is one operator from here on; NVIDIA's containers have run it since 24.04.
OPSET = 20
# Weights of more bytes than this lie in a file of their own beside the graph. Protobuf cannot hold more than 2 GB, and
# a runtime maps such a file where it would copy the weights of a graph twice.
EXTERNAL_DATA_FROM = 64_000_000


# Of weights and hidden states of a graph for CUDA.
_DTYPES = {
    Precision.FP32: torch.float32,
    Precision.TF32: torch.float32,
    Precision.FP16: torch.float16,
    Precision.BF16: torch.bfloat16,
}


@dataclass(frozen=True)
class Graph:
    """A graph on disk. From here on nothing needs torch.

    Attributes:
        path: the ONNX file; weights beyond `EXTERNAL_DATA_FROM` bytes lie in `<path>.data`.
        outputs: the graph's outputs and their shapes, without the batch.
        reference: the original model's embeddings of the clips of `parity.cases`, computed before it was rewritten.
        sample_rate: in Hz.
        exact: padding changes nothing, see `Lengths.EXACT`.
        facts: parameters of config.pbtxt that hold for every variant of the graph.
    """

    path: Path
    outputs: dict[str, list[int]]
    reference: parity.Reference
    sample_rate: int
    exact: bool
    facts: dict[str, str]


def write_graph(source: ExportSource, path: Path, on_step: Step, cuda: Precision | None = None) -> Graph:
    """Write the graph of `source` to `path`: in fp32 and for any machine, or in the form and precision for CUDA.

    Args:
        source: what is exported.
        path: of the ONNX file.
        on_step: told what is being done.
        cuda: the precision of a graph for CUDA; none for the other.

    Raises:
        ExportUsageError: if its weights cannot be read.
        ExportError: if torch cannot export it.
    """
    original = source.load()
    on_step("computing the reference embeddings")
    answers = _Answers(original.reference, source.sample_rate)
    embeddings, embedding_size = answers.shape
    if answers.fault:
        raise ExportError(f"{source.facts['source']} gives {answers.fault}: its weights are damaged, fetch it again")
    on_step("writing the ONNX graph")
    write_onnx(original.as_module(_DTYPES[cuda] if cuda else None), path, source.outputs, source.sample_rate)
    parameter_count, untrained = original.parameter_count, original.untrained
    del original
    _free_memory()
    encoder_options = source.encoder_options
    shapes = {"embedding": [embedding_size], "layer_embeddings": [embeddings - 1, embedding_size]}
    facts = source.facts | {
        "embedding_size": str(embedding_size),
        "layer_embeddings": str(embeddings - 1),
        "lengths": str(encoder_options.lengths),
        "parameter_count": str(parameter_count),
        "opset": str(OPSET),
        "exported_by": f"arch-bench {version('arch-bench')}, torch {version('torch')}, "
        f"transformers {version('transformers')}, onnxruntime {version('onnxruntime')}",
    }
    if encoder_options.cut_after_layer is not None:
        facts["cut_after_layer"] = str(encoder_options.cut_after_layer)
    if untrained:
        facts["untrained"] = "true"
    outputs = {output: shapes[output] for output in source.outputs}
    return Graph(path, outputs, answers, source.sample_rate, encoder_options.lengths is Lengths.EXACT, facts)


def _free_memory() -> None:
    """Give back to the system what the exporter left: cycles, and free memory that the C library keeps."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # another C library has nothing like it
        ctypes.CDLL("libc.so.6").malloc_trim(0)


class _Answers:
    """A reference's embeddings of all clips of `parity.cases`: the model behind it is slow, and is taken apart.

    Attributes:
        shape: (embeddings of a clip, embedding size).
        fault: what no sound model gives; empty for one.
    """

    def __init__(self, reference: parity.Reference, sample_rate: int) -> None:
        self._known: dict[tuple[bytes, int], NDArray[np.floating[Any]]] = {}
        first: list[NDArray[np.floating[Any]]] = []
        for seed, case in enumerate(parity.cases(sample_rate)):
            for clip in parity.test_clips(case, seed, sample_rate):
                try:
                    answer = reference(clip, case.length)
                except Exception as error:  # transformers raises whatever the configuration at fault provokes
                    raise ExportError(f"the original model cannot embed a clip ({reason_of(error)})") from error
                self._known[clip.tobytes(), case.length] = answer
                self.shape: tuple[int, ...] = answer.shape
                first.append(answer[0])
        self.fault = self._fault(np.stack(first).astype(np.float64))

    def _fault(self, clips: NDArray[np.float64]) -> str:
        if not all(np.isfinite(answer).all() for answer in self._known.values()):
            return "NaN or infinity"
        if not all(np.linalg.norm(answer, axis=-1).all() for answer in self._known.values()):
            return "an embedding of zeros"
        apart = np.linalg.norm(clips - clips.mean(axis=0), axis=1)
        same = apart.max() <= 1e-6 * np.linalg.norm(clips, axis=1).max()
        return "every clip the same embedding" if same else ""

    def __call__(self, clip: NDArray[np.float32], length: int) -> NDArray[np.floating[Any]]:
        return self._known[clip.tobytes(), length]


def write_onnx(module: torch.nn.Module, path: Path, outputs: list[str], sample_rate: int) -> None:
    """Export `module` (waveform, num_samples -> the named outputs) with free batch size and length.

    The module has no weights afterwards.

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
                opset_version=OPSET,
                input_names=["waveform", "num_samples"],
                output_names=outputs,
                dynamic_shapes={"waveform": {0: "batch", 1: "samples"}, "num_samples": {0: "batch"}},
                verbose=False,
            )
    except Exception as error:  # the exporter wraps whatever went wrong
        raise ExportError(f"torch could not export the model: {reason_of(error)}") from error
    finally:
        logger.setLevel(level)
    if program is None:
        raise ExportError("torch gave no ONNX program")
    _drop_metadata(program.model)
    size = sum(value.const_value.nbytes for value in program.model.graph.initializers.values() if value.const_value)
    program.save(path, external_data=size > EXTERNAL_DATA_FROM)
    # onnxscript's rewrite rules, which are global, keep the last graph that they saw, and with it all weights.
    for value in program.model.graph.initializers.values():
        value.const_value = None
    for weights in (*module.parameters(), *module.buffers()):
        weights.data = torch.empty(0)


def _drop_metadata(model: Any) -> None:
    """Remove the exporter's notes: they hold memory addresses, and the same model must give the same file."""
    for graph in [model.graph, *(function.graph for function in model.functions.values())]:
        for noted in [graph, *graph.all_nodes(), *graph.inputs]:
            noted.metadata_props.clear()
        for node in graph.all_nodes():
            for value in node.outputs:
                value.metadata_props.clear()
    model.metadata_props.clear()
