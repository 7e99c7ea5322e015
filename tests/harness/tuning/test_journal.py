"""The journal of a tuning: what was measured is there again, and nothing of another tuning is taken for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from arch_common.errors import UsageError
from arch_harness.tuning.journal import JOURNAL, Journal
from support.tunings import run_of, settings_of


def test_what_was_measured_is_there_again(tmp_path: Path) -> None:
    first = Journal(tmp_path / "new", settings_of())
    runs = [run_of("a", rate) for rate in (10.0, 20.0)]
    for run in runs:
        first.add(run)
    first.add(run_of("b", 5.0, content_hash="sha256:1"))
    again = Journal(tmp_path / "new", settings_of())
    assert again.count == 3
    assert again.runs("a", "sha256:0") == runs
    # Of another graph under the same name there is none.
    assert again.runs("b", "sha256:0") == []


def test_a_line_that_was_cut_off_is_left_out_and_the_next_is_whole(tmp_path: Path) -> None:
    Journal(tmp_path, settings_of()).add(run_of("a", 10.0))
    path = tmp_path / JOURNAL
    path.write_bytes(path.read_bytes() + b'{"configuration": "a", "ra')
    again = Journal(tmp_path, settings_of())
    assert again.count == 1
    again.add(run_of("a", 20.0))
    assert [run.rate for run in Journal(tmp_path, settings_of()).runs("a", "sha256:0")] == [10.0, 20.0]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"milliseconds": 50.0}, "another tuning, its milliseconds is 100.0, and 50.0 now: name another --output"),
        ({"source": "other"}, "another tuning, the model's files are others: name another --output"),
        ({"cores": 8}, "another tuning, its cores is 2, and 8 now"),
        (
            {"packages": {"numpy": "1.26.4", "nvidia-pytriton": "0.8.0"}},
            r"another tuning, its nvidia-pytriton is 0\.7\.0, and 0\.8\.0 now: name another --output",
        ),
        ({"packages": {"nvidia-pytriton": "0.7.0"}}, r"another tuning, its numpy is 1\.26\.4, and not there now"),
    ],
)
def test_another_tuning_in_the_folder_is_told(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    packages = {"numpy": "1.26.4", "nvidia-pytriton": "0.7.0"}
    Journal(tmp_path, settings_of(packages=packages))
    with pytest.raises(UsageError, match=said):
        Journal(tmp_path, settings_of(**{"packages": packages, **changed}))


def test_another_file_of_that_name_is_told(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_text('{"a": 1}\n')
    with pytest.raises(UsageError, match=r"runs\.jsonl is no journal of a tuning: name another --output"):
        Journal(tmp_path, settings_of())
    assert (tmp_path / JOURNAL).read_text() == '{"a": 1}\n'
