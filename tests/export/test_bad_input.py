"""What an export makes of damaged checkpoints, full disks and its own sudden death."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from arch_bench.main import app
from arch_common.errors import ExportError, ExportUsageError
from arch_export.checkpoint.files import Checkpoint, fp32_size
from arch_export.checkpoint.loading import load_encoder, read_feature_extractor
from arch_export.checkpoint.locate import locate
from arch_export.encoder.clip_encoder import Normalization
from arch_export.pipeline import export
from typer.testing import CliRunner

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("traced_once")]


@pytest.fixture
def copy(tmp_path: Path, checkpoint: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


def test_a_missing_preprocessor_is_told_and_the_default_taken(tmp_path: Path, copy: Path) -> None:
    (copy / "preprocessor_config.json").unlink()
    done = CliRunner().invoke(app, ["export", str(copy), "--repository", str(tmp_path / "repository")])
    assert done.exit_code == 0, done.output
    assert "warning: local:copy has no preprocessor_config.json: taking zero mean" in done.stderr.replace("\n", " ")
    config = (tmp_path / "repository" / "copy" / "config.pbtxt").read_text()
    assert 'string_value: "whole"' in config
    assert "checkpoint_normalization" not in config, "it asks for none"


def test_weights_that_are_not_numbers(tmp_path: Path, copy: Path) -> None:
    weights = safetensors.torch.load_file(copy / "model.safetensors")
    weights["encoder.layers.0.attention.k_proj.weight"][3, 4] = torch.nan
    safetensors.torch.save_file(weights, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ExportError, match="gives NaN or infinity: its weights are damaged"):
        export(str(copy), tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


def test_weights_whose_download_was_cut_short(copy: Path) -> None:
    """Of a file that took its whole space beforehand."""
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[-len(data) // 2 :] = bytes(len(data) // 2 + len(data) % 2)
    (copy / "model.safetensors").write_bytes(data)
    with pytest.raises(ExportUsageError, match=r"nothing but zeros in \d+ of the encoder's weights.*: fetch it again"):
        load_encoder(locate(str(copy)))


def test_a_model_that_does_not_listen(tmp_path: Path, copy: Path) -> None:
    """Its last norm has no gain left: each clip gives the same."""
    weights = safetensors.torch.load_file(copy / "model.safetensors")
    for name in weights:
        if "layers.1.final_layer_norm.weight" in name:
            weights[name][:] = 0
    weights["encoder.layers.1.final_layer_norm.bias"] += 1
    safetensors.torch.save_file(weights, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ExportError, match="gives every clip the same embedding: its weights are damaged"):
        export(str(copy), tmp_path / "repository")


def test_more_layers_than_the_configuration_names(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    with pytest.raises(ExportUsageError, match=r"more layers than the 1 that its config.json names.*layers\.1\."):
        load_encoder(locate(str(copy)))


@pytest.mark.parametrize("weight_map", [{"a": 5}, {}, ["a"], None])
def test_an_index_of_weights_that_is_none(copy: Path, weight_map: object) -> None:
    (copy / "model.safetensors").unlink()
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ExportUsageError, match="is no index of weights"):
        locate(str(copy))


def test_the_space_that_half_precision_weights_need(copy: Path) -> None:
    weights = safetensors.torch.load_file(copy / "model.safetensors")
    count = sum(one.numel() for one in weights.values())
    safetensors.torch.save_file({name: one.half() for name, one in weights.items()}, copy / "model.safetensors")
    assert fp32_size(copy) == 4 * count


def test_settings_where_transformers_5_puts_them(copy: Path) -> None:
    settings = json.loads((copy / "preprocessor_config.json").read_text())
    (copy / "preprocessor_config.json").unlink()
    (copy / "processor_config.json").write_text(json.dumps({"feature_extractor": settings | {"do_normalize": False}}))
    warnings: list[str] = []
    found = read_feature_extractor(locate(str(copy)), warnings.append)
    assert found.normalization is Normalization.NONE
    assert found.features.do_normalize is False
    assert warnings == []


@pytest.mark.slow
def test_a_model_that_takes_anothers_place_is_told(tmp_path: Path) -> None:
    warnings: list[str] = []
    for target in ("auto", "auto", "cpu"):
        export("logmel", tmp_path, on_warning=warnings.append, target=target)
    assert warnings == ["logmel takes the place of another model of that name: target auto becomes cpu"]


def test_weights_that_were_never_fetched(tmp_path: Path, copy: Path) -> None:
    (copy / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    with pytest.raises(ExportUsageError, match=r"only names the weights .Git LFS.: fetch them with git lfs pull"):
        export(str(copy), tmp_path / "repository")


class Code:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", ["page", "code"])
def test_a_bin_that_holds_no_weights(tmp_path: Path, copy: Path, kind: str) -> None:
    (copy / "model.safetensors").unlink()
    if kind == "page":
        (copy / "pytorch_model.bin").write_bytes(b"<html>404</html>")
    else:
        torch.save({"weight": Code(tmp_path / "ran")}, copy / "pytorch_model.bin")
    with pytest.raises(
        ExportUsageError, match="are damaged, or hold code, which is not run; fetch them again, or as saf"
    ):
        load_encoder(locate(str(copy)))
    assert not (tmp_path / "ran").exists()


def test_weights_under_other_names(copy: Path) -> None:
    weights = safetensors.torch.load_file(copy / "model.safetensors")
    named = {f"wav2vec2.{name}": one for name, one in weights.items()}
    safetensors.torch.save_file(named, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ExportUsageError, match=r"other names \(wav2vec2.encoder.* of hubert: mend model_type"):
        load_encoder(locate(str(copy)))


def test_weights_of_another_format(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "tf_model.h5")
    with pytest.raises(ExportUsageError, match=r"nor pytorch_model.bin \(tf_model.h5 is of another format: save"):
        locate(str(copy))
    (copy / "config.json").unlink()
    with pytest.raises(ExportUsageError, match=r"has no config.json \(tf_model.h5 is of another format"):
        locate(str(copy))


def test_too_small_a_disk_is_told_before_anything_is_written(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ExportError, match=r"tiny-hubert needs about 0.0 GB and the disk of .* has 0.0 GB free"):
        export(str(checkpoint), tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


@pytest.mark.slow
def test_a_disk_that_fills_up_on_the_way(tmp_path: Path) -> None:
    """Here: a process that may not write files as large as the graph."""
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));"
        "from arch_bench.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "export", "logmel", "--repository", str(tmp_path / "repository")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "cannot write" in done.stderr
    assert "File too large" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_model_is_not_replaced(tmp_path: Path, copy: Path) -> None:
    """By default the model is called what the checkpoint's folder is."""
    before = sorted(path.name for path in copy.iterdir())
    with pytest.raises(ExportError, match=r"copy is there and is no Triton model .*choose another --name"):
        export(str(copy), copy.parent)
    assert sorted(path.name for path in copy.iterdir()) == before
    assert list(tmp_path.iterdir()) == [copy]


@pytest.mark.parametrize(
    ("file", "setting", "message"),
    [
        ("config.json", {"num_hidden_layers": None}, r"mend num_hidden_layers \(None\)"),
        ("preprocessor_config.json", {"sampling_rate": 0}, "a sampling_rate in Hz"),
    ],
)
def test_settings_that_make_no_sense(
    tmp_path: Path, copy: Path, file: str, setting: dict[str, object], message: str
) -> None:
    (copy / file).write_text(json.dumps(json.loads((copy / file).read_text()) | setting))
    with pytest.raises(ExportUsageError, match=message):
        export(str(copy), tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


def test_data2vec_has_layer_norms_whatever_its_configuration_says(copy: Path) -> None:
    (copy / "preprocessor_config.json").unlink()
    warnings: list[str] = []
    found = read_feature_extractor(Checkpoint(copy, "x", "0", "x", {"model_type": "data2vec-audio"}), warnings.append)
    assert found.normalization is Normalization.VALID
    assert "over the valid samples" in warnings[0]
