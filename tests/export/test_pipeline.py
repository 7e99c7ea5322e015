"""arch_export against transformers, on small checkpoints of every kind that is supported."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from arch_common.errors import ExportError, ExportUsageError
from arch_export.checkpoint.aliases import ALIASES
from arch_export.checkpoint.export_source import open_source
from arch_export.checkpoint.files import Checkpoint
from arch_export.checkpoint.loading import is_untrained, read_feature_extractor
from arch_export.encoder.clip_encoder import Normalization, NormalizedWaveform, fold_weight_norm
from arch_export.encoder.options import EncoderOptions
from arch_export.encoder.precision import LIMITS, Precision
from arch_export.graph.trace import write_onnx
from arch_export.pipeline import export
from arch_export.verify import parity
from support.checkpoints import GROUP_NORM, LAYER_NORM, write_checkpoint
from support.model_configs import config_of
from transformers import AutoModel, Wav2Vec2FeatureExtractor

pytestmark = pytest.mark.torch

SAMPLE_RATE = 16000


def clip(samples: int, seed: int = 0) -> Any:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def run(model: Path, waveform: Any, num_samples: list[int]) -> Any:
    session = onnxruntime.InferenceSession(model / "1" / "model.onnx")
    feeds = {"waveform": waveform, "num_samples": np.array(num_samples, dtype=np.int64)[:, None]}
    return session.run(None, feeds)[0]


@pytest.mark.parametrize(
    ("do_normalize", "mask", "expected"),
    [
        (False, False, Normalization.NONE),
        (False, True, Normalization.NONE),
        (True, False, Normalization.WHOLE),
        (True, True, Normalization.VALID),
    ],
)
@pytest.mark.parametrize("valid", [16000, 9000, 1])
def test_normalisation_is_the_feature_extractors(
    tmp_path: Path, do_normalize: bool, mask: bool, expected: Normalization, valid: int
) -> None:
    extractor = Wav2Vec2FeatureExtractor(do_normalize=do_normalize, return_attention_mask=mask)
    extractor.save_pretrained(tmp_path)
    checkpoint = Checkpoint(tmp_path, "local:tiny", "none", "tiny", {"model_type": "hubert"})
    assert read_feature_extractor(checkpoint, pytest.fail).normalization is expected
    waveform = clip(valid) + 0.05
    wanted = extractor(
        [waveform], sampling_rate=SAMPLE_RATE, padding="max_length", max_length=16000, return_tensors="pt"
    )
    padded = torch.from_numpy(np.pad(waveform, (0, 16000 - valid)))[None]
    ours = NormalizedWaveform(expected)(padded, torch.tensor([[valid]]))
    torch.testing.assert_close(ours, wanted["input_values"], rtol=1e-4, atol=1e-4)


def test_a_silent_clip_and_a_count_beyond_the_end_stay_finite() -> None:
    normalize = NormalizedWaveform(Normalization.VALID)
    silent = normalize(torch.zeros(2, 100), torch.tensor([[0], [100]]))
    assert torch.equal(silent, torch.zeros(2, 100))
    loud = torch.randn(1, 100)
    assert torch.equal(normalize(loud, torch.tensor([[100]])), normalize(loud, torch.tensor([[9999]])))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "norm", "do_normalize", "mask"),
    [
        ("hubert", LAYER_NORM, True, True),
        ("wav2vec2", GROUP_NORM, False, False),
        ("wav2vec2", LAYER_NORM, True, False),
    ],
)
def test_exported_graph_equals_transformers(
    tmp_path: Path, family: str, norm: dict[str, Any], do_normalize: bool, mask: bool
) -> None:
    """Checked here against transformers directly, not through the export's own check."""
    folder = write_checkpoint(tmp_path / "ckpt", family, norm, do_normalize, mask)
    exported = export(str(folder), tmp_path / "repository")
    model = AutoModel.from_pretrained(folder).eval()
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(folder)
    clips = [clip(valid, seed) for seed, valid in enumerate((20000, 7000, 30001))]
    inputs = extractor(clips, sampling_rate=SAMPLE_RATE, padding="max_length", max_length=30001, return_tensors="pt")
    with torch.no_grad():
        expected = model(inputs["input_values"]).last_hidden_state.mean(dim=1).numpy()
    waveform = np.stack([np.pad(one, (0, 30001 - len(one))) for one in clips])
    together = run(exported.folder, waveform, [len(one) for one in clips])
    np.testing.assert_allclose(together, expected, rtol=1e-3, atol=1e-4)
    assert np.linalg.norm(together - expected) / np.linalg.norm(expected) < 1e-4
    for row, one in enumerate(clips):
        alone = run(exported.folder, waveform[row : row + 1], [len(one)])[0]
        assert np.linalg.norm(alone - together[row]) / np.linalg.norm(alone) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("norm", [GROUP_NORM, LAYER_NORM])
def test_every_layer(tmp_path: Path, norm: dict[str, Any]) -> None:
    folder = write_checkpoint(tmp_path / "ckpt", "wav2vec2", norm)
    exported = export(str(folder), tmp_path / "repository", layers="all")
    waveform = clip(3 * SAMPLE_RATE)
    inputs = Wav2Vec2FeatureExtractor.from_pretrained(folder)(waveform, sampling_rate=SAMPLE_RATE, return_tensors="pt")
    with torch.no_grad():
        output = AutoModel.from_pretrained(folder).eval()(**inputs, output_hidden_states=True)
    session = onnxruntime.InferenceSession(exported.folder / "1" / "model.onnx")
    feeds = {"waveform": waveform[None], "num_samples": np.array([[len(waveform)]])}
    embedding, layers = session.run(["embedding", "layer_embeddings"], feeds)
    assert layers.shape == (1, 3, 32)
    expected = np.stack([frames[0].mean(dim=0).numpy() for frames in output.hidden_states])
    assert np.max(np.linalg.norm(layers[0] - expected, axis=1) / np.linalg.norm(expected, axis=1)) < 1e-4
    if norm is GROUP_NORM:  # the others norm once more after the last layer
        np.testing.assert_allclose(embedding[0], layers[0, -1], atol=1e-6)
    config = config_of(exported.folder)
    assert {one.name: list(one.dims) for one in config.output} == {"embedding": [32], "layer_embeddings": [3, 32]}
    assert config.parameters["layer_embeddings"].string_value == "3"


def test_a_configuration_says_what_a_diagnosis_needs(repository: Path) -> None:
    facts = {name: config_of(repository / name).parameters for name in ("tiny-hubert", "logmel")}
    assert facts["tiny-hubert"]["untrained"].string_value == "true"
    assert facts["tiny-hubert"]["checkpoint_normalization"].string_value == "whole"
    assert facts["tiny-hubert"]["checkpoint_sample_rate"].string_value == str(SAMPLE_RATE)
    assert not set(facts["logmel"]) & {"untrained", "checkpoint_normalization", "checkpoint_sample_rate"}


@pytest.mark.parametrize("norm", [GROUP_NORM, LAYER_NORM])
def test_weights_are_untrained_until_a_norm_has_changed(tmp_path: Path, norm: dict[str, Any]) -> None:
    model = AutoModel.from_pretrained(write_checkpoint(tmp_path, "wav2vec2", norm))
    assert is_untrained(model)
    with torch.no_grad():
        model.encoder.layers[1].final_layer_norm.bias[3] = 1e-6
    assert not is_untrained(model)
    assert not is_untrained(torch.nn.Linear(2, 2)), "without a norm nothing is known"


def test_padding_does_not_spoil_the_group_norm(repository: Path, checkpoint: Path) -> None:
    """Half a second in half a minute: plain fp32 sums over the padding would be off by parts in ten thousand."""
    model = AutoModel.from_pretrained(checkpoint).eval()
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(checkpoint)
    waveform = np.pad(clip(SAMPLE_RATE // 2) + np.float32(0.05), (0, 59 * SAMPLE_RATE // 2))
    inputs = extractor(waveform, sampling_rate=SAMPLE_RATE, return_tensors="pt")
    with torch.no_grad():
        expected = model(inputs["input_values"]).last_hidden_state[0].mean(dim=0).numpy()
    embedding = run(repository / "tiny-hubert", waveform[None], [SAMPLE_RATE // 2])[0]
    assert np.linalg.norm(embedding - expected) / np.linalg.norm(expected) < 2e-5


def test_logmel_separates_pitches_and_counts_padding(repository: Path) -> None:
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    waveform = np.stack([0.5 * np.sin(2 * np.pi * hertz * time) for hertz in (300, 3000)]).astype(np.float32)
    low, high = run(repository / "logmel", waveform, [SAMPLE_RATE] * 2)
    assert low.shape == (160,)
    assert np.argmax(low[:80]) < np.argmax(high[:80])
    padded = run(repository / "logmel", np.pad(waveform[:1], ((0, 0), (0, SAMPLE_RATE))), [SAMPLE_RATE])[0]
    # Silence counts as 0 level; the two frames across the end smear a little.
    np.testing.assert_allclose(padded[:80], low[:80] / 2, atol=0.3)


@pytest.mark.slow
def test_a_wrong_graph_is_refused_and_leaves_nothing(
    tmp_path: Path, checkpoint: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(repository / "tiny-hubert", tmp_path / "tiny-hubert")
    before = (tmp_path / "tiny-hubert" / "config.pbtxt").read_text()

    def fold_wrongly(model: Any) -> None:
        fold_weight_norm(model)
        model.encoder.pos_conv_embed.conv.weight.mul_(1.5)

    monkeypatch.setattr("arch_export.encoder.clip_encoder.fold_weight_norm", fold_wrongly)
    with pytest.raises(ExportError, match=r"differ from the original model's by \d.*allowed is 1e-04"):
        export(str(checkpoint), tmp_path)
    assert (tmp_path / "tiny-hubert" / "config.pbtxt").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["tiny-hubert"]


def test_nan_fails_the_check(tmp_path: Path, repository: Path) -> None:
    session = onnxruntime.InferenceSession(repository / "logmel" / "1" / "model.onnx")
    measured = parity.measure(session, lambda _clip, _length: np.full((1, 160), np.nan), SAMPLE_RATE)
    assert len(measured.misses(LIMITS[Precision.FP32])) == 3  # only the batch effect has no part in the reference


def test_one_bad_layer_does_not_hide_among_good_ones() -> None:
    """A session that gives two embeddings of a clip, the second of which points elsewhere."""

    class Session:
        def run(self, outputs: object, feeds: Mapping[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:  # noqa: ARG002
            return [np.tile(np.array([[[1, 0], [1, 1]]], dtype=np.float32), (len(feeds["waveform"]), 1, 1))]

    def reference(clip: np.ndarray[Any, Any], length: int) -> np.ndarray[Any, Any]:
        return np.array([[1.0, 0.0], [1.0, 0.0]])

    measured = parity.measure(Session(), reference, SAMPLE_RATE)
    assert measured.mean_cosine == pytest.approx(2**-0.5)
    assert measured.clips == sum(len(case.valid) for case in parity.cases(SAMPLE_RATE))


def test_weights_are_freed_once_they_are_written(tmp_path: Path) -> None:
    class Encoder(torch.nn.Linear):
        def forward(self, waveform: torch.Tensor, num_samples: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return super().forward(waveform[:, :256] * num_samples)

    module = Encoder(256, 4)
    write_onnx(module, tmp_path / "model.onnx", ["embedding"], SAMPLE_RATE)
    assert sum(weights.untyped_storage().nbytes() for weights in module.parameters()) == 0
    assert any(np.prod(one.dims) == 1024 for one in onnx.load(tmp_path / "model.onnx").graph.initializer)


@pytest.mark.slow
def test_the_same_checkpoint_gives_the_same_file(tmp_path: Path, checkpoint: Path, repository: Path) -> None:
    again = export(str(checkpoint), tmp_path)
    model = again.folder / "1" / "model.onnx"
    assert model.read_bytes() == (repository / "tiny-hubert" / "1" / "model.onnx").read_bytes()
    # An address in memory would differ in the next process only.
    assert b" at 0x" not in model.read_bytes()


def _no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def _other_architecture(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "whisper"}))


def _cut_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def _garbled_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"half a download " * 64)


def _other_size(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))


def _preprocessor_list(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text("[]")


def _preprocessor_rate(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text('{"sampling_rate": "fast"}')


def _preprocessor_unknown(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text('{"feature_extractor_type": "NoSuchExtractor"}')


def _index_without_map(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text("{}")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_preprocessor_list, "wants an object with a sampling_rate"),
        (_preprocessor_rate, "wants an object with a sampling_rate"),
        (_preprocessor_unknown, "asks for a NoSuchExtractor; only a Wav2Vec2FeatureExtractor"),
        (_index_without_map, "has no weight_map"),
        (_no_weights, "holds no weights"),
        (_no_config, "no config.json"),
        (_broken_config, "is no JSON"),
        (_other_architecture, "architecture 'whisper'; supported: data2vec-audio, hubert,"),
        (_cut_weights, r"cannot be loaded \(SafetensorError: .*damaged; fetch them again"),
        (_garbled_pickle, r"cannot be loaded \(\w+: \w.*damaged; fetch them again"),
        (_other_size, "lacks 16 of the encoder's weights"),
    ],
)
def test_a_folder_that_is_no_checkpoint(
    tmp_path: Path, checkpoint: Path, spoil: Callable[[Path], None], message: str
) -> None:
    folder = tmp_path / "ckpt"
    shutil.copytree(checkpoint, folder)
    spoil(folder)
    with pytest.raises(ExportUsageError, match=message):
        export(str(folder), tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


def test_unknown_alias_names_near_ones(tmp_path: Path) -> None:
    with pytest.raises(ExportUsageError, match="did you mean hubert-large"):
        export("huber-large", tmp_path)
    with pytest.raises(ExportUsageError, match=r"known aliases: .*hubert-base"):
        export("zzzzzz", tmp_path)
    with pytest.raises(ExportUsageError, match="neither a folder nor a hub id"):
        export("./no/such/folder", tmp_path)
    for odd in ("~no-such-user-here/m", "m" * 300 + "/" + "m" * 300):
        with pytest.raises(ExportUsageError, match=r"cannot be read \(\w+: "):
            export(odd, tmp_path)
    assert ALIASES["hubert-large"].checkpoint == "facebook/hubert-large-ll60k"


def test_unnormalised_takes_the_waveform_as_it_is(checkpoint: Path) -> None:
    def embed(unnormalised: bool, waveform: Any) -> Any:
        source = open_source(str(checkpoint), EncoderOptions(unnormalised=unnormalised), lambda _: None, pytest.fail)
        original = source.load()
        reference = original.reference(waveform[0], SAMPLE_RATE)[0]
        with torch.inference_mode():
            found = original.as_module(None)(torch.from_numpy(waveform), torch.tensor([[SAMPLE_RATE]]))[0].numpy()[0]
        # The module that is exported does what it is verified against.
        np.testing.assert_allclose(found, reference, atol=1e-4)
        return source.facts["normalization"], found

    loud = clip(SAMPLE_RATE)[None]
    for unnormalised, kind in ((False, "whole"), (True, "none")):
        (said, quiet_one), (_, loud_one) = (embed(unnormalised, waveform) for waveform in (0.05 * loud, loud))
        assert said == kind
        moved = float(np.linalg.norm(quiet_one - loud_one) / np.linalg.norm(loud_one))
        assert (moved > 1e-3) == unnormalised
    # It is the checkpoint's own model on raw samples, transformers says.
    model: Any = AutoModel.from_pretrained(checkpoint).eval()
    with torch.inference_mode():
        expected = model(torch.from_numpy(loud)).last_hidden_state.mean(dim=1).numpy()[0]
    np.testing.assert_allclose(embed(True, loud)[1], expected, atol=1e-4)
    assert EncoderOptions(unnormalised=True).suffix == "-unnormalised"
    with pytest.raises(ExportUsageError, match="logmel does not normalise: leave --unnormalised out"):
        open_source("logmel", EncoderOptions(unnormalised=True), lambda _: None, pytest.fail)
