"""What a model's configuration says of it, where someone else than `arch export` had a hand in it."""

from __future__ import annotations

import pytest
from arch_common.errors import UsageError
from arch_harness.results.run import ModelFacts
from arch_harness.triton.server import model_facts
from support.runs import model
from tritonclient.grpc import model_config_pb2


def config(**other: str) -> model_config_pb2.ModelConfig:
    found = model_config_pb2.ModelConfig(name="encoder", max_batch_size=32)
    for key, value in {**model("encoder"), **other}.items():
        found.parameters[key].string_value = str(value)
    return found


def test_what_the_export_wrote() -> None:
    expected = {**model("encoder"), "max_queue_delay_us": 0, "instances": 1, "threads": None}
    assert model_facts("encoder", config()) == ModelFacts.model_validate(expected)


@pytest.mark.parametrize(("written", "told"), [("0", None), ("2", 2), ("", None)])
def test_threads_are_those_that_were_asked_for(written: str, told: int | None) -> None:
    assert model_facts("encoder", config(intra_op_thread_count=written)).threads == told


@pytest.mark.parametrize(
    ("parameter", "value", "wrong"),
    [
        ("embedding_size", "0", "input should be greater than 0"),
        ("sample_rate", "-16000", "input should be greater than 0"),
        ("sample_rate", "abc", "input should be a valid integer"),
        ("parity_min_cosine", "nan", "input should be a finite number"),
        # All models without one would share their embeddings in the store.
        ("content_hash", "", "should have at least 1 character"),
    ],
)
def test_a_parameter_that_cannot_be_is_one_line(parameter: str, value: str, wrong: str) -> None:
    with pytest.raises(UsageError) as caught:
        model_facts("encoder", config(**{parameter: value}))
    said = str(caught.value)
    assert f"the model 'encoder' cannot be benched: its configuration says {parameter} is {value!r}, and " in said
    assert wrong in said
    assert "\n" not in said
