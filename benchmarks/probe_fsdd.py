"""All four probes on the Free Spoken Digit Dataset with the log-mel floor: accuracy, interval, and every fold.

    python benchmarks/probe_fsdd.py --data FOLDER

FOLDER holds the recordings in AudioMNIST's layout, data/<speaker>/<digit>_<speaker>_<take>.wav, with AudioMNIST's
speaker ids; each fold leaves some of the speakers out. The encoder is exported, served by a real Triton and benched by
the commands that a user gives.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from arch_harness.results.run import RESULTS, read_run
from rich.console import Console
from rich.table import Table

PROBES = ("linear", "logreg", "knn", "mlp")


def arch(*arguments: str) -> None:
    """Run a command of arch, which says on stderr what it does."""
    subprocess.run([sys.executable, "-m", "arch_bench", *arguments], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """Print a row for each fold and their mean, and a column for each probe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models, output = f"{folder}/models", f"{folder}/out"
        arch("export", "logmel", "--repository", models)
        probes = [argument for name in PROBES for argument in ("--probe", name)]
        dataset = f"audio_mnist={options.data}"
        arch(
            *("bench", "--dataset", dataset, "--repository", models, "--output", output),
            *("--seeds", str(options.seeds), *probes),
        )
        (result,) = read_run(Path(output) / RESULTS).results
    table = Table("fold", "train", "test", title=f"{result.clips:,} clips, accuracy in %, chance {result.chance:.1%}")
    for one in result.probes:
        table.add_column(one.probe, justify="right", no_wrap=True)
    for index, fold in enumerate(result.folds):
        scores = [f"{100 * one.folds[index].score:.1f}" for one in result.probes]
        table.add_row(fold.fold, f"{fold.train:,}", f"{fold.test:,}", *scores)
    table.add_section()
    table.add_row("mean", "", "", *(f"{100 * one.score:.1f}" for one in result.probes))
    intervals = [f"{100 * one.interval.low:.1f}–{100 * one.interval.high:.1f}" for one in result.probes]
    table.add_row("95 % interval", "", "", *intervals)
    table.add_row("± seeds", "", "", *("–" if one.std is None else f"{100 * one.std:.1f}" for one in result.probes))
    table.add_row("seconds", "", "", *(f"{one.seconds:.1f}" for one in result.probes))
    table.add_row("trained on", "", "", *(one.trained_on for one in result.probes))
    Console().print(table)


if __name__ == "__main__":
    main()
