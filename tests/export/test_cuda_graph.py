"""The graph for CUDA, in its form for CPUs: every family against transformers, precisions, casts, overflow."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from arch_common.errors import ExportError
from arch_export.encoder.precision import Precision
from arch_export.graph.cpu_twin import write_cpu_twin
from arch_export.pipeline import Exported, export
from arch_export.verify.signals import synthesise
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file, save_file
from support.checkpoints import DATA2VEC, GROUP_NORM, LAYER_NORM, WAVLM, write_checkpoint
from transformers import AutoFeatureExtractor, AutoModel

pytestmark = pytest.mark.torch

SAMPLE_RATE = 16000
# Fewer layers over the waveform, with kernels and strides that no published encoder has.
SHORT: dict[str, Any] = {
    "conv_dim": (16,) * 3,
    "conv_kernel": (10, 8, 9),
    "conv_stride": (5, 8, 8),
    "num_feat_extract_layers": 3,
}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "hubert": ("hubert", GROUP_NORM),
    "distilled": ("hubert", GROUP_NORM | {"feat_proj_layer_norm": False, "conv_pos_batch_norm": True}),
    "wav2vec2": ("wav2vec2", LAYER_NORM),
    "adapted": ("wav2vec2", LAYER_NORM | {"adapter_attn_dim": 8}),
    "wavlm": ("wavlm", GROUP_NORM | WAVLM),
    "wavlm-large": ("wavlm", LAYER_NORM | WAVLM),
    "data2vec": ("data2vec-audio", DATA2VEC),
    "unispeech-sat": ("unispeech-sat", GROUP_NORM),
}


def operators(exported: Exported) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(exported.folder / "1" / "model.onnx").graph.node)


@pytest.mark.slow
@pytest.mark.parametrize("lengths", ["padded", "exact"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_family_and_layer_keeps_the_limits_of_fp32(tmp_path: Path, kind: str, lengths: str) -> None:
    family, config = KINDS[kind]
    mask = config.get("conv_bias", False)
    checkpoint = write_checkpoint(tmp_path / "ckpt", family, config, return_attention_mask=mask, **SHORT)
    exported = export(str(checkpoint), tmp_path / "models", layers="all", lengths=lengths, target="gpu")
    assert exported.misses == []
    assert exported.facts["target"] == "gpu"
    assert exported.parity.max_relative_error < 1e-4
    found = operators(exported)
    assert found["MultiHeadAttention"] == 2
    assert found["Conv"] == found["NhwcConv"] == found["Softmax"] == 0
    assert {path.name for path in (exported.folder / "1").iterdir()} == {"model.onnx"}


@pytest.mark.slow
@pytest.mark.parametrize("norm", [GROUP_NORM, LAYER_NORM])
def test_a_cut_ends_with_the_hidden_states_of_its_layer(tmp_path: Path, norm: dict[str, Any]) -> None:
    checkpoint = write_checkpoint(tmp_path / "ckpt", "hubert", norm, **SHORT)
    exported = export(str(checkpoint), tmp_path / "models", layers="1", target="gpu")
    assert operators(exported)["MultiHeadAttention"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "bf16", "tf32"])
@pytest.mark.parametrize(("family", "norm"), [("wav2vec2", GROUP_NORM), ("hubert", LAYER_NORM)])
def test_a_precision_stays_close_to_transformers(
    tmp_path: Path, precision: str, family: str, norm: dict[str, Any]
) -> None:
    """Measured here on other clips than the export's own."""
    checkpoint = write_checkpoint(tmp_path / "ckpt", family, norm)
    exported = export(str(checkpoint), tmp_path / "models", precision=precision, target="gpu")
    assert exported.name == f"ckpt-{precision}"
    graph = onnx.load(exported.folder / "1" / "model.onnx").graph
    # fp16 has the channels-last convolution that cuDNN is made for; ONNX Runtime has none for the others.
    assert operators(exported)["NhwcConv"] == (6 if precision == "fp16" else 0)
    assert operators(exported)["Conv"] == 0
    weights = Counter(tensor.data_type for tensor in graph.initializer if len(tensor.dims) >= 2)
    wanted = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16, "tf32": TensorProto.FLOAT}[precision]
    assert weights.most_common(1)[0][0] == wanted
    clips = [synthesise(index, 2 * SAMPLE_RATE, SAMPLE_RATE, seed=77) for index in range(6)]
    twin = write_cpu_twin(exported.folder / "1" / "model.onnx", Precision(precision))
    session = onnxruntime.InferenceSession(twin, providers=["CPUExecutionProvider"])
    feeds = {"waveform": np.stack(clips), "num_samples": np.full((6, 1), 2 * SAMPLE_RATE)}
    found, expected = session.run(["embedding"], feeds)[0], originals(checkpoint, clips)
    errors = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert errors.max() < (0.05 if precision == "bf16" else 0.005)
    assert errors.min() > 1e-5, "nothing was rounded"


def originals(folder: Path, clips: list[Any]) -> Any:
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    inputs = extractor(clips, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_values
    with torch.no_grad():
        return model(inputs).last_hidden_state.mean(dim=1).numpy()


@pytest.mark.slow
def test_few_casts_and_no_transpose_between_strided_convolutions(tmp_path: Path) -> None:
    """The waveform to fp64 for its normaliser and back, windows to fp16, the last states and their number to fp32."""
    checkpoint = write_checkpoint(tmp_path / "ckpt", "hubert", LAYER_NORM)
    exported = export(str(checkpoint), tmp_path / "models", precision="fp16", target="gpu")
    found = operators(exported)
    assert found["Cast"] == 5
    # Frames to groups and back, around the product over positions.
    assert found["Transpose"] == 2
    graph = onnx.load(exported.folder / "1" / "model.onnx").graph
    makers = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        if node.op_type != "NhwcConv":
            continue
        before = makers[node.input[0]]
        while before.op_type in ("Unsqueeze", "Squeeze", "Reshape"):
            before = makers[before.input[0]]
        assert before.op_type == "BiasGelu"


@pytest.mark.slow
def test_a_constant_clip_is_embedded_as_without_its_padding(tmp_path: Path) -> None:
    """Not normalised, and of no variance: the padding is as far from it as anything can be."""
    checkpoint = write_checkpoint(tmp_path / "ckpt", "wavlm", GROUP_NORM | WAVLM, do_normalize=False, **SHORT)
    exported = export(str(checkpoint), tmp_path / "models", lengths="exact", precision="fp16", target="gpu")
    twin = write_cpu_twin(exported.folder / "1" / "model.onnx", Precision.FP16)
    session = onnxruntime.InferenceSession(twin, providers=["CPUExecutionProvider"])
    clip = np.full((1, 16000), 0.5, np.float32)
    samples = np.array([[16000]])
    padded = session.run(None, {"waveform": np.pad(clip, ((0, 0), (0, 20000))), "num_samples": samples})[0]
    alone = session.run(None, {"waveform": clip, "num_samples": samples})[0]
    assert np.linalg.norm(padded - alone) < 1e-3 * np.linalg.norm(alone)
    expected = originals(checkpoint, [clip[0]])
    assert np.linalg.norm(alone - expected) < 0.02 * np.linalg.norm(expected)


@pytest.mark.slow
def test_an_overflow_of_fp16_is_found(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "ckpt", "hubert", LAYER_NORM, **SHORT)
    weights = load_file(checkpoint / "model.safetensors")
    name = next(name for name in weights if name.endswith("layers.0.feed_forward.intermediate_dense.weight"))
    weights[name] *= 1e6
    save_file(weights, checkpoint / "model.safetensors", {"format": "pt"})
    with pytest.raises(ExportError, match="overflows fp16"):
        export(str(checkpoint), tmp_path / "models", precision="fp16", target="gpu")
    assert not (tmp_path / "models" / "ckpt-fp16").exists()


@pytest.mark.parametrize(("precision", "bits"), [(Precision.BF16, 8), (Precision.TF32, 11)])
def test_the_twin_rounds_to_so_many_bits(tmp_path: Path, precision: Precision, bits: int) -> None:
    """One product with the unit matrix, which gives what went in, rounded."""
    of_type = TensorProto.BFLOAT16 if precision is Precision.BF16 else TensorProto.FLOAT
    unit = numpy_helper.from_array(np.eye(4, dtype=np.float32), "unit")
    if precision is Precision.BF16:
        unit = helper.make_tensor("unit", of_type, [4, 4], np.eye(4).flatten().tolist())
    nodes = [
        helper.make_node("Cast", ["values"], ["taken"], to=of_type),
        helper.make_node("MatMul", ["taken", "unit"], ["product"]),
        helper.make_node("Cast", ["product"], ["out"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "rounding",
        [helper.make_tensor_value_info("values", TensorProto.FLOAT, ["rows", 4])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["rows", 4])],
        [unit],
        value_info=[helper.make_tensor_value_info(name, of_type, ["rows", 4]) for name in ("taken", "product")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save_model(model, tmp_path / "model.onnx")
    twin = write_cpu_twin(tmp_path / "model.onnx", precision)
    random = np.random.default_rng(0)
    values = (random.standard_normal((64, 4)) * 10.0 ** random.integers(-6, 6, (64, 4))).astype(np.float32)
    values[0] = [1 + 2.0**-bits, 1 + 3 * 2.0**-bits, -1 - 2.0**-bits, 0]  # ties, which go to the even neighbour
    found = onnxruntime.InferenceSession(twin).run(None, {"values": values})[0]
    scale = 2.0 ** (np.floor(np.log2(np.abs(values), where=values != 0, out=np.zeros_like(values))) - (bits - 1))
    np.testing.assert_array_equal(found, np.rint(values / scale) * scale)
    if precision is Precision.BF16:
        np.testing.assert_array_equal(found, torch.from_numpy(values).bfloat16().float().numpy())
