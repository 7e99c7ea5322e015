"""Variants in other precisions and configurations for other targets: on disk, in ONNX Runtime, and in a real Triton."""

from __future__ import annotations

import dataclasses
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import tritonclient.grpc as grpcclient
from arch_common.errors import ExportError, ExportUsageError
from arch_common.execution import told_footprints
from arch_common.session import VNNI_FLAGS, cpu_flags
from arch_export.checkpoint.random_weights import write_random
from arch_export.encoder import precision as precisions
from arch_export.encoder.precision import Precision
from arch_export.graph import runtime
from arch_export.graph.variants import write_variant
from arch_export.pipeline import export
from arch_export.verify.signals import synthesise
from arch_harness.triton.endpoint import Endpoint
from arch_harness.triton.server import Server
from arch_serve.server import LocalServer
from google.protobuf import text_format
from support.checkpoints import GROUP_NORM, LAYER_NORM, SMALL, write_checkpoint
from support.model_configs import config_of, facts_of
from transformers import AutoModel, Wav2Vec2FeatureExtractor

SAMPLE_RATE = 16000
pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("traced_once")]


def bf16_problem() -> str | None:
    """Why this machine cannot run bf16; None if it can."""
    try:
        runtime.check_precision(Precision.BF16)
    except ExportUsageError as error:
        return str(error)
    return None


needs_bf16 = pytest.mark.skipif(bf16_problem() is not None, reason=bf16_problem() or "")


def originals(checkpoint: Path, clips: list[Any]) -> Any:
    """By transformers, one clip at a time."""
    model = AutoModel.from_pretrained(checkpoint).eval()
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(checkpoint)
    rows = []
    for clip in clips:
        with torch.no_grad():
            inputs = extractor(clip, sampling_rate=SAMPLE_RATE, return_tensors="pt")
            rows.append(model(inputs["input_values"]).last_hidden_state[0].mean(dim=0).numpy())
    return np.stack(rows)


def cosines(ours: Any, theirs: Any) -> Any:
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    return np.sum(ours * theirs, axis=1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path, traced_once: None) -> Path:
    """A repository with `tiny-hubert-int8` and, where it can be verified, `tiny-hubert-bf16`.

    Where it cannot, the same files stand there unverified: the server is to say what it makes of them.
    """
    folder = tmp_path_factory.mktemp("variants")
    export(str(checkpoint), folder, precision="int8")
    if bf16_problem() is None:
        export(str(checkpoint), folder, precision="bf16")
        return folder
    export(str(checkpoint), folder, "tiny-hubert-bf16", target="cpu")
    path = folder / "tiny-hubert-bf16" / "config.pbtxt"
    config = config_of(path.parent)
    config.parameters["precision"].string_value = "bf16"
    path.write_text(text_format.MessageToString(config))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "int8", pytest.param("bf16", marks=needs_bf16)])
@pytest.mark.parametrize(("family", "norm"), [("hubert", GROUP_NORM), ("wav2vec2", LAYER_NORM)])
def test_a_variant_stays_close_to_transformers(
    tmp_path: Path, precision: str, family: str, norm: dict[str, Any]
) -> None:
    """Measured here on other clips than the export's own, and without its code."""
    folder = write_checkpoint(tmp_path / "ckpt", family, norm)
    target = "tensorrt" if precision == "fp16" else "auto"  # test_cuda_graph has the form for CUDA
    exported = export(str(folder), tmp_path / "repository", precision=precision, target=target)
    assert exported.name == f"ckpt-{precision}"
    clips = [synthesise(index, 2 * SAMPLE_RATE, SAMPLE_RATE, seed=77) for index in range(8)]
    session = runtime.open_session(exported.folder / "1" / "model.onnx", Precision(precision))
    feeds = {"waveform": np.stack(clips), "num_samples": np.full((8, 1), 2 * SAMPLE_RATE)}
    found = cosines(session.run(["embedding"], feeds)[0], originals(folder, clips))
    wanted = {"fp16": (0.9999, 0.999), "bf16": (0.999, 0.99), "int8": (0.99, 0.95)}[precision]
    assert found.mean() >= wanted[0]
    assert found.min() >= wanted[1]
    assert found.min() < 1 - 1e-9, "nothing was rounded"
    onnx.checker.check_model(exported.folder / "1" / "model.onnx")
    assert facts_of(exported.folder)["precision"] == precision
    assert [path.name for path in (tmp_path / "repository").iterdir()] == [exported.name]
    assert {path.name for path in exported.folder.iterdir()} == {"1", "config.pbtxt", "README.md"}


def test_int8_takes_the_matrix_products_and_nothing_else(variants: Path) -> None:
    graph = onnx.load(variants / "tiny-hubert-int8" / "1" / "model.onnx").graph
    kinds = [node.op_type for node in graph.node]
    # Feature projection; query, key and value as one, output, and two of the feed-forward net in each of 2 layers.
    assert kinds.count("MatMulInteger") == 1 + 2 * 4
    assert "ConvInteger" not in kinds
    assert kinds.count("Conv") == 7, "six over the waveform after the first, one over positions"
    scales = [one for one in graph.initializer if one.name.endswith("_scale") and np.prod(one.dims) > 1]
    assert scales, "one scale for each output channel"
    facts = facts_of(variants / "tiny-hubert-int8")
    assert 0 < float(facts["parity_mean_batch_effect"]) < float(facts["parity_max_batch_effect"]) < 0.14
    assert facts["target"] == "cpu"


def test_an_even_kernel_over_few_channels_becomes_odd(variants: Path) -> None:
    """8 channels times 16 taps are what AMX computes wrongly in bf16; every precision takes the same convolution."""
    graph = onnx.load(variants / "tiny-hubert-int8" / "1" / "model.onnx").graph
    shapes = {one.name: tuple(one.dims) for one in graph.initializer}
    convolutions = [shapes[node.input[1]] for node in graph.node if node.op_type == "Conv"]
    assert convolutions[-1] == (32, 8, 17)


def test_int8_is_what_onnx_runtimes_own_tool_makes(variants: Path, checkpoint: Path, tmp_path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    fp32 = export(str(checkpoint), tmp_path).folder / "1" / "model.onnx"
    quantize_dynamic(fp32, tmp_path / "int8.onnx", op_types_to_quantize=["MatMul"], weight_type=QuantType.QInt8,
                     per_channel=True, reduce_range=False)  # fmt: skip
    clips = np.stack([synthesise(index, SAMPLE_RATE, SAMPLE_RATE, seed=5) for index in range(3)])
    feeds = {"waveform": clips, "num_samples": np.full((3, 1), SAMPLE_RATE)}
    ours, theirs = (
        onnxruntime.InferenceSession(path).run(None, feeds)[0]
        for path in (variants / "tiny-hubert-int8" / "1" / "model.onnx", tmp_path / "int8.onnx")
    )
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_fp16_keeps_what_is_sensitive(tmp_path: Path) -> None:
    # Fresh norms are all ones and zeros, which the graph holds once for everything.
    settings: dict[str, Any] = {**SMALL, **GROUP_NORM}
    folder = write_random(tmp_path / "ckpt", "hubert", trained_scales=True, **settings)
    exported = export(str(folder), tmp_path / "repository", precision="fp16", target="tensorrt", force=True)
    graph = onnx.load(exported.folder / "1" / "model.onnx").graph
    types = {one.name: one.data_type for one in graph.initializer}
    casts = {name: node for node in graph.node if node.op_type == "Cast" for name in node.output}
    there_and_back = [
        node.name
        for node in casts.values()
        if node.attribute[0].i == onnx.TensorProto.FLOAT
        and node.input[0] in casts
        and casts[node.input[0]].attribute[0].i == onnx.TensorProto.FLOAT16
    ]
    assert casts
    assert there_and_back == [], "what stays in fp32 is rounded on its way"
    halves = [name for name, kind in types.items() if kind == onnx.TensorProto.FLOAT16]
    assert any("intermediate_dense" in name or "conv_layers.1" in name for name in halves)
    for node in graph.node:
        if node.op_type == "LayerNormalization":
            # The converter casts some once more, from fp32 to fp32.
            weights = {name.removesuffix("_cast_to_fp32") for name in node.input[1:]}
            assert {types[name] for name in weights} == {onnx.TensorProto.FLOAT}
    assert {one.type.tensor_type.elem_type for one in graph.output} == {onnx.TensorProto.FLOAT}
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert 0 < float(exported.facts["fp16_peak"]) < 65504


@pytest.mark.slow
def test_an_overflow_of_fp16_is_found_although_the_cpu_hides_it(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "ckpt")
    model = AutoModel.from_pretrained(folder)
    with torch.no_grad():  # large between the two layers, as before
        model.encoder.layers[0].feed_forward.intermediate_dense.weight.mul_(1e6)
        model.encoder.layers[0].feed_forward.output_dense.weight.mul_(1e-3)
    model.save_pretrained(folder)
    with pytest.raises(ExportError, match=r"overflows fp16, which ends at 65504"):
        export(str(folder), tmp_path / "repository", precision="fp16", target="tensorrt")
    assert not list(tmp_path.glob("repository/*"))


@pytest.mark.slow
@pytest.mark.parametrize("norm", [GROUP_NORM, LAYER_NORM])
def test_fp16_counts_frames_and_sums_them_exactly(tmp_path: Path, norm: dict[str, Any]) -> None:
    """80000 samples and a sum over 250 frames are more than fp16 holds."""
    folder = write_checkpoint(tmp_path / "ckpt", "wav2vec2", norm)
    exported = export(str(folder), tmp_path / "repository", lengths="exact", precision="fp16", target="tensorrt")
    assert float(exported.facts["fp16_peak"]) < 10001  # the mask
    # One frame too many or too few of 15 in a clip would be parts in a hundred, were it only the mean.
    clip = synthesise(1, 5000, SAMPLE_RATE, seed=77)
    session = runtime.open_session(exported.folder / "1" / "model.onnx", Precision.FP16)
    feeds = {"waveform": np.pad(clip, (0, 75000))[None], "num_samples": np.array([[5000]])}
    expected = originals(folder, [clip])
    assert np.linalg.norm(session.run(["embedding"], feeds)[0] - expected) < 3e-3 * np.linalg.norm(expected)


def test_fp16_sums_over_a_long_clip_do_not_overflow(tmp_path: Path) -> None:
    """1,499 frames, as 30 s have, of 60 each: the sum is beyond fp16, the mean is not."""
    float32 = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Gelu", ["features"], ["active"]),
            onnx.helper.make_node("ReduceSum", ["active", "axes"], ["sum"], keepdims=0),
            onnx.helper.make_node("Div", ["sum", "frames"], ["embedding"]),
        ],
        "pooling",
        [onnx.helper.make_tensor_value_info("features", float32, ["batch", "time", 4])],
        [onnx.helper.make_tensor_value_info("embedding", float32, ["batch", 4])],
        [
            onnx.numpy_helper.from_array(np.array([1]), "axes"),
            onnx.numpy_helper.from_array(np.array(1499, dtype=np.float32), "frames"),
        ],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    onnx.save_model(model, tmp_path / "fp32.onnx")
    write_variant(tmp_path / "fp32.onnx", tmp_path / "fp16.onnx", Precision.FP16)
    session = onnxruntime.InferenceSession(tmp_path / "fp16.onnx")
    features = np.full((1, 1499, 4), 60, dtype=np.float32)
    np.testing.assert_allclose(session.run(None, {"features": features})[0], 60, rtol=1e-3)


def test_weights_that_int8_cannot_hold_are_refused(tmp_path: Path) -> None:
    """A net of 32 channels of which every layer has one far beyond the rest: what per-tensor scales are worst at."""
    settings: dict[str, Any] = {**SMALL, **GROUP_NORM}
    folder = write_random(tmp_path / "ckpt", "hubert", trained_scales=True, **settings)
    with pytest.raises(ExportError, match=r"local:ckpt is not installed in int8: .*their mean cosine is 0\.9"):
        export(str(folder), tmp_path / "repository", precision="int8")
    assert not list(tmp_path.glob("repository/*"))


@pytest.mark.slow
def test_what_misses_its_limits_is_installed_by_force_only_and_marked(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = dataclasses.replace(precisions.LIMITS[Precision.INT8], mean_cosine=0.999999, max_relative_error=1e-9)
    monkeypatch.setitem(precisions.LIMITS, Precision.INT8, strict)
    with pytest.raises(ExportError, match=r"not installed in int8: .*differ.*; .*mean cosine is 0\.99.*--force"):
        export(str(checkpoint), tmp_path, precision="int8")
    assert list(tmp_path.iterdir()) == []
    exported = export(str(checkpoint), tmp_path, precision="int8", force=True)
    assert len(exported.misses) == 2
    assert facts_of(exported.folder)["parity_missed"] == "; ".join(exported.misses)
    assert config_of(exported.folder).max_batch_size == 8


@pytest.mark.triton
@pytest.mark.slow
def test_int8_that_moves_too_far_in_a_batch_is_served_a_clip_at_a_time(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = dataclasses.replace(precisions.LIMITS[Precision.INT8], max_batch_effect=1e-9)
    monkeypatch.setitem(precisions.LIMITS, Precision.INT8, strict)
    told: list[str] = []
    exported = export(str(checkpoint), tmp_path, precision="int8", on_warning=told.append)
    assert exported.misses == []
    assert len(told) == 1
    assert told[0].endswith("allowed is 1e-09: tiny-hubert-int8 is served one clip at a time")
    config = config_of(exported.folder)
    assert config.max_batch_size == 1
    assert {(one.batch_size, one.inputs["waveform"].dims[0] // SAMPLE_RATE) for one in config.model_warmup} == {
        (1, seconds) for seconds in (3, 5, 10, 30)
    }
    with LocalServer(tmp_path, [exported.name], grpc_port=0, http_port=0, metrics_port=0) as server:
        assert [status.ready for status in server.models] == [True]


@pytest.mark.parametrize(
    ("precision", "target", "message"),
    [
        ("fp8", "auto", "unknown precision 'fp8': choose one of fp32, fp16, tf32, int8, bf16"),
        ("fp32", "tpu", "unknown target 'tpu': choose one of auto, cpu, gpu, tensorrt"),
        ("int8", "gpu", "int8 is for the target cpu, not gpu, which takes fp32 or fp16 or tf32 or bf16"),
        ("bf16", "tensorrt", "bf16 is for the target cpu or gpu, not tensorrt, which takes fp32 or fp16"),
        ("fp16", "cpu", "fp16 is for the target gpu or tensorrt, not cpu, which takes fp32 or int8 or bf16"),
    ],
)
def test_precisions_and_targets_that_do_not_go_together(
    tmp_path: Path, precision: str, target: str, message: str
) -> None:
    with pytest.raises(ExportUsageError) as error:
        export("hubert-base", tmp_path / "repository", precision=precision, target=target)
    assert str(error.value) == message
    assert not (tmp_path / "repository").exists()


def test_bf16_needs_the_provider_and_the_instructions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arch_common.session.cpu_flags", lambda: {"avx2", "avx512f"})
    with pytest.raises(ExportUsageError, match="this CPU has neither AMX nor AVX512-BF16"):
        export("hubert-base", tmp_path / "repository", precision="bf16")
    monkeypatch.setattr("arch_common.session.cpu_flags", lambda: {"avx512_bf16"})
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ExportUsageError, match=r"not installed: pip install 'arch-bench\[openvino\]'"):
        export("hubert-base", tmp_path / "repository", precision="bf16")
    with pytest.raises(ExportUsageError, match="logmel has no encoder"):
        export("logmel", tmp_path / "repository", precision="int8")
    assert not (tmp_path / "repository").exists()


@pytest.fixture(scope="module")
def server(variants: Path) -> Iterator[LocalServer]:
    with LocalServer(variants, grpc_port=0, http_port=0, metrics_port=0) as running:
        yield running


@pytest.mark.triton
def test_the_server_tells_what_it_runs_in(server: LocalServer, checkpoint: Path) -> None:
    assert all(status.ready for status in server.models), server.models
    with Server(Endpoint(server.grpc_url, metrics=server.metrics_url)) as found:
        executed = {one.name: one.executed_by for one in found.models([])}
    with Server(Endpoint(server.grpc_url)) as found:  # nobody said where the metrics are, but the server does
        assert {one.name: one.executed_by for one in found.models([])} == executed
        assert found.facts().name == "triton"
    note = "" if cpu_flags().intersection(VNNI_FLAGS) else " (this CPU has no VNNI"
    assert executed["tiny-hubert-int8"].startswith(f"int8 on CPUExecutionProvider{note}")
    assert ("(" in executed["tiny-hubert-int8"]) == bool(note)
    problem = bf16_problem()
    if problem is None:
        intel = "GenuineIntel" in Path("/proc/cpuinfo").read_text()
        assert executed["tiny-hubert-bf16"] == f"bf16 on OpenVINO{'ExecutionProvider' if intel else ''}"
    else:
        assert executed["tiny-hubert-bf16"] == "fp32 on CPUExecutionProvider (bf16 needs a CPU with AMX or AVX512-BF16)"

    clip = synthesise(1, 2 * SAMPLE_RATE, SAMPLE_RATE, seed=5)
    waveform = grpcclient.InferInput("waveform", [1, len(clip)], "FP32")
    waveform.set_data_from_numpy(clip[None])
    count = grpcclient.InferInput("num_samples", [1, 1], "INT64")
    count.set_data_from_numpy(np.array([[len(clip)]]))
    client = grpcclient.InferenceServerClient(server.grpc_url)
    for name in executed:
        answer = client.infer(name, [waveform, count]).as_numpy("embedding")
        assert cosines(answer, originals(checkpoint, [clip]))[0] > 0.99


@pytest.mark.triton
def test_the_metrics_are_prometheus_text(server: LocalServer, variants: Path) -> None:
    with urllib.request.urlopen(f"http://{server.metrics_url}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    lines = [line for line in text.splitlines() if line.startswith("arch_execution_info{")]
    assert len(lines) == 2
    assert all(line.endswith("} 1") and 'version="1"' in line for line in lines)
    told = {(labels["model"], figure): value for figure, labels, value in told_footprints(text)}
    assert len(told) == 2 * 3
    for model in {name for name, _ in told}:
        files = sum(file.stat().st_size for file in (variants / model / "1").iterdir())
        assert told[model, "disk_bytes"] == files
        # A Python with ONNX Runtime and the model's weights, and far from a machine's memory.
        assert max(files, 2**24) < told[model, "peak_memory_bytes"] < 2**34
        assert 0 < told[model, "load_seconds"] < 600


def test_a_session_of_another_length_needs_no_new_export(variants: Path) -> None:
    session = onnxruntime.InferenceSession(variants / "tiny-hubert-int8" / "1" / "model.onnx")
    for samples in (1600, 48000):
        feeds = {"waveform": np.zeros((1, samples), np.float32), "num_samples": np.array([[samples]])}
        assert session.run(["embedding"], feeds)[0].shape == (1, 32)
