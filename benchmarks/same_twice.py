"""An A/A test: one model under two names in one run, again and again; how often a figure of the speed is called real.

python benchmarks/same_twice.py --model model_repository/logmel --runs 20
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import arch_bench
from arch_harness.datasets.catalog.demo import write_demo
from arch_harness.results.repeats import SPEED_FIGURES, SpeedDifference, difference_of
from rich.console import Console
from rich.table import Table
from streaming import copy_as

NAMES = ("first", "second")


def one_run(folder: Path, dataset: Path, repeat: int) -> dict[str, SpeedDifference]:
    """How the two differ, figure by figure."""
    run = arch_bench.bench(
        f"demo={dataset}",
        models=NAMES,
        repository=folder / "repository",
        output=folder / f"report-{time.monotonic_ns()}",
        cache=folder / "cache",
        recompute=True,
        repeat=repeat,
        seeds=1,
    )
    first, second = (run.run.results[[one.model for one in run.run.results].index(name)].measurement for name in NAMES)
    if first is None or second is None:
        raise SystemExit("nothing was measured")
    found = {figure: difference_of(first, second, figure) for figure in SPEED_FIGURES}
    return {figure: one for figure, one in found.items() if one is not None}


def main() -> None:
    """Print a line for each run, and how often each figure was called real."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("model_repository/logmel"), help="its folder")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--repeat", type=int, default=4, help="the first has too few clips to count")
    options = parser.parse_args()
    console = Console()
    runs: list[dict[str, SpeedDifference]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for served in NAMES:
            copy_as(options.model, folder / "repository", served)
        dataset = write_demo(folder / "demo")
        for number in range(options.runs):
            runs.append(one_run(folder, dataset, options.repeat))
            real = [f"{figure} {one.ratio:.3f}" for figure, one in runs[-1].items() if one.verdict == "real"]
            console.print(f"run {number + 1}: {', '.join(real) or 'no more than noise'} of {len(runs[-1])} figures")
    table = Table("figure", "runs", "real", "largest ratio", "widest interval", title=f"{options.model.name} twice")
    for figure in SPEED_FIGURES:
        found = [one[figure] for one in runs if figure in one]
        if found:
            largest = max(max(one.ratio, 1 / one.ratio) for one in found)
            widest = max(one.high / one.low for one in found) ** 0.5
            count = sum(one.verdict == "real" for one in found)
            table.add_row(figure, str(len(found)), str(count), f"{largest:.3f}", f"± {100 * (widest - 1):.0f} %")
    console.print(table)
    noise = sum(all(one.verdict == "noise" for one in run.values()) for run in runs)
    console.print(f"no more than noise in every figure: {noise} of {len(runs)} runs")


if __name__ == "__main__":
    main()
