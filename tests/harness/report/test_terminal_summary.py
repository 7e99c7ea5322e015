"""What a terminal and a pipe get of a run: a table in 80 columns, and at most ten lines."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from arch_harness.report import TerminalScores, TerminalSummary
from arch_harness.results.run import Pair
from rich.cells import cell_len
from rich.console import Console
from support.runs import DATASETS, MODELS, RUNS, origin, run_of, usual

if TYPE_CHECKING:
    from arch_harness.results.run import Run
    from rich.console import RenderableType


def shown(what: RenderableType, *, pipe: bool = False) -> tuple[list[str], list[str]]:
    """The table's lines, and those below it."""
    screen = io.StringIO()
    Console(file=screen, width=80, color_system=None, force_terminal=not pipe).print(what, soft_wrap=pipe)
    lines = [line.rstrip() for line in screen.getvalue().splitlines()]
    gap = lines.index("") if "" in lines else -1
    return lines[:gap] if gap >= 0 else [], lines[gap + 1 :]


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("kind", [TerminalSummary, TerminalScores])
def test_it_fits_80_columns_and_ten_lines(name: str, kind: type[TerminalSummary | TerminalScores]) -> None:
    run = RUNS[name]()
    table, below = shown(kind(run))
    assert max(map(cell_len, [*table, *below])) <= 80
    assert 0 < len(below) <= 9  # the report's path is the tenth
    # No figure and no name is cut: names are folded.
    cells = "".join(table).replace(" ", "")
    for result in run.results:
        assert f"{100 * result.score:.1f}" in cells
    if name == "stress":
        assert len([line for line in table if " ★" in line]) == (192 if kind is TerminalSummary else 0)
        assert "…" not in cells


def test_many_failures_and_warnings_are_cut_and_counted() -> None:
    run = RUNS["stress"]()
    for facts in run.datasets:
        facts.incomplete = True
    run.models[0].executed_by = "fp32 on CPUExecutionProvider (not as it should be)"
    run.models[0].parity_missed = "mean cosine 0.9"
    _, below = shown(TerminalSummary(run, taken=4))
    assert len(below) <= 6
    assert sum("more warnings: see the report" in line for line in below) == 1
    _, all_of_them = shown(TerminalSummary(run, taken=4), pipe=True)
    assert sum("more warnings: see the report" in line for line in all_of_them) <= 1


def test_a_pipe_gets_a_line_for_each_pair_and_sentence() -> None:
    table, below = shown(TerminalSummary(usual()), pipe=True)
    assert table[0].split("  ")[0] == "Dataset"
    assert [line.split()[0] for line in table[1:]] == [data for data in DATASETS for _ in MODELS]
    assert [line.split()[2] for line in table[1:]] == [*MODELS, *MODELS]
    assert all(line.endswith(".") for line in below)
    assert len(below) <= 9


def test_the_star_stands_on_the_front_and_p99_beside_its_load() -> None:
    run = run_of(MODELS, DATASETS[:1])
    # The second one is neither better nor faster than the first.
    slow = run.results[1].measurement
    assert slow is not None
    slow.clips_per_s = 1.0
    rows = [line.split() for line in shown(TerminalSummary(run), pipe=True)[0][1:]]
    assert [row[1] == "★" for row in rows] == [True, False, True]
    p99 = [result.measurement.at("equal rate").latency_ms.p99 for result in run.results]  # type: ignore[union-attr]
    assert [row[-2:] for row in rows] == [[f"{value:.3g}", "5.00/s"] for value in p99]
    # Without one rate for all, it is that of the model's own rate, and says so.
    for result in run.results:
        assert result.measurement is not None
        result.measurement.loads = [one for one in result.measurement.loads if one.load == "paced"]
    rows = [line.split() for line in shown(TerminalSummary(run), pipe=True)[0][1:]]
    assert [row[-1] for row in rows] == ["12.1/s", "17.6/s", "25.5/s"]


def partial() -> Run:
    run = run_of(MODELS[:2], DATASETS)
    run.partial, run.missing = True, [Pair(model=MODELS[1], dataset=DATASETS[1])]
    run.results.pop()
    return run


def test_a_partial_run_says_so_first() -> None:
    _, below = shown(TerminalSummary(partial()), pipe=True)
    assert below[1] == (
        "Not all that was asked for is done: 1 pair of 4 is missing (gtzan × hubert-base-ls960). The run was "
        "interrupted, and the same command completes it."
    )


def test_a_speed_that_was_taken_over_is_marked_and_says_when_and_where() -> None:
    run = run_of(MODELS, DATASETS[:1])
    run.results[0].carried = origin()
    table, below = shown(TerminalSummary(run), pipe=True)
    rows = [line.split() for line in table[1:]]
    assert [(row[-3].endswith("†"), row[-2].endswith("†")) for row in rows] == [
        (True, True),
        (False, False),
        (False, False),
    ]
    assert [line for line in below if line.startswith("†")] == [
        "† not measured in this run, which took the embeddings from the store, but when they were computed, 2026-02-27 "
        "09:05 UTC, on this hardware (AMD EPYC 7B13, 16 cores, NVIDIA H100 80GB HBM3, triton 2.51.0): the speed of "
        f"esc50 × {MODELS[0]}."
    ]
    # A speed of other hardware ranks no model of this run.
    run.results[0].carried = origin(cpu="Intel Xeon")
    table, below = shown(TerminalSummary(run), pipe=True)
    assert table[1].split()[1] != "★"
    assert any(line.startswith("†") and "on OTHER hardware (Intel Xeon, 16 cores" in line for line in below)
