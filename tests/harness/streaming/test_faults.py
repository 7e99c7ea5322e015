"""Every clip is stored once or listed as failed, and scores do not change, whatever goes wrong meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.fault_scenarios import SCENARIOS, undisturbed
from support.fault_scene import Scene, prepare

pytestmark = [pytest.mark.torch, pytest.mark.ray, pytest.mark.triton, pytest.mark.slow]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, demo_dataset: Path) -> Path:
    return prepare(tmp_path_factory.mktemp("faults") / "data", demo_dataset)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, repository: Path, data: Path) -> Scene:
    scene = Scene(repository, data, tmp_path_factory.mktemp("undisturbed"))
    undisturbed(scene)
    return scene


@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_is_lost(tmp_path: Path, repository: Path, data: Path, expected: Scene, name: str) -> None:
    SCENARIOS[name](Scene(repository, data, tmp_path, expected))
