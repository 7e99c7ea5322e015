"""The one table of metrics: the JSON schema, the documentation and the data frames are what it says."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from arch_harness.measuring.bottleneck import SATURATED
from arch_harness.results.measurement import Consumption
from arch_harness.results.metric_definitions import METRIC_PAIRS, METRICS, meaning
from arch_harness.results.metric_kinds import ATTRIBUTES
from arch_harness.results.rows import COLUMNS, rows
from arch_harness.results.run import SCHEMA_VERSION, Footprint, Run, read_run, write_run
from support.measurements import consumption
from support.runs import layer_scores, origin, run_of
from support.scripts import generate_docs

OF_OTHER_CLIPS = {
    "Ablation",
    *("ServerShare", "ClassScore", "Comparison", "DatasetFacts", "Measurement", "Phase"),
    *("EmbeddingFacts", "ResentFacts"),
}
"""Whose `clips` are not those of a dataset that a run was asked for, as the metric's are."""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return generate_docs()


def test_the_schema_in_the_documentation_is_that_of_the_classes(script: ModuleType) -> None:
    assert script.SCHEMA.read_text(encoding="utf-8") == script.schema(), "run python scripts/generate_docs.py"
    assert f'"const": {SCHEMA_VERSION}' in script.schema()


def test_the_columns_in_the_documentation_are_those_of_the_table(script: ModuleType) -> None:
    text = script.PAGE.read_text(encoding="utf-8")
    assert text == script.page(text), "run python scripts/generate_docs.py"
    assert all(f"| `{column}` |" in text for column in COLUMNS)


def is_number(field: dict[str, Any]) -> bool:
    return any(one.get("type") in ("number", "integer") for one in (field, *field.get("anyOf", ())))


def test_a_field_with_the_name_of_a_metric_says_what_the_table_says() -> None:
    schema = Run.model_json_schema()
    checked = set()
    for name, definition in {**schema["$defs"], "Run": schema}.items():
        for field, facts in definition.get("properties", {}).items():
            if field not in METRICS or not is_number(facts) or (field == "clips" and name in OF_OTHER_CLIPS):
                continue
            assert facts.get("description", "").startswith(meaning(field)), f"{name}.{field}"
            checked.add(field)
    assert len(checked) > 30


def full_run() -> Run:
    """A run in which everything that can be measured was."""
    run = run_of(("a", "b"), ("d",))
    run.results[0].layers = layer_scores()
    run.results[1].probes[0].map_weighted = 0.4
    run.models[1].max_queue_size = 64
    run.results[1].carried = origin()
    run.footprints = [Footprint(model="a", memory_mib=512.5, disk_mib=361.0, load_seconds=2.5)]
    run.settings.price = 2.49
    assert run.results[0].measurement is not None
    run.results[0].measurement.consumption = Consumption.model_validate(consumption())
    return run


def test_a_speed_of_other_hardware_has_no_price() -> None:
    run = full_run()
    assert [row["price_per_million_clips"] is None for row in rows(run)] == [False] * len(rows(run))
    run.results[1].carried = origin(cpu="Graviton")
    for row in rows(run):
        known = row["model"] == "a"
        assert row["clips_per_s"] is not None
        assert (row["price_per_million_clips"] is not None) == (row["price_per_1000_hours"] is not None) == known


def test_every_metric_has_a_value_in_a_full_run() -> None:
    found = rows(full_run())
    assert all(tuple(row) == COLUMNS for row in found)
    assert [name for name in METRICS if all(row[name] is None for row in found)] == []
    assert [name for name in ATTRIBUTES if all(row[name] is None for row in found)] == []


def test_the_table_is_consistent() -> None:
    assert not set(METRICS) & set(ATTRIBUTES)
    for pair in METRIC_PAIRS.values():
        assert {pair.first, pair.second} <= set(METRICS)
        assert pair.id not in METRICS
    for metric in METRICS.values():
        assert metric.meaning.endswith(".")
    assert f"at least {SATURATED:.0%}".replace("%", " %") in meaning("bottleneck")


def test_names_that_are_no_utf8_come_back(tmp_path: Path) -> None:
    run = run_of(("a",), ("esc50",))
    run.datasets[0].path, run.datasets[0].title = "/data/caf\udce9", "鳥の声 – \\udce9"
    write_run(run, tmp_path / "results.json")
    assert read_run(tmp_path / "results.json") == run
    assert "鳥の声 –".encode() in (tmp_path / "results.json").read_bytes(), "other letters stay readable"
