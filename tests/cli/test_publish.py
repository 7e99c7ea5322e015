"""`arch publish` as its users run it."""

from __future__ import annotations

from pathlib import Path

import arch_bench
import pytest
from support.commands import arch, one_line
from support.decisions import right, write_folder


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    folders = [tmp_path / name for name in ("first", "second")]
    for folder, model in zip(folders, ("hubert", "wav2vec2"), strict=True):
        write_folder(folder, {(model, "esc50"): right(2000, 0.9)})
    return folders


@pytest.mark.slow
def test_runs_are_published_and_what_is_in_doubt_is_told(runs: list[Path], tmp_path: Path) -> None:
    write_folder(runs[1], {("wav2vec2", "esc50"): right(2000, 0.9)}, failed={"esc50": ["a.wav"]})
    output = tmp_path / "board"
    done = arch("publish", str(runs[0]), str(runs[1] / "results.json"), str(runs[0]), "--output", str(output))
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"leaderboard: {output}/index.html\n"
    assert done.stderr == "wav2vec2 on esc50 is marked, and in no .eval_results: 1 of 2,000 clips failed\n"
    assert sorted(path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()) == [
        "index.html",
        "leaderboard.csv",
        "leaderboard.json",
        "models/hubert/.eval_results/arch.yaml",
        "models/hubert/README.md",
        "models/wav2vec2/README.md",
    ]
    done = arch("publish", str(tmp_path / "nothing"), "--output", str(output))
    assert done.returncode == 2
    assert one_line(done) == f"arch: {tmp_path}/nothing holds no results.json; name a folder that arch bench wrote"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"benchmark": "esc50"}, "--benchmark 'esc50' is no repository on the Hugging Face Hub: wants OWNER/NAME"),
        ({"source": "here"}, "--source 'here' is no address"),
        ({"output": __file__}, "is a file, and must be a folder"),
    ],
)
def test_what_cannot_be_is_told(runs: list[Path], tmp_path: Path, asked: dict[str, str], message: str) -> None:
    with pytest.raises(arch_bench.UsageError, match=message):
        arch_bench.publish(*runs, **{"output": tmp_path / "board", **asked})  # type: ignore[arg-type]
    assert not (tmp_path / "board").exists()
    with pytest.raises(arch_bench.UsageError, match="name one run or more"):
        arch_bench.publish()
