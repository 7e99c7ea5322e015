"""How near `arch tune` comes to exhaustive search, and in how many of its runs.

Both search the same grid of 48 configurations of a small HuBERT (random weights, made here) on this machine: 2
precisions, 2 largest batches, 2 x 2 instances and threads, 3 queue delays. The exhaustive search measures every one to
the end, in an order of its own; the tuner is the one of `arch tune`, with measurements of its own. Then the winners of
both are measured again in turns, each `--repeats` times with runs of the longest kind: the regret is of these.

    python benchmarks/tune.py --output /tmp/tune-benchmark

With the defaults about 11 minutes on 2 cores, of which the exhaustive search takes 7 to 8; run it on an idle machine.
What was interrupted goes on with the same command. `--run-seconds 0.1 --batches 8 --delays 0` is a quick try.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from arch_bench import api
from arch_bench.tuning.forms import FormModel, model_in
from arch_bench.tuning.speed import Scene, SpeedMeter
from arch_export.checkpoint.random_weights import write_random_hubert
from arch_export.serving import parse_delay
from arch_harness.datasets.catalog.demo import write_demo
from arch_harness.datasets.registry import open_dataset
from arch_harness.load.asked import parse_slo
from arch_harness.load.search import Observation, crossing
from arch_harness.load.sending.client import decoded
from arch_harness.measuring.machine import describe_machine
from arch_harness.tuning.choosing import finished
from arch_harness.tuning.halving import FULL, RUNGS, Speed, halve
from arch_harness.tuning.journal import Journal
from arch_harness.tuning.report import fits_memory
from arch_harness.tuning.results import TuneSettings
from arch_harness.tuning.space import Configuration, Form, Space, workers_of

LAST = len(RUNGS) - 1
ANY = fits_memory(None)


class Timed:
    """A meter, and the time that it takes with all around it."""

    def __init__(self, meter: Callable[[Configuration, int], Speed]) -> None:
        self._meter = meter
        self.seconds = 0.0

    def __call__(self, one: Configuration, rung: int) -> Speed:
        """As `halving.Measure`."""
        began = time.monotonic()
        found = self._meter(one, rung)
        self.seconds += time.monotonic() - began
        return found


def main() -> None:
    """Search in both ways, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("tune-benchmark"))
    parser.add_argument("--slo", default="p99=100ms")
    parser.add_argument(
        "--run-seconds", type=float, default=0.18, help="of the shortest runs; the longest take 4 times"
    )
    parser.add_argument("--precisions", default="fp32,int8")
    parser.add_argument("--batches", default="4,16")
    parser.add_argument("--delays", default="0,2ms,5ms")
    parser.add_argument("--repeats", type=int, default=3, help="of both winners in the end")
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    output: Path = asked.output
    checkpoint = write_random_hubert(output / "checkpoint" / "hubert-small-random")
    models: dict[Form, FormModel] = {}
    for precision in asked.precisions.split(","):
        name = f"hubert-{precision}"
        if model_in(output / "models" / name) is None:
            api.export(checkpoint, output / "models", name=name, precision=precision)
        exported = model_in(output / "models" / name)
        assert exported is not None  # noqa: S101
        models[Form(precision)] = exported
    dataset = open_dataset(f"demo={write_demo(output / 'demo')}", Path())
    machine = describe_machine()
    space = Space(
        list(models),
        [int(one) for one in asked.batches.split(",")],
        workers_of(machine.cores, (1, machine.cores), (1, machine.cores)),
        [parse_delay(one) for one in asked.delays.split(",")],
    )
    grid = space.configurations(form for form, model in models.items() if not model.batched)
    slo = parse_slo(asked.slo)
    settings = TuneSettings(
        model="hubert-small-random",
        source="",
        dataset="demo",
        listing=dataset.listing,
        share=slo.share,
        milliseconds=slo.milliseconds,
        run_seconds=asked.run_seconds,
        clips=asked.clips,
        seed=asked.seed,
        cpu=machine.cpu,
        cores=machine.cores,
    )
    print(f"{len(grid)} configurations, {slo}, shortest runs of {asked.run_seconds:g} s; {machine.cpu}", flush=True)
    with ExitStack() as stack:
        clips = stack.enter_context(decoded(dataset, 16000, asked.clips, asked.seed, print))

        def meter(kind: str, seed: int) -> Timed:
            scene = Scene(slo, clips, models, output / "served", machine.cores, seed)
            return Timed(SpeedMeter(scene, Journal(output / kind, settings), asked.run_seconds, 1e9, print))

        searches: dict[str, tuple[dict[Configuration, Speed], float]] = {}
        exhaustive = meter("exhaustive", asked.seed + 10_000)
        order = np.random.default_rng(asked.seed + 1).permutation(len(grid))
        searches["exhaustive"] = {grid[place]: exhaustive(grid[place], LAST) for place in order}, exhaustive.seconds
        tuner = meter("tuner", asked.seed + 20_000)
        searches["tuner"] = halve(grid, tuner, ANY, lambda _: 0.0, asked.seed), tuner.seconds
        best = {}
        for name, (found, wall) in searches.items():
            ranked = finished(found, ANY)
            if not ranked:
                raise SystemExit(f"{name}: no configuration keeps {slo}")
            best[name] = ranked[0]
            told, load = found[ranked[0]], sum(one.seconds for one in found.values())
            runs = sum(len(one.runs) for one in found.values())
            print(
                f"{name}: {ranked[0].key} with {told.rate:.1f} clips/s ({told.low:.1f}–{told.high:.1f}); {runs} runs, "
                f"{load:.0f} s of load; {wall:.0f} s with all around it in this command",
                flush=True,
            )
        again: dict[Configuration, list[Observation]] = {one: [] for one in best.values()}
        for repeat in range(asked.repeats):
            turn = meter(f"again-{repeat}", asked.seed + 30_000 + 1_000 * repeat)
            for one in again:
                last = [run for run in turn(one, LAST).runs if run.rung == LAST]
                again[one] += [Observation(run.rate, run.over, run.answers) for run in last]
    rates = {one: crossing(runs, 1 - slo.share) for one, runs in again.items()}
    compare(searches, best, rates, len(grid), asked.run_seconds)


def compare(
    searches: dict[str, tuple[dict[Configuration, Speed], float]],
    best: dict[str, Configuration],
    rates: dict[Configuration, float],
    count: int,
    run_seconds: float,
) -> None:
    """Print the regret and the share of the runs."""
    load = {name: sum(one.seconds for one in found.values()) for name, (found, _) in searches.items()}
    whole = sum(one.rung == LAST for one in searches["tuner"][0].values())
    print(f"to the end the tuner measured {whole} of {count}, each {FULL * run_seconds:.1f} s of load at least")
    for name, one in best.items():
        print(f"measured again: {name}'s {one.key} {rates[one]:.1f} clips/s")
    regret = 1 - rates[best["tuner"]] / rates[best["exhaustive"]]
    share = load["tuner"] / load["exhaustive"]
    print(f"regret {100 * regret:.1f} % (wanted: at most 5), with {100 * share:.1f} % of the load (at most 25)")


if __name__ == "__main__":
    main()
