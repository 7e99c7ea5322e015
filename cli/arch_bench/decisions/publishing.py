"""Runs published together: a leaderboard, and each model's scores for the Hugging Face Hub."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from arch_common.errors import UsageError
from arch_common.files import check_folder

from arch_bench.decisions.comparing import loaded
from arch_bench.extras import needs
from arch_bench.loaded import LoadedRun

if TYPE_CHECKING:
    from arch_harness.decision.leaderboard.merge import Leaderboard

BENCHMARK = "arch-bench/arch"
LEADERBOARD = Path("leaderboard")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_ADDRESS = re.compile(r"https?://[^\s/]+\S*")


@dataclass(frozen=True)
class Published:
    """What was published.

    Attributes:
        board: what stands on the leaderboard, and what is left out.
        files: that were written, the page first.
    """

    board: Leaderboard
    files: list[Path]

    @property
    def page(self) -> Path:
        """The leaderboard to read."""
        return self.files[0]

    @property
    def notes(self) -> list[str]:
        """What does not stand there, or not as a whole score, a line each."""
        doubtful = [
            f"{one.result.model} on {one.result.dataset} is marked, and in no .eval_results: {'; '.join(one.doubts)}"
            for one in self.board.standings
            if one.doubts
        ]
        return [*(f"left out: {one.line()}" for one in self.board.left_out), *doubtful, *self.board.remarks]


def publish(
    *runs: str | Path | LoadedRun,
    output: str | Path = LEADERBOARD,
    benchmark: str = BENCHMARK,
    source: str | None = None,
) -> Published:
    """Merge the comparable results of runs into a leaderboard, and write it; needs the extra `bench`.

    Args:
        runs: each a run, its folder or its `results.json`.
        output: folder for the page, `leaderboard.json`, `leaderboard.csv`, and a folder for each model.
        benchmark: dataset repository on the Hugging Face Hub that the models' `.eval_results` name, `OWNER/NAME`.
        source: address that they give as their source.

    Raises:
        UsageError: if there is no such run, or the benchmark, the address or the folder cannot be right.
        ArchError: if no run has a result, or a file cannot be read or written.
    """
    if not runs:
        raise UsageError("name one run or more")
    if not _REPOSITORY.fullmatch(benchmark):
        raise UsageError(f"--benchmark {benchmark!r} is no repository on the Hugging Face Hub: wants OWNER/NAME")
    if source is not None and not _ADDRESS.fullmatch(source):
        raise UsageError(f"--source {source!r} is no address: wants https://…")
    check_folder(Path(output), "--output")
    found = {one.folder.resolve(): one for one in (loaded(one, None) for one in runs)}
    with needs("bench"):
        from arch_harness.decision.leaderboard.files import write_leaderboard
        from arch_harness.decision.leaderboard.merge import merge_runs
    board = merge_runs([(str(one.folder), one.run) for one in found.values()])
    return Published(board, write_leaderboard(board, Path(output), benchmark, source))
