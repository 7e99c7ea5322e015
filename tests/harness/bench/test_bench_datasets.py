"""All twelve datasets, as fixtures, through the whole of `arch bench` against a real Triton."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from arch_harness.datasets import load_dataset
from arch_harness.datasets.catalog import ARCH
from arch_harness.datasets.fixtures.fixture import Fixture, write_fixture
from arch_serve.server import LocalServer
from support.commands import arch

pytestmark = [pytest.mark.torch, pytest.mark.ray, pytest.mark.triton, pytest.mark.slow]

SINGLE_LABEL = [one.id for one in ARCH if one.task == "single_label"]
MULTI_LABEL = [one.id for one in ARCH if one.task == "multi_label"]


@pytest.fixture(scope="module")
def fixtures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Fixture]]:
    root = tmp_path_factory.mktemp("data")
    return root, {one.id: write_fixture(one, root / one.id) for one in ARCH}


def bench(server: LocalServer, root: Path, output: Path, datasets: list[str], *options: str) -> dict[str, Any]:
    """Run `arch bench` and return its results by dataset."""
    arguments = [
        "bench",
        "--server",
        server.grpc_url,
        "--model",
        "logmel",
        "--data-root",
        str(root),
        "--output",
        str(output),
        *options,
    ]
    for one in datasets:
        arguments += ["--dataset", one]
    done = arch(*arguments)
    # Fixtures hold clips at fault, and a run with failed clips says so with its exit code.
    assert done.returncode == 1, done.stderr
    assert "clips failed and count in no score" in done.stderr, done.stderr
    assert "has no score" not in done.stderr, done.stderr
    results = json.loads((output / "results.json").read_text())["results"]
    return {result["dataset"]: result for result in results}


def check(results: dict[str, Any], root: Path, fixtures: dict[str, Fixture], metric: str) -> None:
    """Every clip is accounted for: embedded, or named as failed for the reason that was planted."""
    for declaration in (one for one in ARCH if one.id in results):
        result, fixture = results[declaration.id], fixtures[declaration.id]
        dataset = load_dataset(declaration, root / declaration.id)
        assert result["metric"] == metric
        assert 0 <= result["score"] <= 1
        assert result["clips"] == len(dataset.clips) == fixture.clips
        assert {failure["clip"] for failure in result["failures"]} == set(fixture.faults)
        assert result["failed"] == len(fixture.faults)
        lost = {index for index, clip in enumerate(dataset.clips) if clip.path in fixture.faults}
        counted = {fold["fold"]: [fold["train"], fold["validation"], fold["test"]] for fold in result["folds"]}
        assert counted == {
            fold.name: [len(set(part.tolist()) - lost) for part in (fold.train, fold.validation, fold.test)]
            for fold in dataset.folds
        }


def test_single_label_and_strict_splits_beside(
    server: LocalServer, fixtures: tuple[Path, dict[str, Fixture]], tmp_path: Path
) -> None:
    results = bench(server, fixtures[0], tmp_path, SINGLE_LABEL)
    assert list(results) == SINGLE_LABEL
    check(results, *fixtures, metric="accuracy")
    # The tone tells the class, so that a probe of shuffled clips and labels would be found out.
    medley = results["medley_solos_db"]
    assert medley["score"] > medley["chance"] + 0.2, medley

    # us8k brings a clip at fault; into the same report.
    both = bench(server, fixtures[0], tmp_path, ["ravdess", "us8k"], "--splits", "strict")
    assert set(both) == {*SINGLE_LABEL, "ravdess@strict", "us8k@strict"}
    assert {name: both[name] for name in SINGLE_LABEL} == results
    assert len(both["ravdess@strict"]["folds"]) == 4
    assert [failure["clip"] for failure in both["us8k@strict"]["failures"]] == list(fixtures[1]["us8k"].faults)


def test_multi_label(server: LocalServer, fixtures: tuple[Path, dict[str, Fixture]], tmp_path: Path) -> None:
    results = bench(server, fixtures[0], tmp_path, MULTI_LABEL)
    assert list(results) == MULTI_LABEL
    check(results, *fixtures, metric="map_macro")
