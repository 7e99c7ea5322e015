"""The highest rate that `arch load` searches, beside a fine sweep of rates, on a real Triton; perf_analyzer too.

    python benchmarks/load_sweep.py --model model_repository/logmel --perf-analyzer perf_analyzer

Sweeps and searches take turns, so that what changes on the machine changes for both: a search, a sweep up, two
searches, a sweep down, and so on. The limit of the sweeps is fitted to the runs of all of them, as a search fits its
own few.
perf_analyzer sends at 60 % of that, at random moments too, the one clip that it can; ours in turns with it.
"""

from __future__ import annotations

import argparse
import base64
import csv
import json
import math
import shutil
import statistics
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from arch_harness.datasets.catalog.demo import write_demo
from arch_harness.datasets.registry import open_dataset
from arch_harness.load.asked import LoadRequest, parse_slo
from arch_harness.load.measure import ALLOWED, LoadTarget, LoadTest, job_of
from arch_harness.load.report import Ceiling
from arch_harness.load.search import Observation, fitted
from arch_harness.load.sending.client import Clips, Driver, decoded
from arch_harness.triton.endpoint import Endpoint
from arch_harness.triton.server import Server
from arch_serve.server import LocalServer
from rich.console import Console
from rich.table import Table

_STEP, _STEPS = 1.03, 6  # 3 %, six to each side
_SHARE = 0.6


def perf_analyzer(
    binary: str, endpoint: Endpoint, model: str, rate: float, seconds: float, folder: Path
) -> list[float]:
    """Median and 99th percentile of its latencies, ms, of clips at random moments."""
    clip = np.fromfile(folder / "clip.f32", dtype=np.float32)
    entry = {
        "waveform": {"b64": base64.b64encode(clip.tobytes()).decode(), "shape": [len(clip)]},
        "num_samples": {"content": [len(clip)], "shape": [1]},
    }
    data, report = folder / "clip.json", folder / "rates.csv"
    data.write_text(json.dumps({"data": [entry]}))
    report.unlink(missing_ok=True)
    command = [
        binary,
        "-m",
        model,
        "-u",
        endpoint.address,
        "-i",
        "grpc",
        "--async",
        "-b",
        "1",
        "--input-data",
        str(data),
    ]
    command += ["--shape", f"waveform:{len(clip)}", "--request-rate-range", f"{rate:g}"]
    command += ["--request-distribution", "poisson", "--measurement-mode", "time_windows", "-r", "3", "-s", "999"]
    command += ["--measurement-interval", str(round(1e3 * seconds / 3)), "--percentile", "99", "-f", str(report)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not report.exists():
        raise SystemExit(f"{binary} failed: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    (row,) = csv.DictReader(report.read_text().splitlines())
    return [float(row["p50 latency"]) / 1e3, float(row["p99 latency"]) / 1e3]


def one_clip(clips: Clips, folder: Path) -> Clips:
    """The longest of the clips alone, in a file of its own."""
    starts = np.cumsum([0, *clips.lengths])
    longest = int(np.argmax(clips.lengths))
    samples = np.fromfile(clips.file, dtype=np.float32)[starts[longest] : starts[longest + 1]]
    samples.tofile(folder / "clip.f32")
    return Clips(folder / "clip.f32", [len(samples)], clips.sample_rate, 0)


def main() -> None:
    """Print each search beside the sweeps' limit, and both clients' latencies at one rate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("model_repository/logmel"), help="its folder")
    parser.add_argument("--slo", default="p99=200ms")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--run", type=float, default=10.0, help="seconds of a run")
    parser.add_argument("--dataset", help="ID=PATH; by default the demo's clips")
    parser.add_argument("--perf-analyzer", help="the executable; without it that part is left out")
    parser.add_argument("--rounds", type=int, default=5, help="of that part")
    options = parser.parse_args()
    console, slo = Console(highlight=False), parse_slo(options.slo)
    name = options.model.name
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if options.dataset is None:
            write_demo(folder / "demo")
        served = LocalServer(options.model.parent, [name], grpc_port=0, http_port=0, metrics_port=0)
        endpoint = Endpoint(stack.enter_context(served).grpc_url)
        running = stack.enter_context(Server(endpoint))
        dataset = open_dataset(options.dataset or f"demo={folder / 'demo'}", folder)
        clips = stack.enter_context(decoded(dataset, 16000, 256, 0, print))
        (facts,) = running.models([name])

        def test_of(seed: int, own: Clips = clips) -> LoadTest:
            asked = LoadRequest(slo=slo, min_duration_s=options.run, min_queries=1, seed=1000 * seed)
            return LoadTest(asked, own, folder / f"{seed}", lambda _: None)

        def search(seed: int) -> tuple[float, float, float]:
            unknown = Ceiling(clips_per_s=None, where="not measured", allowed=ALLOWED)
            found = test_of(seed).model(facts, [endpoint], [running], unknown).sustained
            if found is None:
                raise SystemExit("nothing was searched")
            return found.rate, found.low, found.high

        swept: list[Observation] = []
        found = [search(1)]
        rates = [found[0][0] * _STEP**step for step in range(-_STEPS, _STEPS + 1)]

        def sweep(number: int) -> None:
            with Driver([endpoint], job_of(facts), clips) as driver:
                target = LoadTarget(driver, [running], name, 1)
                test = test_of(100 + number)
                test.warm(target)
                for rate in rates if number % 4 == 1 else reversed(rates):
                    run = test.at_rate(target, rate, "curve")
                    swept.append(Observation(rate, run.over, run.queries))

        for seed in range(1, options.seeds + 1):
            if seed > 1:
                found.append(search(seed))
            console.print(f"search {seed}: {found[-1][0]:.1f} clips/s ({found[-1][1]:.1f}-{found[-1][2]:.1f})")
            if seed % 2:
                sweep(seed)
        limit, low, high = fitted(swept, 1 - slo.share)
        table = Table("search", "clips/s", "interval", "of the sweeps' limit", title=f"{name}, {slo}")
        for seed, (rate, least, most) in enumerate(found, 1):
            table.add_row(str(seed), f"{rate:.1f}", f"{least:.1f}-{most:.1f}", f"{rate / limit:.3f}")
        within = sum(abs(rate / limit - 1) <= 0.05 for rate, _, _ in found)
        console.print(table)
        console.print(
            f"{len(swept) // len(rates)} sweeps of {len(rates)} rates, {options.run:g} s each: {limit:.1f} clips/s "
            f"({low:.1f}-{high:.1f}); within 5 %: {within} of {len(found)}"
        )
        binary = shutil.which(options.perf_analyzer) if options.perf_analyzer else None
        if binary is None:
            console.print("perf_analyzer: left out, it is not there" if options.perf_analyzer else "")
            return
        rate = math.floor(_SHARE * limit)
        own = one_clip(clips, folder)
        ours, theirs = [], []
        with Driver([endpoint], job_of(facts), own) as driver:
            target, test = LoadTarget(driver, [running], name, 1), test_of(0, own)
            test.warm(target)
            for _ in range(options.rounds):
                run = test.at_rate(target, rate, "curve")
                ours.append([run.p50_ms or math.inf, run.p99_ms or math.inf])
                theirs.append(perf_analyzer(binary, endpoint, name, rate, options.run, folder))
        for place, which in enumerate(("p50", "p99")):
            mine, peer = ([row[place] for row in rows] for rows in (ours, theirs))
            console.print(
                f"{which} at {rate:g} clips/s of {own.seconds[0]:.1f} s: ours {statistics.median(mine):.2f} ms "
                f"({min(mine):.2f}-{max(mine):.2f}), perf_analyzer {statistics.median(peer):.2f} ms "
                f"({min(peer):.2f}-{max(peer):.2f}), ratio {statistics.median(mine) / statistics.median(peer):.3f}"
            )


if __name__ == "__main__":
    main()
