"""What makes a result no reproduction of a published one: each is planted, and named."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from arch_harness.datasets.catalog import DECLARATIONS
from arch_harness.datasets.dataset import load_dataset
from arch_harness.datasets.fixtures.fixture import write_fixture
from arch_harness.published.obstacles import caveats, obstacles
from arch_harness.published.table import published_models
from arch_harness.results.scores import Failure
from support.runs import run_of

if TYPE_CHECKING:
    from pathlib import Path

    from arch_harness.results.run import Run

CHECKPOINT = "ALM/hubert-base-audioset"


def real(dataset: str = "esc50", clips: int = 2000) -> Run:
    """A run with nothing about it that would make it no reproduction."""
    run = run_of(("hubert-base-as",), (dataset,))
    run.settings.epochs = 200
    run.models[0].source = CHECKPOINT
    run.models[0].executed_by = "fp32 by CPUExecutionProvider"
    run.datasets[0].clips = run.results[0].clips = clips
    return run


def found(run: Run) -> list[str]:
    return obstacles(run.models[0], published_models()[CHECKPOINT], run.datasets[0], run.results[0], run.settings)


def test_nothing_is_said_of_the_real_thing() -> None:
    assert found(real()) == []
    assert caveats(real().datasets[0], real().results[0]) == []


def fail(run: Run, count: int, stage: str) -> None:
    result = run.results[0]
    result.failures = [Failure.model_validate({"clip": f"{n}", "stage": stage, "reason": "?"}) for n in range(count)]
    result.failed = count


def another_source(run: Run) -> None:
    run.models[0].source = "facebook/hubert-base-ls960"


def local_folder(run: Run) -> None:
    run.models[0].source = "local:hubert-small-random"


def another_size(run: Run) -> None:
    run.models[0].parameter_count = 26_160


def int8(run: Run) -> None:
    run.models[0].precision = "int8"


def served_otherwise(run: Run) -> None:
    run.models[0].executed_by = "bf16 by OpenVINOExecutionProvider"


def missed(run: Run) -> None:
    run.models[0].parity_missed = "cosine of 0.9"


def strict(run: Run) -> None:
    run.datasets[0].id = run.results[0].dataset = "ravdess@strict"


def few_epochs(run: Run) -> None:
    run.settings.epochs = 100


def another_probe(run: Run) -> None:
    run.results[0].probes = run.results[0].probes[1:]


@pytest.mark.parametrize(
    ("plant", "told"),
    [
        (another_source, f"the weights are of facebook/hubert-base-ls960 and not of {CHECKPOINT} on the hub"),
        (local_folder, f"the weights are of a local folder and not of {CHECKPOINT} on the hub"),
        (another_size, "the encoder has 0.0262 M parameters and the published one 95 M"),
        (int8, "the encoder computes in int8 and not in fp32"),
        (served_otherwise, "the encoder computes in bf16 and not in fp32"),
        (missed, "the export misses the limits of its precision"),
        (strict, "the split is a stricter one than ARCH's"),
        (few_epochs, "the probe was trained for 100 epochs and not for 200"),
        (another_probe, "the linear probe was not trained"),
        (lambda run: fail(run, 1, "infer"), "the server gave no embedding of 1 clips"),
        (lambda run: fail(run, 11, "decode"), "11 of 2,000 clips gave no embedding"),
    ],
)
def test_each_is_named_and_no_other(plant: Callable[[Run], None], told: str) -> None:
    run = real()
    plant(run)
    assert found(run) == [told]


def test_a_few_clips_that_cannot_be_decoded_are_told_but_no_obstacle() -> None:
    """FMA-small has three among 8,000 that hold no audio."""
    run = real("fma_small", 8000)
    fail(run, 3, "decode")
    assert found(run) == []
    assert caveats(run.datasets[0], run.results[0]) == ["3 of 8,000 clips cannot be decoded"]


def test_what_is_uncertain_is_told() -> None:
    run = real("ravdess")
    assert caveats(run.datasets[0], run.results[0]) == [
        "the reference drew the clips that test from a list whose order differs from machine to machine"
    ]
    run = real("mtt")
    run.datasets[0].clips_official = None
    assert caveats(run.datasets[0], run.results[0]) == [
        "how many clips the official release has is not known here, so nothing tells that all are there"
    ]


def test_an_imitation_and_a_part_of_the_data_are_known_by_what_indexing_them_says(tmp_path: Path) -> None:
    write_fixture(DECLARATIONS["esc50"], tmp_path / "esc50", quirks=False)
    run = real()
    run.datasets[0].notes = load_dataset(DECLARATIONS["esc50"], tmp_path / "esc50").notes
    assert found(run) == ["the dataset is an imitation with synthesised audio"]

    (tmp_path / "esc50" / "arch-fixture.json").unlink()
    part = load_dataset(DECLARATIONS["esc50"], tmp_path / "esc50")
    run.datasets[0].notes, run.datasets[0].clips = part.notes, len(part.clips)
    run.datasets[0].classes = len(part.classes)
    assert found(run) == [f"the dataset is not the official release: 40 of 2,000 clips, {len(part.classes)} classes"]
