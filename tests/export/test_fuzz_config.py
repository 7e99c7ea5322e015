"""Whatever a checkpoint's JSON files hold: an encoder, or one line that the export itself says."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from arch_common.errors import ExportError
from arch_export.checkpoint.aliases import FAMILIES
from arch_export.checkpoint.files import licence_of
from arch_export.checkpoint.loading import load_encoder, read_feature_extractor
from arch_export.checkpoint.locate import locate
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.torch

# The same inputs in each run. --hypothesis-seed is of no use then; take `derandomize` away to look for more.
BOUNDED = settings(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
NUMBERS = st.one_of(
    st.integers(-3, 40),
    st.sampled_from([64, 128, 1000, 10**6, 2**31, 2**63, 10**30]),
    st.floats(),
)
TEXTS = st.one_of(
    st.sampled_from(["gelu", "relu", "group", "layer", "eager", "flash_attention_2", "float16", "[/b]", "", *FAMILIES]),
    st.text(max_size=5),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS, st.lists(st.integers(-1, 20), min_size=7, max_size=7)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
# Beside those that the small checkpoint names.
OTHER_KEYS = (
    "_attn_implementation",
    "adapter_attn_dim",
    "adapter_stride",
    "add_adapter",
    "attn_implementation",
    "auto_map",
    "conv_pos_kernel_size",
    "forward",
    "gradient_checkpointing",
    "max_bucket_distance",
    "num_adapter_layers",
    "num_buckets",
    "num_labels",
    "per_layer_config",
    "pruned_heads",
    "quantization_config",
    "save_pretrained",
    "tie_word_embeddings",
    "to_dict",
    "torch_dtype",
    "transformers_weights",
)


def try_to_load(folder: Path) -> torch.nn.Module | None:
    """The encoder; None where the export says in a line why there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = locate(str(folder))
            read_feature_extractor(found, lambda _: None)
            return load_encoder(found)
    except ExportError as error:
        said = str(error)
    assert said.strip()
    assert "\n" not in said
    assert len(said) < 1000
    return None


@pytest.fixture
def copy(tmp_path: Path, checkpoint: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


@settings(BOUNDED, max_examples=150)
@given(data=st.data())
def test_keys_of_the_configuration(copy: Path, checkpoint: Path, data: st.DataObject) -> None:
    config: dict[str, Any] = json.loads((checkpoint / "config.json").read_text())
    keys = st.one_of(st.sampled_from([*config, *OTHER_KEYS]), st.text(max_size=6))
    config |= data.draw(st.dictionaries(keys, VALUES, min_size=1, max_size=3))
    (copy / "config.json").write_text(json.dumps(config))
    model = try_to_load(copy)
    if model is not None:
        assert all(parameter.isfinite().all() for parameter in model.parameters())


@settings(BOUNDED, max_examples=60)
@given(
    family=st.sampled_from(FAMILIES),
    keys=st.dictionaries(st.one_of(st.sampled_from(OTHER_KEYS), st.text(max_size=6)), VALUES, max_size=3),
)
def test_other_families_than_the_weights_are_of(
    copy: Path, checkpoint: Path, family: str, keys: dict[str, Any]
) -> None:
    config = json.loads((checkpoint / "config.json").read_text()) | keys | {"model_type": family}
    (copy / "config.json").write_text(json.dumps(config))
    try_to_load(copy)


@settings(BOUNDED, max_examples=100)
@given(
    keys=st.dictionaries(st.one_of(st.sampled_from(["sampling_rate", "do_normalize", "feature_size"]), TEXTS), VALUES)
)
def test_keys_of_the_feature_extractor(copy: Path, checkpoint: Path, keys: dict[str, Any]) -> None:
    extractor = json.loads((checkpoint / "preprocessor_config.json").read_text())
    (copy / "preprocessor_config.json").write_text(json.dumps(extractor | keys))
    found = locate(str(copy))
    try:
        rate = read_feature_extractor(found, pytest.fail).sample_rate
    except ExportError:
        return
    assert 2000 <= rate <= 384_000


@settings(BOUNDED, max_examples=100)
@given(content=st.one_of(st.binary(max_size=60), VALUES.map(lambda value: json.dumps(value).encode())))
@example(content=b"[" * 5000)
@example(content=b'{"model_type": "hubert", "hidden_size": ' + b"9" * 5000 + b"}")
@pytest.mark.parametrize(
    "file",
    ["config.json", "preprocessor_config.json", "processor_config.json", "model.safetensors.index.json"],
)
def test_files_that_hold_anything(copy: Path, file: str, content: bytes) -> None:
    if file.endswith("index.json"):
        (copy / "model.safetensors").unlink(missing_ok=True)
    if file == "processor_config.json":
        (copy / "preprocessor_config.json").unlink(missing_ok=True)
    (copy / file).write_bytes(content)
    try_to_load(copy)


@settings(BOUNDED, max_examples=100)
@given(content=st.one_of(st.binary(max_size=60), VALUES.map(lambda value: f"---\nlicense: {value}\n---\n".encode())))
def test_a_model_card_that_holds_anything(copy: Path, content: bytes) -> None:
    (copy / "README.md").write_bytes(content)
    assert "\n" not in licence_of(copy)
