"""A leaderboard: what stands together, what is left out and why, and what each file says."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from arch_common.errors import ArchError
from arch_harness.datasets.dataset import FIXTURE_NOTE
from arch_harness.decision.leaderboard.document import leaderboard_text
from arch_harness.decision.leaderboard.files import to_page, write_leaderboard
from arch_harness.decision.leaderboard.merge import Leaderboard, merge_runs
from arch_harness.results.run import Run
from huggingface_hub import eval_result_entries_to_yaml, parse_eval_result_entries
from support.pages import Page, markdown_rows
from support.runs import hostile, origin, run_of, unscored

DATASETS = ("esc50", "gtzan")


def two() -> list[tuple[str, Run]]:
    """Two runs of a model each on the same two datasets; the first model scores 91.3, 87.6, the other 87.6, 83.9."""
    first, second = run_of(("alpha",), DATASETS), run_of(("beta",), DATASETS)
    for result, score in zip(second.results, (0.876, 0.839), strict=True):
        result.score = result.probes[0].score = score
    return [("first", first), ("second", second)]


def names(board: Leaderboard) -> list[tuple[str, str, str]]:
    return [(one.source, one.result.model, one.result.dataset) for one in board.standings]


def test_comparable_runs_stand_together_the_best_mean_first() -> None:
    board = merge_runs(two()[::-1])
    assert [[one.result.model for one in of_model] for of_model in board.models] == [["alpha"] * 2, ["beta"] * 2]
    assert [board.mean(of_model) for of_model in board.models] == [
        pytest.approx((0.913 + 0.876) / 2),
        pytest.approx((0.876 + 0.839) / 2),
    ]
    assert (board.left_out, board.remarks) == ([], [])


def other_listing(run: Run) -> None:
    run.datasets[0].listing = "1" * 64


def other_epochs(run: Run) -> None:
    run.settings.epochs = 10


def other_metric(run: Run) -> None:
    run.results[0].metric = "map_macro"


def other_probe(run: Run) -> None:
    for result in run.results:
        result.probes = result.probes[1:]
        result.score = result.probes[0].score


@pytest.mark.parametrize(
    ("change", "left", "why"),
    [
        (other_listing, ["esc50"], "datasets[].listing (clips, labels and folds) is 111111111111, and 000000000000 in"),
        (other_epochs, ["esc50", "gtzan"], "settings.epochs is 10, and 100 in first"),
        (other_metric, ["esc50"], "results[].metric is map_macro, and accuracy in first"),
        (other_probe, ["esc50", "gtzan"], "no score by the probe linear, but knn"),
    ],
)
def test_what_is_not_comparable_is_left_out_and_why(change: Callable[[Run], None], left: list[str], why: str) -> None:
    runs = two()
    third = run_of(("gamma",), DATASETS)
    change(third)
    board = merge_runs([*runs, ("third", third)])
    assert [one.dataset for one in board.left_out] == left
    for one in board.left_out:
        assert (one.source, one.model) == ("third", "gamma")
        assert why in one.line()
    shown = {dataset for source, _, dataset in names(board) if source == "third"}
    assert shown == set(DATASETS) - set(left)
    # The larger set stands, whichever run was named first.
    assert names(merge_runs([("third", third), *runs])).count(("first", "alpha", "esc50")) == 1
    # A model that lacks a dataset has no mean, and comes last.
    if shown:
        assert board.models[-1][0].result.model == "gamma"
        assert board.mean(board.models[-1]) is None


def test_whole_data_stand_before_a_larger_set_of_incomplete_ones() -> None:
    runs = two()
    for _, run in runs:
        run.datasets[0].incomplete, run.datasets[0].clips_official, run.datasets[0].listing = True, 2500, "1" * 64
    whole = run_of(("gamma",), DATASETS[:1])
    board = merge_runs([*runs, ("whole", whole)])
    assert [name for name in names(board) if name[2] == "esc50"] == [("whole", "gamma", "esc50")]
    assert [one.line().rpartition("; ")[2] for one in board.left_out] == ["its data are incomplete"] * 2


def test_scores_in_doubt_are_marked_and_have_no_mean_and_no_entry(tmp_path: Path) -> None:
    runs = two()
    runs[0][1].datasets[0].incomplete, runs[0][1].datasets[0].clips_official = True, 2500
    runs[0][1].results[1] = run_of(("alpha",), ("gtzan",), failed=53).results[0]
    runs[1][1].models[0].parity_missed = "mean cosine 0.91, at least 0.99"
    board = merge_runs(runs)
    assert [board.mean(of_model) for of_model in board.models] == [None, None]
    page = Page(to_page(board))
    marked = [cell.split()[0] for cell in page.cells if "*" in cell]
    assert sorted(marked) == ["83.9*", "87.6*", "91.3*", "91.3*"]
    text = " ".join(page.text.split())
    assert "* alpha on esc50: incomplete data, 2,000 of 2,500 clips." in text
    assert "* alpha on gtzan: 53 of 2,000 clips failed." in text
    assert "* beta on gtzan: the export misses the limits of its precision." in text
    written = write_leaderboard(board, tmp_path, "owner/name")
    assert not [path for path in written if path.suffix == ".yaml"]
    with (tmp_path / "leaderboard.csv").open(newline="") as file:
        assert [row["doubts"] for row in csv.DictReader(file)].count("53 of 2,000 clips failed") == 1


def test_a_model_that_was_benched_again_counts_once() -> None:
    again = run_of(("alpha",), DATASETS[:1])
    again.results[0].started = datetime(2026, 3, 2, tzinfo=UTC)
    again.results[0].score = again.results[0].probes[0].score = 0.5
    other = run_of(("alpha",), DATASETS[:1])
    other.models[0].content_hash = "sha256:" + "cd" * 32
    board = merge_runs([("old", two()[0][1]), ("new", again), ("other content", other)])
    assert names(board) == [
        ("new", "alpha", "esc50"),
        ("other content", "alpha", "esc50"),
        ("old", "alpha", "gtzan"),
    ]
    assert [one.line() for one in board.left_out] == ["old: alpha on esc50: benched again in new, on 2026-03-02"]


def test_pairs_without_a_score_are_named_and_no_result_at_all_is_an_error() -> None:
    board = merge_runs([("run", unscored())])
    assert [one.line() for one in board.left_out] == [
        "run: hubert-base-ls960 on esc50: none of its 2,000 clips gave an embedding; audio/0000.wav: is empty"
    ]
    nothing = run_of(("alpha",), DATASETS, results=[])
    with pytest.raises(ArchError, match="nothing can be published: no result is in empty"):
        merge_runs([("empty", nothing)])


def test_scores_of_other_hardware_stand_together_and_speeds_in_tables_of_their_own() -> None:
    runs = two()
    runs[1][1].machine.cpu, runs[1][1].machine.gpus = "Graviton", []
    third = run_of(("gamma",), DATASETS[:1])
    third.servers[0].same_machine, third.servers[0].address = False, "far:8001"
    third.settings.seeds = 1
    text = leaderboard_text(merge_runs([*runs, ("third", third)]))
    assert [table.title for table in text.tables] == [
        "Scores",
        "Speed: AMD EPYC 7B13, 16 cores, NVIDIA H100 80GB HBM3; 1 server on the same machine",
        "Speed: Graviton, 16 cores, no GPU; 1 server on the same machine",
        "Speed: 1 server at far:8001, of unknown hardware; client: AMD EPYC 7B13, 16 cores, NVIDIA H100 80GB HBM3",
    ]
    assert [[row[0].text for row in table.rows] for table in text.tables] == [
        ["alpha", "beta", "gamma"],
        ["alpha"] * 2,
        ["beta"] * 2,
        ["gamma"],
    ]
    assert text.lead[1:] == ["settings.seeds differs: 3 in first, second; 1 in third. Scores may differ by that alone."]


def test_a_speed_that_was_carried_over_stands_under_where_and_when_it_was_measured(tmp_path: Path) -> None:
    runs = two()
    runs[1][1].results[0].carried = origin(cpu="Graviton")
    there = "Graviton, 16 cores, NVIDIA H100 80GB HBM3; 1 server on the same machine"
    here = there.replace("Graviton", "AMD EPYC 7B13")
    board = merge_runs(runs)
    text = leaderboard_text(board)
    assert [table.title for table in text.tables] == ["Scores", f"Speed: {here}", f"Speed: {there}"]
    assert [[cell.text for cell in (row[0], row[1], row[-1])] for row in text.tables[2].rows] == [
        ["beta", "esc50", "2026-02-27"]
    ]
    write_leaderboard(board, tmp_path, "owner/name")
    rows = json.loads((tmp_path / "leaderboard.json").read_text())["entries"]
    assert [(one["hardware"], one["measured"][:10]) for one in rows] == [
        (here, "2026-03-01"),
        (here, "2026-03-01"),
        (there, "2026-02-27"),
        (here, "2026-03-01"),
    ]
    card = markdown_rows((tmp_path / "models" / "beta" / "README.md").read_text())
    assert [row[4:6] for row in card if row[0] in DATASETS] == [(there, "2026-02-27"), (here, "2026-03-01")]


def test_imitated_data_are_in_doubt_and_stand_behind_whole_ones() -> None:
    runs = two()
    for _, run in runs:
        run.datasets[0].notes, run.datasets[0].listing = [FIXTURE_NOTE], "1" * 64
    board = merge_runs(runs)
    assert [one.doubts for one in board.standings if one.result.dataset == "esc50"] == [
        ["an imitation with synthesised audio"]
    ] * 2
    assert [board.mean(of_model) for of_model in board.models] == [None, None]
    board = merge_runs([*runs, ("whole", run_of(("gamma",), DATASETS[:1]))])
    assert [name for name in names(board) if name[2] == "esc50"] == [("whole", "gamma", "esc50")]
    assert [one.line().rpartition("; ")[2] for one in board.left_out] == ["its audio is synthesised"] * 2


def test_the_page_holds_the_order_of_every_column_and_no_script() -> None:
    board = merge_runs(two())
    (scores, _) = leaderboard_text(board).tables
    # Rows: alpha, beta. By name, precision, mean, and each dataset.
    assert scores.places() == [[0, 0, 0, 0, 0], [1, 1, 1, 1, 1]]
    (_, speeds) = leaderboard_text(board).tables
    fastest = [row[2].text for row in speeds.rows]
    assert fastest == sorted(fastest, key=float, reverse=True)
    latency = [float(row[4].text) for row in speeds.rows]
    by_place = sorted(zip((places[4] for places in speeds.places()), latency, strict=True))
    assert [one for _, one in by_place] == sorted(latency)
    text = to_page(board)
    page = Page(text)
    assert page.problems == []
    assert "script" not in page.tags
    assert not [value for name, value in page.attributes if name in ("src", "href") and "//" in value]
    assert text.count('type="radio"') == 5 + 8
    assert ".t2:has(#t2-3:checked) tbody tr { order: var(--c3); }" in text


def test_the_hub_reads_the_scores_and_each_model_has_a_card(tmp_path: Path) -> None:
    runs = two()
    runs[0][1].models[0].licence = "apache-2.0"
    source = "https://example.org/leaderboard"
    written = write_leaderboard(merge_runs(runs), tmp_path, "owner/name", source)
    assert all(path.is_file() for path in written)
    data = yaml.safe_load((tmp_path / "models" / "alpha" / ".eval_results" / "arch.yaml").read_text())
    found = parse_eval_result_entries(data)
    assert [(one.dataset_id, one.task_id, one.value, one.date, one.source_url) for one in found] == [
        ("owner/name", "esc50", 91.3, "2026-03-01", source),
        ("owner/name", "gtzan", 87.6, "2026-03-01", source),
    ]
    assert found[0].notes == (
        "accuracy in % by the probe linear; 95 % interval 89.2 to 93.2; 100 epochs, 3 seeds; 2,000 clips, 5 folds; "
        "fp32; arch 0.1.0"
    )
    assert eval_result_entries_to_yaml(found) == data
    rows = markdown_rows((tmp_path / "models" / "alpha" / "README.md").read_text())
    facts = dict(row for row in rows if len(row) == 2)
    assert facts["source"] == "example/alpha"
    assert facts["licence of the checkpoint"] == "apache-2.0"
    benched = next(row for row in rows if row[0] == "esc50")
    assert benched[1:3] == ("91.3 % accuracy (linear)", "89.2 to 93.2")
    assert benched[4:] == (
        "AMD EPYC 7B13, 16 cores, NVIDIA H100 80GB HBM3; 1 server on the same machine",
        "2026-03-01",
        "first, arch 0.1.0",
    )
    document = json.loads((tmp_path / "leaderboard.json").read_text())
    assert [(one["model"], one["dataset"], one["score"]) for one in document["entries"]] == [
        ("alpha", "esc50", 0.913),
        ("alpha", "gtzan", 0.876),
        ("beta", "esc50", 0.876),
        ("beta", "gtzan", 0.839),
    ]


def test_a_model_that_stands_there_no_longer_goes(tmp_path: Path) -> None:
    write_leaderboard(merge_runs(two()), tmp_path, "owner/name")
    (tmp_path / "models" / "beta" / "mine.txt").touch()
    write_leaderboard(merge_runs(two()[:1]), tmp_path, "owner/name")
    left = {path.relative_to(tmp_path).as_posix() for path in (tmp_path / "models").rglob("*") if path.is_file()}
    assert left == {"models/alpha/README.md", "models/alpha/.eval_results/arch.yaml", "models/beta/mine.txt"}


def test_names_of_any_kind_stay_names(tmp_path: Path) -> None:
    run = hostile()
    run.models[2].name = ".."
    for result in run.results:
        result.model = ".." if result.model == "_leading" else result.model
    board = merge_runs([("<run>", run)])
    written = write_leaderboard(board, tmp_path / "out", "owner/name")
    assert all(path.resolve().is_relative_to(tmp_path / "out") for path in written)
    page = Page((tmp_path / "out" / "index.html").read_text())
    assert page.problems == []
    assert "script" not in page.tags
