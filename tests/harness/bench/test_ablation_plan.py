"""Which ablation a model can have, from whom, and what is said where it cannot."""

from __future__ import annotations

from typing import Any

import pytest
from arch_common.errors import UsageError
from arch_harness.bench.ablation.plan import Planned, plan_ablations
from arch_harness.results.checks.ablations import settings_of
from arch_harness.results.run import ModelFacts
from support.runs import model


def facts(name: str, lengths: str = "padded", normalization: str = "whole", **changes: Any) -> ModelFacts:
    document = model(name) | {"source": "facebook/hubert", "lengths": lengths, "normalization": normalization}
    return ModelFacts.model_validate(document | changes)


USUAL = facts("usual")
EXACT = facts("usual-exact", "exact", "valid")
UNNORMALISED = facts("usual-unnormalised", normalization="none")
LOGMEL = facts("logmel", normalization="none", source="builtin:logmel", family="logmel")


def test_what_is_in_a_graph_is_another_export_of_the_same_checkpoint() -> None:
    others = [
        facts("large-exact", "exact", "valid", source="facebook/hubert-large"),
        facts("int8-exact", "exact", "valid", precision="int8"),
        facts("cut-exact", "exact", "valid", cut_after_layer=3),
        facts("exact-too", "exact", "none"),
    ]
    plan = plan_ablations([*others, USUAL, EXACT, UNNORMALISED], settings_of(["padding,normalisation"]))
    assert plan.of_model["usual"] == [
        Planned("padding=exact", "usual-exact"),
        Planned("normalisation=off", "usual-unnormalised"),
    ]
    assert plan.of_model["usual-exact"] == [Planned("normalisation=off", "exact-too")]
    assert plan.of_model["usual-unnormalised"] == [Planned("padding=exact", "exact-too"), Planned("normalisation=on")]
    assert not [line for line in plan.left_out if line.startswith("--ablate padding: usual")]


def test_what_the_client_does_every_model_has() -> None:
    plan = plan_ablations([USUAL, EXACT, LOGMEL], settings_of(["resampler,loudness,length"]))
    assert {len(found) for found in plan.of_model.values()} == {8}
    assert plan.left_out == []


@pytest.mark.parametrize(
    ("one", "asked", "message"),
    [
        (
            USUAL,
            "padding",
            "--ablate padding: usual needs its exact form beside it: arch export facebook/hubert --lengths exact, and "
            "bench both",
        ),
        (
            facts("x", normalization="whole", cut_after_layer=4, precision="int8", source="local:x"),
            "padding",
            "--ablate padding: x needs its exact form beside it: arch export CHECKPOINT --lengths exact --layers 4 "
            "--precision int8, and bench both",
        ),
        (LOGMEL, "padding", "--ablate padding: logmel has no form that leaves padding out"),
        (
            EXACT,
            "normalisation",
            "--ablate normalisation: usual-exact normalises in its graph: arch export facebook/hubert --unnormalised "
            "--lengths exact, and bench both",
        ),
        (LOGMEL, "normalisation=off", "--ablate normalisation: logmel does not normalise"),
        (
            USUAL,
            "normalisation=on",
            "--ablate normalisation: usual normalises in its graph, which undoes what is done before: ablate "
            "normalisation=off",
        ),
        (
            facts("old", "", ""),
            "padding",
            "--ablate padding: old was exported by an earlier arch, which did not write what it does there: export it "
            "again",
        ),
    ],
)
def test_what_no_model_can_have_is_refused_with_what_to_do(one: ModelFacts, asked: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        plan_ablations([one], settings_of([asked]))
    assert str(caught.value) == message
    # Where another model has something of it, the run goes on without.
    more = plan_ablations(
        [
            one,
            facts("b", source="b"),
            facts("b-exact", "exact", "valid", source="b"),
            facts("b-un", normalization="none", source="b"),
            facts("c", normalization="none", source="c"),
        ],
        settings_of([asked.partition("=")[0], "loudness"]),
    )
    assert more.of_model[one.name][-2:] == [Planned("loudness=peak"), Planned("loudness=rms")]
