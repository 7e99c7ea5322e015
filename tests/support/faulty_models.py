"""Small encoders in a Triton model repository, healthy ones and ones with a planted fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from arch_common.content import content_hash
from arch_export.repository.triton_config import as_text, model_config
from onnx import TensorProto, helper, numpy_helper

SAMPLE_RATE = 16000
SIZE = 32
_WINDOW = 400


def add_encoder(repository: Path, name: str, fault: str = "", **facts: str) -> None:
    """Add a bank of filters whose log energies, the mean over the clip, are the embedding.

    Args:
        repository: made if it is not there.
        name: of the model.
        fault: `constant`: the same for every clip, but for what looks like rounding; `collapsed`: every band is the
            mean of all, but for a thousandth; `noise`: each band is scrambled into a number that says nothing; `batch
            mates`: the mean over the batch is added. In none is padding left out, which is a fault where `facts` say
            `lengths="exact"`.
        facts: parameters of its configuration, beside those that every export has.
    """
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    onnx.save(_graph(fault), folder / "model.onnx")
    parameters = {
        "source": f"local:{name}",
        "revision": "none",
        "family": "filters",
        "precision": "fp32",
        "sample_rate": str(SAMPLE_RATE),
        "embedding_size": str(SIZE),
        "parameter_count": "0",
        "opset": "20",
        "content_hash": content_hash(folder),
        "parity_max_relative_error": "0",
        "parity_min_cosine": "1",
        "lengths": "padded",
        "normalization": "none",
        "checkpoint_normalization": "none",
    }
    config = model_config(name, {"embedding": [SIZE]}, SAMPLE_RATE, parameters | facts)
    (repository / name / "config.pbtxt").write_text(as_text(config))


def _graph(fault: str) -> onnx.ModelProto:
    time = np.arange(_WINDOW) / SAMPLE_RATE
    tones = np.geomspace(100, 7000, SIZE)[:, None] * time
    kernels = np.concatenate([np.cos(2 * np.pi * tones), np.sin(2 * np.pi * tones)]) * np.hanning(_WINDOW)
    constants: dict[str, Any] = {
        "kernels": kernels[:, None].astype(np.float32) / _WINDOW,
        "channel": np.array([1], np.int64),
        "halves": np.array([SIZE, SIZE], np.int64),
        "last": np.array([2], np.int64),
        "bands": np.array([1], np.int64),
        "batch": np.array([0], np.int64),
        "tiny": np.array(1e-7, np.float32),
        "nothing": np.array(0, np.float32),
        "one": np.ones(SIZE, np.float32),
        "little": np.array(1e-3, np.float32),
        "whisper": np.array(1e-6, np.float32),
        "much": np.array(1e4, np.float32),
    }
    nodes = [
        helper.make_node("Unsqueeze", ["waveform", "channel"], ["signal"]),
        helper.make_node("Conv", ["signal", "kernels"], ["found"], strides=[160]),
        helper.make_node("Mul", ["found", "found"], ["squares"]),
        helper.make_node("Split", ["squares", "halves"], ["cosines", "sines"], axis=1),
        helper.make_node("Add", ["cosines", "sines"], ["power"]),
        helper.make_node("Add", ["power", "tiny"], ["audible"]),
        helper.make_node("Log", ["audible"], ["levels"]),
        helper.make_node("ReduceMean", ["levels", "last"], ["plain"], keepdims=0),
        # What every clip has: the number of samples is an input of each model.
        helper.make_node("Cast", ["num_samples"], ["count"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["count", "nothing"], ["none"]),
    ]
    nodes += {
        "": [helper.make_node("Add", ["plain", "none"], ["embedding"])],
        "constant": [
            helper.make_node("Mul", ["plain", "much"], ["large"]),
            helper.make_node("Sin", ["large"], ["scrambled"]),
            helper.make_node("Mul", ["scrambled", "whisper"], ["least"]),
            helper.make_node("Add", ["least", "none"], ["still"]),
            helper.make_node("Add", ["still", "one"], ["embedding"]),
        ],
        "collapsed": [
            helper.make_node("ReduceMean", ["plain", "bands"], ["mean"], keepdims=1),
            helper.make_node("Mul", ["plain", "little"], ["rest"]),
            helper.make_node("Add", ["mean", "none"], ["same"]),
            helper.make_node("Add", ["rest", "same"], ["embedding"]),
        ],
        "noise": [
            helper.make_node("Mul", ["plain", "much"], ["large"]),
            helper.make_node("Sin", ["large"], ["scrambled"]),
            helper.make_node("Add", ["scrambled", "none"], ["embedding"]),
        ],
        "batch mates": [
            helper.make_node("ReduceMean", ["plain", "batch"], ["mates"], keepdims=1),
            helper.make_node("Add", ["plain", "none"], ["own"]),
            helper.make_node("Add", ["own", "mates"], ["embedding"]),
        ],
    }[fault]
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "filters",
        [
            helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["clips", "samples"]),
            helper.make_tensor_value_info("num_samples", TensorProto.INT64, ["clips", 1]),
        ],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["clips", SIZE])],
        [numpy_helper.from_array(value, name) for name, value in constants.items() if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    onnx.checker.check_model(model)
    return model
