"""A run that was loaded, as a terminal shows it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from arch_bench.loaded import LoadedRun
from rich.console import Console
from support.runs import unscored, usual

if TYPE_CHECKING:
    from arch_harness.results.run import Run


def scores(run: Run) -> str:
    screen = io.StringIO()
    Console(file=screen, width=300).print(LoadedRun(Path("out"), run, Path("cache")).scores())
    return screen.getvalue()


def test_the_scores_of_a_run_bear_the_marks_and_remarks_of_the_report() -> None:
    shown = scores(usual())
    rows = [line.split() for line in shown.splitlines()]
    assert [row[4] for row in rows if row[:2] == ["esc50", "wav2vec2-base"]] == ["91.3*", "86.3*"]
    assert [row[4] for row in rows if row[:2] == ["gtzan", "wav2vec2-base"]] == ["87.6", "82.6"]
    assert shown.count("* esc50 is incomplete: 2,000 of the 2,500 clips and 50 of the 50 classes") == 1
    assert "106 failures" in shown


def test_pairs_without_a_score_stand_below_the_scores() -> None:
    run = unscored()
    assert "esc50 × hubert-base-ls960 has no score: none of its 2,000 clips gave an embedding" in scores(run)
    assert LoadedRun(Path("out"), run, Path("cache")).failed == 2000
