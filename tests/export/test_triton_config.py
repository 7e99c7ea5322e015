"""What stands in the `config.pbtxt` of an exported model, for each target."""

from __future__ import annotations

from pathlib import Path

import pytest
from arch_common.content import content_hash
from arch_export.encoder.precision import Precision, Target
from arch_export.pipeline import export
from arch_export.repository.triton_config import model_config
from arch_export.serving import ServingOptions
from support.model_configs import config_of, facts_of
from transformers import AutoModel
from tritonclient.grpc import model_config_pb2

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("traced_once")]

SAMPLE_RATE = 16000


def test_configuration_holds_every_fact(repository: Path, checkpoint: Path) -> None:
    config = config_of(repository / "tiny-hubert")
    facts = facts_of(repository / "tiny-hubert")
    assert config.name == "tiny-hubert"
    assert config.backend == "onnxruntime"
    assert [(entry.name, entry.data_type, list(entry.dims)) for entry in config.input] == [
        ("waveform", model_config_pb2.TYPE_FP32, [-1]),
        ("num_samples", model_config_pb2.TYPE_INT64, [1]),
    ]
    assert [(entry.name, list(entry.dims)) for entry in config.output] == [("embedding", [32])]
    assert config.max_batch_size > 1
    assert config.HasField("dynamic_batching")
    assert config.instance_group[0].count == 1
    assert {warmup.batch_size for warmup in config.model_warmup} == {1, config.max_batch_size}
    assert facts["source"] == "local:tiny-hubert"
    assert facts["revision"].startswith("sha256:")
    assert (facts["family"], facts["precision"], facts["normalization"]) == ("hubert", "fp32", "whole")
    assert (facts["sample_rate"], facts["embedding_size"], facts["opset"]) == ("16000", "32", "20")
    model = AutoModel.from_pretrained(checkpoint)
    assert int(facts["parameter_count"]) == sum(one.numel() for one in model.parameters())
    assert facts["content_hash"] == content_hash(repository / "tiny-hubert" / "1")
    assert 0 < float(facts["parity_max_relative_error"]) < 1e-4
    assert 0.99999 < float(facts["parity_min_cosine"]) <= 1.000001


def test_each_target_has_a_configuration_of_its_own(tmp_path: Path, checkpoint: Path) -> None:
    exported = export(str(checkpoint), tmp_path, "for-tensorrt", target=Target.TENSORRT)
    configs = {
        target: model_config(f"for-{target}", {"embedding": [32]}, SAMPLE_RATE, exported.facts, target=target)
        for target in Target
    }
    assert config_of(exported.folder).optimization == configs[Target.TENSORRT].optimization
    assert config_of(exported.folder).model_warmup == configs[Target.TENSORRT].model_warmup
    kinds = model_config_pb2.ModelInstanceGroup
    assert {target: config.instance_group[0].kind for target, config in configs.items()} == {
        Target.AUTO: kinds.KIND_AUTO,
        Target.CPU: kinds.KIND_CPU,
        Target.GPU: kinds.KIND_GPU,
        Target.TENSORRT: kinds.KIND_GPU,
    }
    warmed = {
        target: {(one.batch_size, one.inputs["waveform"].dims[0] // SAMPLE_RATE) for one in config.model_warmup}
        for target, config in configs.items()
    }
    assert warmed[Target.CPU] == {(1, 3), (1, 5), (1, 10), (1, 30), (8, 5)}
    assert warmed[Target.GPU] == {(batch, seconds) for batch in (1, 2, 4, 8, 16) for seconds in (3, 5, 10, 30)}
    half = model_config("half", {"embedding": [32]}, SAMPLE_RATE, exported.facts, Precision.FP16, Target.GPU)
    assert (half.max_batch_size, configs[Target.GPU].max_batch_size) == (32, 16)
    assert {one.inputs["waveform"].dims[0] // SAMPLE_RATE for one in half.model_warmup if one.batch_size == 32} == {
        3,
        5,
        10,
    }
    for config in (half, configs[Target.GPU]):
        sizes = [one.batch_size * one.inputs["waveform"].dims[0] for one in config.model_warmup]
        assert sizes == sorted(sizes, reverse=True)
    for target, config in configs.items():
        assert [group.count for group in config.instance_group] == [2 if target is Target.GPU else 1]
        assert not config.dynamic_batching.HasField("default_queue_policy")
        assert list(config.dynamic_batching.preferred_batch_size) == ([16] if target is Target.TENSORRT else [])
        parameters = {key: value.string_value for key, value in config.parameters.items()}
        assert ("intra_op_thread_count" in parameters) == (target is Target.CPU)
        # 1 is HEURISTIC to NVIDIA's backend.
        assert parameters.get("cudnn_conv_algo_search") == (None if target is Target.CPU else "1")
        options = ServingOptions(conv_search="exhaustive")
        other = model_config("c", {"embedding": [32]}, SAMPLE_RATE, exported.facts, target=target, options=options)
        found = other.parameters["cudnn_conv_algo_search"].string_value
        assert found == ("" if target is Target.CPU else "0")
    (accelerator,) = configs[Target.TENSORRT].optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.name == "tensorrt"
    (cuda,) = configs[Target.GPU].optimization.execution_accelerators.gpu_execution_accelerator
    strict = {"enable_skip_layer_norm_strict_mode": "1"}
    assert (cuda.name, dict(cuda.parameters)) == ("cuda", {"use_tf32": "0"} | strict)
    tf32 = model_config("tf32", {"embedding": [32]}, SAMPLE_RATE, exported.facts, Precision.TF32, Target.GPU)
    (cuda,) = tf32.optimization.execution_accelerators.gpu_execution_accelerator
    assert dict(cuda.parameters) == {"use_tf32": "1"} | strict
    bounded = model_config(
        "b", {"embedding": [32]}, SAMPLE_RATE, exported.facts, options=ServingOptions(max_queue_size=512)
    )
    policy = bounded.dynamic_batching.default_queue_policy
    assert (policy.timeout_action, policy.max_queue_size) == (model_config_pb2.ModelQueuePolicy.REJECT, 512)
    settings = dict(accelerator.parameters)
    assert settings["precision_mode"] == "FP32"
    assert settings["trt_profile_min_shapes"] == "waveform:1x8000,num_samples:1x1"
    assert settings["trt_profile_opt_shapes"] == "waveform:16x80000,num_samples:16x1"
    assert settings["trt_profile_max_shapes"] == "waveform:16x480000,num_samples:16x1"
    content = configs[Target.TENSORRT].parameters["content_hash"].string_value.removeprefix("sha256:")
    assert settings["trt_engine_cache_path"] == settings["trt_timing_cache_path"] == "/var/cache/arch-tensorrt"
    assert settings["trt_engine_cache_prefix"] == f"for-tensorrt-{content[:12]}"
    assert settings["trt_timing_cache_enable"] == settings["trt_engine_cache_enable"] == "1"
