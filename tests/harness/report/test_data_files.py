"""The rows of a run as CSV and Parquet: what is read back is what `rows` gives."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import pytest
from arch_harness.report import write_report
from arch_harness.report.formats.data_files import render_csv, render_parquet
from arch_harness.results.metric_kinds import ATTRIBUTES
from arch_harness.results.rows import COLUMNS, rows
from pyarrow import parquet
from support.runs import RUNS, layer_scores, run_of, small, usual

if TYPE_CHECKING:
    from pathlib import Path


def cell(name: str, text: str) -> Any:
    """What stands in a cell of the CSV, by the column's kind."""
    if not text:
        return None
    if name in ("concurrency_found", "incomplete"):
        return {"True": True, "False": False}[text]
    return text if name in ATTRIBUTES else float(text)


@pytest.mark.parametrize("name", RUNS)
def test_both_read_back_equal_to_the_rows(name: str, tmp_path: Path) -> None:
    run = RUNS[name]()
    run.results[0].layers = layer_scores()
    run.results[-1].measurement = None
    for model in run.models:  # CSV has one look for an empty text and for none
        model.executed_by = "fp32 by CPUExecutionProvider"
    expected = rows(run)
    (tmp_path / "results.csv").write_bytes(render_csv(run).encode(errors="replace"))
    (tmp_path / "results.parquet").write_bytes(render_parquet(run))

    with (tmp_path / "results.csv").open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert list(found[0]) == list(COLUMNS)
    assert [{key: cell(key, text) for key, text in one.items()} for one in found] == expected

    table = parquet.read_table(tmp_path / "results.parquet")
    assert table.column_names == list(COLUMNS)
    assert table.to_pylist() == expected


def test_the_types_of_parquet_do_not_depend_on_what_was_measured(tmp_path: Path) -> None:
    """So that the files of several runs are one table."""
    nothing, bare = run_of(("m",), ("d",), results=[]), small()
    bare.results[0].measurement = None
    for place, run in enumerate((usual(), nothing, bare)):
        write_report(run, tmp_path / str(place))
    first, *others = (parquet.read_schema(tmp_path / str(place) / "results.parquet") for place in range(3))
    assert all(other.equals(first) for other in others)
    assert {str(first.field(name).type) for name in COLUMNS} == {"string", "bool", "double"}
    assert parquet.read_table(tmp_path / "1" / "results.parquet").num_rows == 0
    assert (tmp_path / "1" / "results.csv").read_text() == ",".join(COLUMNS) + "\n"
