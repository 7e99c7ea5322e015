"""How a model is served, asked by hand: what stands in config.pbtxt, and a variant of the same graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from arch_common.content import content_hash
from arch_common.errors import ExportUsageError
from arch_export.encoder.precision import Precision, Target
from arch_export.pipeline import export
from arch_export.repository.triton_config import model_config
from arch_export.repository.variant import write_reconfigured
from arch_export.request import settle_request
from arch_export.serving import ServingOptions, parse_delay
from support.model_configs import config_of, facts_of

pytestmark = [pytest.mark.torch]

FACTS = {"content_hash": "sha256:0"}


def config(**asked: Any) -> Any:
    options = ServingOptions(**{key: asked.pop(key) for key in list(asked) if key in ServingOptions.__annotations__})
    return model_config("m", {"embedding": [32]}, 16000, FACTS, options=options, **asked)


def test_what_is_asked_stands_in_the_configuration() -> None:
    found = config(max_batch=4, instances=3, queue_delay_us=0, threads=2)
    assert found.max_batch_size == 4
    assert [group.count for group in found.instance_group] == [3]
    # 0 is a value: the field is there, and Triton's own default is another thing than ours.
    assert found.dynamic_batching.max_queue_delay_microseconds == 0
    assert found.HasField("dynamic_batching")
    assert found.parameters["intra_op_thread_count"].string_value == "2"
    assert {one.batch_size for one in found.model_warmup} == {1, 4}


def test_what_is_not_asked_is_the_targets() -> None:
    for target in Target:
        assert config(target=target) == model_config("m", {"embedding": [32]}, 16000, FACTS, target=target)
    cpu = config(target=Target.CPU, threads=1)
    assert cpu.parameters["intra_op_thread_count"].string_value == "1"
    gpu = config(target=Target.GPU, precision=Precision.FP16, max_batch=64, instances=1)
    assert (gpu.max_batch_size, gpu.instance_group[0].count) == (64, 1)
    assert "intra_op_thread_count" not in gpu.parameters
    # Where a batch moves its clips, none is served, whatever is asked.
    assert config(max_batch=8, batched=False).max_batch_size == 1


def test_an_engine_is_made_for_the_batch_that_is_asked() -> None:
    found = config(target=Target.TENSORRT, max_batch=4)
    (accelerator,) = found.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.parameters["trt_profile_opt_shapes"] == "waveform:4x80000,num_samples:4x1"
    assert accelerator.parameters["trt_profile_max_shapes"] == "waveform:4x480000,num_samples:4x1"
    assert list(found.dynamic_batching.preferred_batch_size) == [4]


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [("2ms", 2000), ("500us", 500), ("0", 0), ("0.5 ms", 500), ("1s", 1_000_000), ("5µs", 5), ("0ms", 0)],
)
def test_delays(text: str, microseconds: int) -> None:
    assert parse_delay(text) == microseconds


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"max_batch": 0}, "--max-batch 0: from 1 to 1,024 clips"),
        ({"instances": -1}, "--instances -1: from 1 to 256 instances"),
        ({"threads": 0}, "--threads 0: from 1 to 1,024 threads"),
        ({"queue_delay": "2"}, "--queue-delay '2' is no time: wants 0 or a number with its unit"),
        ({"queue_delay": "-1ms"}, "--queue-delay '-1ms' is no time"),
        ({"queue_delay": "0.0001us"}, "--queue-delay '0.0001us' is no time"),
        ({"queue_delay": "11s"}, "--queue-delay 11000000us: a request may wait 0 to 10 s"),
    ],
)
def test_what_cannot_be_served_is_told(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportUsageError, match=message.replace("(", r"\(")):
        settle_request("logmel", **asked)


def test_a_variant_is_the_same_graph_served_in_another_way(tmp_path: Path) -> None:
    first = export("logmel", tmp_path / "models")
    before = (first.folder / "config.pbtxt").read_bytes()
    options = ServingOptions(max_batch=2, instances=2, queue_delay_us=0, threads=1)
    folder = write_reconfigured(first.folder, tmp_path / "models", "logmel-b2", options)
    by_hand = export("logmel", tmp_path / "hand", "logmel-b2", max_batch=2, instances=2, queue_delay="0", threads=1)
    # As an export with these options has it, and what the store knows the model by is the same.
    assert config_of(folder) == config_of(by_hand.folder)
    assert (folder / "README.md").read_text() == (by_hand.folder / "README.md").read_text()
    assert content_hash(folder / "1") == facts_of(folder)["content_hash"] == first.facts["content_hash"]
    assert (folder / "1" / "model.onnx").samefile(first.folder / "1" / "model.onnx")
    assert (first.folder / "config.pbtxt").read_bytes() == before
    # A variant of the variant has nothing of it.
    again = write_reconfigured(folder, tmp_path / "models", "logmel-again", ServingOptions())
    expected = config_of(first.folder)
    expected.name = "logmel-again"
    assert config_of(again) == expected


def test_a_model_is_never_replaced_by_its_variant(tmp_path: Path) -> None:
    first = export("logmel", tmp_path)
    before = (first.folder / "config.pbtxt").read_bytes()
    with pytest.raises(ExportUsageError, match="would be replaced by its own variant"):
        write_reconfigured(first.folder, tmp_path, "logmel", ServingOptions(threads=1))
    (first.folder / "1" / "model.onnx").write_bytes(b"optimised")
    with pytest.raises(ExportUsageError, match="is not what was exported"):
        write_reconfigured(first.folder, tmp_path, "other", ServingOptions(threads=1))
    assert (first.folder / "config.pbtxt").read_bytes() == before
    assert not (tmp_path / "other").exists()
    with pytest.raises(ExportUsageError, match="is no model of arch export"):
        write_reconfigured(tmp_path / "none", tmp_path, "other", ServingOptions())
