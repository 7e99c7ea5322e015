"""LoadGen's own log of a VALID Server run, kept as it wrote it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from arch_common.errors import ArchError
from arch_harness.load.asked import least_queries
from arch_harness.load.logs import DETAIL, SUMMARY, read_log, read_samples

KEPT = Path(__file__).parent / "valid_server_run"


def test_a_valid_run() -> None:
    log = read_log(KEPT)
    assert "Result is : VALID" in (KEPT / SUMMARY).read_text()
    assert log.values["result_validity"] == "VALID"
    assert log.values["result_query_count"] == 1204
    assert log.values["result_query_count"] >= least_queries(0.99)
    assert log.errors == []
    requested, effective = log.settings("requested"), log.settings("effective")
    assert requested["server_target_latency_ns"] == effective["target_latency_ns"] == 200_000_000
    assert requested["server_target_qps"] == effective["target_qps"] == 400
    # What is asked for is not all that is used: LoadGen adds what it derives.
    assert effective["samples_per_query"] == 1
    assert "samples_per_query" not in requested


def test_a_run_that_did_not_end(tmp_path: Path) -> None:
    with pytest.raises(ArchError, match="left no log"):
        read_log(tmp_path)
    lines = (KEPT / DETAIL).read_text().splitlines(keepends=True)
    (tmp_path / DETAIL).write_text("".join(line for line in lines if "result_validity" not in line))
    with pytest.raises(ArchError, match="LoadGen did not finish"):
        read_log(tmp_path)
    shutil.copy(KEPT / DETAIL, tmp_path / "mlperf_log_trace.json")
    with pytest.raises(ArchError, match="holds no sample"):
        read_samples(tmp_path)
