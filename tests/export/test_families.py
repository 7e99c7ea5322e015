"""Every family, form and kind of length, against transformers' own models on small checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from arch_common.errors import ExportUsageError
from arch_export.encoder.attention import PositionBias, SelfAttention
from arch_export.pipeline import export
from arch_serve.server import LocalServer
from support.checkpoints import DATA2VEC, GROUP_NORM, LAYER_NORM, WAVLM, write_checkpoint
from support.model_configs import facts_of
from transformers import AutoFeatureExtractor, AutoModel, WavLMConfig, WavLMModel
from tritonclient.grpc import InferenceServerClient, InferInput

pytestmark = pytest.mark.torch

SAMPLE_RATE = 16000
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "hubert": ("hubert", GROUP_NORM),
    # DistilHuBERT: no norm before the projection; the positional batch norm is of later HuBERTs.
    "distilled": ("hubert", GROUP_NORM | {"feat_proj_layer_norm": False, "conv_pos_batch_norm": True}),
    "wav2vec2": ("wav2vec2", LAYER_NORM),
    "wavlm": ("wavlm", GROUP_NORM | WAVLM),
    "wavlm-large": ("wavlm", LAYER_NORM | WAVLM),
    "data2vec": ("data2vec-audio", DATA2VEC),
    "unispeech-sat": ("unispeech-sat", GROUP_NORM),
}


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    return {
        kind: write_checkpoint(root / kind, family, config, return_attention_mask=config.get("conv_bias", False))
        for kind, (family, config) in KINDS.items()
    }


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, kinds: dict[str, Path]) -> Path:
    """The small checkpoints in every form, exported for real."""
    folder = tmp_path_factory.mktemp("repository")
    for kind in ("distilled", "wavlm-large", "data2vec", "unispeech-sat"):
        export(str(kinds[kind]), folder, layers="all")
    for kind in ("hubert", "wavlm-large"):
        export(str(kinds[kind]), folder, layers="1")
    for kind in ("distilled", "wav2vec2", "wavlm", "data2vec"):
        export(str(kinds[kind]), folder, lengths="exact")
    return folder


def clips(*samples: int) -> list[Any]:
    random = np.random.default_rng(5)
    return [(0.1 * random.standard_normal(count) + 0.02).astype(np.float32) for count in samples]


def original(folder: Path, clip: Any, length: int | None = None) -> Any:
    """transformers' last hidden state and hidden states of one clip, averaged over frames: FP32 [states, size]."""
    padding: dict[str, Any] = {"padding": "max_length", "max_length": length} if length else {}
    inputs = AutoFeatureExtractor.from_pretrained(folder)(
        clip, sampling_rate=SAMPLE_RATE, return_tensors="pt", **padding
    )
    with torch.no_grad():
        output = AutoModel.from_pretrained(folder).eval()(inputs["input_values"], output_hidden_states=True)
    return np.stack([one[0].mean(dim=0).numpy() for one in (output.last_hidden_state, *output.hidden_states)])


def run(model: Path, batch: list[Any], length: int, *outputs: str) -> Any:
    session = onnxruntime.InferenceSession(model / "1" / "model.onnx")
    feeds = {
        "waveform": np.stack([np.pad(clip, (0, length - len(clip))) for clip in batch]),
        "num_samples": np.array([[len(clip)] for clip in batch]),
    }
    return session.run(list(outputs) or ["embedding"], feeds)


def error(ours: Any, expected: Any) -> float:
    return float(np.max(np.linalg.norm(ours - expected, axis=-1) / np.linalg.norm(expected, axis=-1)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["distilled", "wavlm-large", "data2vec", "unispeech-sat"])
def test_family_with_every_layer(repository: Path, kinds: dict[str, Path], kind: str) -> None:
    batch = clips(20000, 7000)
    embedding, layers = run(repository / kind, batch, 20000, "embedding", "layer_embeddings")
    expected = np.stack([original(kinds[kind], clip, 20000) for clip in batch])
    assert error(embedding, expected[:, 0]) < 1e-5
    assert error(layers, expected[:, 1:]) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["hubert", "wavlm-large"])
def test_cut(repository: Path, kinds: dict[str, Path], kind: str) -> None:
    model = repository / f"{kind}-l1"
    clip = clips(9000)[0]
    (embedding,) = run(model, [clip], 12000)
    states = original(kinds[kind], clip, 12000)
    assert error(embedding[0], states[2]) < 1e-5  # hidden_states[1]: no norm after the last layer
    assert facts_of(model)["cut_after_layer"] == "1"
    # What comes after the cut is not there at all.
    graph = onnx.load(model / "1" / "model.onnx").graph
    assert sum(node.op_type == "Softmax" for node in graph.node) == 1


def test_cut_where_there_is_no_layer(tmp_path: Path, kinds: dict[str, Path]) -> None:
    with pytest.raises(ExportUsageError, match="--layers 3: local:hubert has 2 layers"):
        export(str(kinds["hubert"]), tmp_path / "repository", layers="3")
    for layers in ("0", "-1", "some"):
        with pytest.raises(ExportUsageError, match="use none, all, or the number of the layer"):
            export(str(kinds["hubert"]), tmp_path / "repository", layers=layers)
    with pytest.raises(ExportUsageError, match="use padded or exact"):
        export(str(kinds["hubert"]), tmp_path / "repository", lengths="short")
    for layers, lengths in (("1", "padded"), ("all", "padded"), ("none", "exact")):
        with pytest.raises(ExportUsageError, match="logmel"):
            export("logmel", tmp_path / "repository", layers=layers, lengths=lengths)
    assert not (tmp_path / "repository").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["distilled", "wav2vec2", "wavlm", "data2vec"])
def test_exact_lengths(repository: Path, kinds: dict[str, Path], kind: str) -> None:
    """Alone without padding, and padded to any length in any batch: as transformers alone without padding."""
    model = repository / f"{kind}-exact"
    batch = clips(16000, 5003, 400, 9121)
    expected = np.stack([original(kinds[kind], clip)[0] for clip in batch])
    alone = np.concatenate([run(model, [clip], len(clip))[0] for clip in batch])
    assert error(alone, expected) < 1e-5
    for length in (16000, 16001, 23456, 160000):
        assert error(run(model, batch, length)[0], alone) < 1e-5
    assert facts_of(model)["lengths"] == "exact"
    # Fewer samples than one frame needs, and a count beyond the end: finite.
    assert np.isfinite(run(model, [clips(3)[0]], 400)[0]).all()
    if (repository / kind).exists():  # the check can fail: where padding counts, the same clips move by far more
        assert error(run(repository / kind, batch, 23456)[0], alone) > 1e-3


def test_position_bias_is_transformers_own_with_weights_that_matter() -> None:
    """A fresh checkpoint's position embeddings are so small that a wrong one would pass unseen."""
    torch.manual_seed(1)
    config = WavLMConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64)
    theirs = WavLMModel(config).eval().requires_grad_(False).encoder.layers[0].attention
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter)
    hidden = torch.randn(2, 1700, 32)  # beyond the distance of 800 where the bias ends
    expected, _, bias = theirs(hidden)
    table = PositionBias(theirs)(1700, hidden.device)
    torch.testing.assert_close(table, bias[:4], rtol=0, atol=0)
    ours = SelfAttention(theirs)(hidden, position_bias=table)
    assert error(ours.flatten(), expected.flatten()) < 1e-4
    without = SelfAttention(theirs)(hidden)
    assert error(without.flatten(), expected.flatten()) > 0.1


@pytest.mark.slow
def test_weights_beside_the_graph(
    tmp_path: Path, kinds: dict[str, Path], repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As protobuf needs it beyond 2 GB; here from the first byte on."""
    monkeypatch.setattr("arch_export.graph.trace.EXTERNAL_DATA_FROM", 0)
    exported = export(str(kinds["hubert"]), tmp_path, layers="1")
    sizes = {file.name: file.stat().st_size for file in (exported.folder / "1").iterdir()}
    whole = (repository / "hubert-l1" / "1" / "model.onnx").stat().st_size
    assert set(sizes) == {"model.onnx", "model.onnx.data"}
    assert sizes["model.onnx"] < whole - sizes["model.onnx.data"] + 20_000
    # Triton's working directory is not the model's: the data must be found from anywhere.
    clip = clips(8000)[0]
    assert error(run(exported.folder, [clip], 8000)[0], run(repository / "hubert-l1", [clip], 8000)[0]) == 0


@pytest.mark.triton
@pytest.mark.slow
def test_served(repository: Path, kinds: dict[str, Path]) -> None:
    """The real Triton loads what was written and answers as transformers does."""
    clip = clips(12000)[0]
    models = {"wavlm-large": ("wavlm-large", 16000), "data2vec-exact": ("data2vec", None)}
    with LocalServer(repository, list(models), grpc_port=0, http_port=0, metrics_port=0) as server:
        client = InferenceServerClient(server.grpc_url)
        for model, (kind, length) in models.items():
            waveform = InferInput("waveform", [1, 16000], "FP32")
            waveform.set_data_from_numpy(np.pad(clip, (0, 4000))[None])
            num_samples = InferInput("num_samples", [1, 1], "INT64")
            num_samples.set_data_from_numpy(np.array([[12000]]))
            answer = client.infer(model, [waveform, num_samples]).as_numpy("embedding")
            assert error(answer[0], original(kinds[kind], clip, length)[0]) < 1e-5
