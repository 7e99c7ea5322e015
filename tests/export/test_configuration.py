"""What a `config.json` may hold: keys that transformers ignores, that say how to run a model, or that are wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from arch_bench.main import app
from arch_common.errors import ExportUsageError
from arch_export.checkpoint.export_source import open_source
from arch_export.checkpoint.loading import load_encoder, read_feature_extractor
from arch_export.checkpoint.locate import locate
from arch_export.encoder.clip_encoder import ClipEncoder, Normalization
from arch_export.encoder.options import EncoderOptions
from arch_export.pipeline import export
from support.checkpoints import DATA2VEC, GROUP_NORM, LAYER_NORM, write_checkpoint
from transformers import AutoModel
from typer.testing import CliRunner

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("traced_once")]


@pytest.fixture
def copy(tmp_path: Path, checkpoint: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


def change(folder: Path, file: str = "config.json", **keys: Any) -> Path:
    """Change keys of a JSON file."""
    content = json.loads((folder / file).read_text()) | keys
    (folder / file).write_text(json.dumps(content))
    return folder


def embed(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """A second of noise by our encoder, and by transformers' own."""
    noise = torch.from_numpy(np.random.default_rng(7).standard_normal((1, 16000)).astype(np.float32))
    model: Any = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        theirs = model(noise).last_hidden_state.mean(dim=1)
        encoder = ClipEncoder(load_encoder(locate(str(folder))), Normalization.NONE, EncoderOptions())
        ours = encoder(noise, torch.tensor([[16000]]))[0]
    return ours, theirs


@pytest.mark.parametrize(
    ("family", "keys"),
    [
        ("data2vec-audio", {"do_stable_layer_norm": True, "feat_extract_norm": "group"}),
        ("data2vec-audio", {"conv_pos_batch_norm": True, "feat_proj_layer_norm": False, "adapter_attn_dim": 4}),
        *[
            (family, {"add_adapter": True, "adapter_stride": 2, "num_adapter_layers": 1})
            for family in ("hubert", "unispeech", "unispeech-sat")
        ],
        *[
            (family, {"conv_pos_batch_norm": True, "feat_proj_layer_norm": False, "do_stable_layer_norm": True})
            for family in ("unispeech", "unispeech-sat", "wav2vec2", "wavlm")
        ],
        ("hubert", {"do_stable_layer_norm": True}),
        ("wavlm", {"adapter_attn_dim": 4}),
    ],
)
def test_each_key_is_heeded_or_ignored_as_in_transformers(tmp_path: Path, family: str, keys: dict[str, Any]) -> None:
    norm = DATA2VEC if family == "data2vec-audio" else GROUP_NORM
    folder = write_checkpoint(tmp_path / "checkpoint", family, norm)
    ours, theirs = embed(change(folder, **keys))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["auto", "gpu"])
def test_a_norm_order_that_data2vec_does_not_know(tmp_path: Path, target: str) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", "data2vec-audio", DATA2VEC)
    change(folder, do_stable_layer_norm=True)
    exported = export(str(folder), tmp_path / "repository", target=target)
    assert exported.parity.max_relative_error < 1e-4


@pytest.mark.parametrize(
    "keys",
    [
        {"_attn_implementation": "flash_attention_2"},
        {"attn_implementation": "sdpa", "_attn_implementation_internal": "flash_attention_3"},
        {"quantization_config": None, "torch_dtype": "int4", "dtype": "float16"},
        {"return_dict": False, "output_hidden_states": True, "output_attentions": True, "torchscript": True},
        {"auto_map": {"AutoModel": "modeling.Model"}, "architectures": 5, "_name_or_path": 3, "id2label": 7},
        {"to_dict": 5, "inputs_to_logits_ratio": 5, "tie_last_hidden_states": True},
    ],
)
def test_what_says_how_to_run_a_model_changes_nothing(copy: Path, checkpoint: Path, keys: dict[str, Any]) -> None:
    with torch.no_grad():
        noise = torch.from_numpy(np.random.default_rng(7).standard_normal((1, 16000)).astype(np.float32))
        found, plain = (
            load_encoder(locate(str(folder)))(noise).last_hidden_state for folder in (change(copy, **keys), checkpoint)
        )
    assert torch.equal(found, plain)


def test_flash_attention_on_the_command_line(tmp_path: Path, copy: Path) -> None:
    change(copy, _attn_implementation="flash_attention_2")
    done = CliRunner().invoke(app, ["export", str(copy), "--repository", str(tmp_path / "repository")])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"hidden_act": "gelu_neu"}, r"transformers knows no 'gelu_neu'\): mend hidden_act \('gelu_neu'\)"),
        ({"feat_extract_activation": 5}, r"mend feat_extract_activation \(5\)"),
        ({"hidden_size": "32"}, r"mend hidden_size \('32'\)"),
        ({"num_hidden_layers": None}, r"mend num_hidden_layers \(None\)"),
        ({"num_attention_heads": 5}, r"divisible by num_heads.*mend hidden_size \(32\) and num_attention_heads \(5\)"),
        ({"feat_extract_norm": "batch"}, r"mend feat_extract_norm \('batch'\)"),
        ({"conv_dim": [16] * 6}, r"mend conv_dim \(\[16, 16"),
        ({"hidden_dropout": 7.0}, r"mend hidden_dropout \(7.0\)"),
        ({"num_conv_pos_embedding_groups": 5}, r"mend num_conv_pos_embedding_groups \(5\)"),
        ({"per_layer_config": {"0": {"intermediate_size": 8}}}, r"mend per_layer_config"),
        ({"num_hidden_layers": 10**9}, r"names 1000000000 as num_hidden_layers: wants a number from 1 to 1,000$"),
        ({"hidden_size": 0}, "names 0 as hidden_size: wants a number from 1 to"),
        ({"conv_stride": [5, 0, 2, 2, 2, 2, 2]}, "names 0 as conv_stride"),
        ({"conv_dim": [16] * 2000}, "names 2000 convolutions in conv_dim"),
        ({"layer_norm_eps": float("nan")}, "names nan as layer_norm_eps"),
        (
            {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}},
            r"has quantization_config \(bitsandbytes\): export the checkpoint that it was made from",
        ),
        ({"transformers_weights": "mine.safetensors"}, r"transformers_weights .*call that file model.safetensors"),
        (
            {"hidden_size": 64},
            r"is \[.*32.*\] in its weights and \[.*64.*\] by its config.json: mend hidden_size or .* there, or fetch",
        ),
        ({"conv_dim": [8] * 7}, r"conv.weight of local:copy is \[16, 1, 10\] .* \[8, 1, 10\] .*: mend conv_dim there"),
        ({"conv_bias": True}, r"lacks 7 of the encoder's weights that its config.json asks for, among them feature_ex"),
    ],
)
def test_the_key_at_fault_is_named(copy: Path, keys: dict[str, Any], message: str) -> None:
    change(copy, **keys)
    with pytest.raises(ExportUsageError, match=message) as raised:
        load_encoder(locate(str(copy)))
    assert "damaged" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_configuration_that_is_too_deep_or_begins_with_a_mark(copy: Path, checkpoint: Path) -> None:
    (copy / "config.json").write_text("[" * 5000)
    with pytest.raises(ExportUsageError, match=r"the config.json of .* is no JSON"):
        locate(str(copy))
    for file in ("config.json", "preprocessor_config.json"):
        (copy / file).write_bytes(b"\xef\xbb\xbf" + (checkpoint / file).read_bytes())
    found = locate(str(copy))
    assert read_feature_extractor(found, pytest.fail).sample_rate == 16000
    load_encoder(found)


@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_weights_that_are_codes(copy: Path, form: str) -> None:
    """As quantised checkpoints hold them; cast to fp32 they would be numbers, and wrong ones."""
    weights = safetensors.torch.load_file(copy / "model.safetensors")
    weights["encoder.layers.1.attention.k_proj.weight"] = torch.ones(32, 32, dtype=torch.int8)
    (copy / "model.safetensors").unlink()
    if form == "bin":
        torch.save(weights, copy / "pytorch_model.bin")
    else:
        safetensors.torch.save_file(weights, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ExportUsageError, match=r"layers.1.attention.k_proj.weight as .*: its weights are quantised"):
        load_encoder(locate(str(copy)))


def test_sizes_in_a_bin(copy: Path) -> None:
    torch.save(safetensors.torch.load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    load_encoder(locate(str(copy)))
    change(copy, intermediate_size=48)
    with pytest.raises(
        ExportUsageError, match=r"\[64, 32\] in its weights and \[48, 32\] .*: mend intermediate_size there"
    ):
        load_encoder(locate(str(copy)))


def test_weights_that_the_configuration_has_no_place_for(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "biased", norm=LAYER_NORM)
    warnings: list[str] = []
    load_encoder(locate(str(folder)), warnings.append)
    assert warnings == []
    change(folder, conv_bias=False)
    load_encoder(locate(str(folder)), warnings.append)
    (warning,) = warnings
    assert warning == (
        "local:biased holds 7 weights of its encoder that its config.json has no place for, among them "
        "feature_extractor.conv_layers.0.conv.bias: as in transformers, they are left out"
    )


def test_adapters(tmp_path: Path, copy: Path) -> None:
    """wav2vec 2.0 changes what it gives by `add_adapter`; HuBERT, above, ignores the key."""
    folder = write_checkpoint(tmp_path / "adapted", "wav2vec2", add_adapter=True, num_adapter_layers=1)
    with pytest.raises(ExportUsageError, match="has an adapter after its encoder"):
        open_source(str(folder), EncoderOptions(), lambda _: None, pytest.fail)
    (copy / "adapter_config.json").write_text("{}")
    with pytest.raises(ExportUsageError, match=r"holds an adapter of PEFT .*: merge it into the weights first"):
        locate(str(copy))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"feature_extractor_type": "WhisperFeatureExtractor"}, "asks for a WhisperFeatureExtractor; only a Wav2Vec2F"),
        ({"do_normalize": "false"}, "names 'false' as do_normalize: wants true or false"),
        ({"return_attention_mask": "no"}, "names 'no' as return_attention_mask: wants true or false"),
        ({"sampling_rate": 1}, "a sampling_rate in Hz, 2000 to 384000"),
        ({"sampling_rate": "16000"}, "a sampling_rate in Hz, 2000 to 384000"),
        ({"padding_value": [0]}, "pads otherwise than with zeros"),
    ],
)
def test_settings_of_the_feature_extractor(copy: Path, keys: dict[str, Any], message: str) -> None:
    change(copy, "preprocessor_config.json", **keys)
    with pytest.raises(ExportUsageError, match=message):
        read_feature_extractor(locate(str(copy)), pytest.fail)
