"""How often `arch gate` alarms where nothing has changed, and how often it catches what was planted.

python benchmarks/gate_alarms.py --runs 40

Runs are simulated and written as `arch bench` writes them, then gated with `--max-drop 1pt --min-speed 0.95`. A clip
has a margin that all runs share, and is labelled correctly where that and what a run adds to it are above 0: noise of
each clip, as rounding in another batch brings, and a shift of each class, as another seed of the probe brings, so that
clips change together. The speeds of a run share a drift, and each measurement has noise of its own.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np
from arch_harness.decision.compare import RunFolder
from arch_harness.decision.gate import run_gate
from arch_harness.decision.thresholds import Thresholds
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.decisions import write_folder

THRESHOLDS = Thresholds(max_drop=0.01, min_speed=0.95)
_CLASSES = 50


@dataclass(frozen=True)
class Scene:
    """What a simulated run is like.

    Attributes:
        models: in it.
        datasets: each with that many clips.
        clips: of a dataset.
        folds: of a dataset; one has fewer ways to be wrong, and its intervals are narrower.
        repeats: how often the speed is measured.
        clip_noise: of a clip's margin from run to run, whose spread over clips is 1.
        class_noise: of all margins of a class, from run to run and seed to seed.
        drift: of all speeds of a run, as a share.
        jitter: of one measurement of a speed, as a share.
    """

    models: int = 2
    datasets: int = 2
    clips: int = 2000
    folds: int = 5
    repeats: int = 3
    clip_noise: float = 0.1
    class_noise: float = 0.05
    drift: float = 0.01
    jitter: float = 0.01

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Every model on every dataset."""
        return [(f"model-{one}", f"dataset-{two}") for two in range(self.datasets) for one in range(self.models)]


def margins(
    scene: Scene, random: np.random.Generator, accuracy: float = 0.85
) -> dict[tuple[str, str], NDArray[np.float64]]:
    """FP64 [clips] of each pair: what all runs share."""
    centre = NormalDist().inv_cdf(accuracy)
    return {pair: centre + random.standard_normal(scene.clips) for pair in scene.pairs}


def simulate(
    folder: Path,
    scene: Scene,
    shared: dict[tuple[str, str], NDArray[np.float64]],
    random: np.random.Generator,
    drop: float = 0.0,
    slowdown: float = 0.0,
) -> RunFolder:
    """Write a run.

    Args:
        folder: for it.
        scene: what it is like.
        shared: the margins of its clips.
        random: what it adds to them.
        drop: of the first pair's score, a share.
        slowdown: of all pairs, a share.
    """
    values = {}
    for place, (pair, margin) in enumerate(shared.items()):
        if drop and place == 0:
            # As many clips as that fall below 0.
            margin = margin - np.sort(margin[margin > 0])[round(drop * len(margin))]
        of_run = margin + scene.clip_noise * random.standard_normal(len(margin))
        classes = np.arange(len(margin)) % _CLASSES
        shifts = scene.class_noise * random.standard_normal((3, _CLASSES))
        values[pair] = (of_run + shifts[:, classes] > 0).mean(axis=0).astype(np.float32)
    level = 100 * (1 - slowdown) * np.exp(scene.drift * random.standard_normal())
    speeds = level * np.exp(scene.jitter * random.standard_normal(scene.repeats))
    return RunFolder(folder, write_folder(folder, values, [float(one) for one in speeds], folds=scene.folds), folder)


def gated(scene: Scene, seed: int, drop: float = 0.0, slowdown: float = 0.0) -> Counter[tuple[str, str]]:
    """How many checks of a rule had which verdict, of a run that is gated against another one."""
    random = np.random.default_rng(seed)
    shared = margins(scene, random)
    with tempfile.TemporaryDirectory() as name:
        before = simulate(Path(name) / "before", scene, shared, random)
        after = simulate(Path(name) / "after", scene, shared, random, drop, slowdown)
        result = run_gate(after, before, THRESHOLDS)
    return Counter((check.rule.split()[0], check.verdict) for check in result.checks)


def alarms(scene: Scene, runs: int, drop: float = 0.0, slowdown: float = 0.0) -> dict[str, int]:
    """In how many of so many gates each rule failed, and `any` of them."""
    found: Counter[str] = Counter()
    for seed in range(runs):
        failed = {rule for rule, verdict in gated(scene, seed, drop, slowdown) if verdict == "FAIL"}
        found.update(failed | ({"any"} if failed else set()))
    return {name: found[name] for name in ("any", "max-drop", "min-speed")}


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=40, help="gates of each kind")
    options = parser.parse_args()
    title = "gates of 40 that failed, by rule".replace("40", str(options.runs))
    table = Table(
        "models x datasets",
        "clips",
        "folds",
        "measured",
        "nothing changed",
        "2 points less",
        "10 % slower",
        title=title,
    )
    scenes = [Scene(clips=clips) for clips in (1000, 2000, 4000)]
    scenes += [Scene(clips=500, folds=1, repeats=2), Scene(folds=1, repeats=5), Scene(models=8, repeats=5)]
    for scene in scenes:
        same = alarms(scene, options.runs)["any"]
        planted = alarms(scene, options.runs, drop=0.02, slowdown=0.1)
        table.add_row(
            f"{scene.models} x {scene.datasets}",
            f"{scene.clips:,}",
            str(scene.folds),
            f"{scene.repeats} times",
            *(str(count) for count in (same, planted["max-drop"], planted["min-speed"])),
        )
    Console().print(table)


if __name__ == "__main__":
    main()
