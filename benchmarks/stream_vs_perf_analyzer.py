"""The harness, which reads files from disk, against NVIDIA's perf_analyzer, which sends the same clip from memory.

Both drive the same Triton on this machine with single-clip requests of 5 s. perf_analyzer is measured at several
concurrencies first; the harness finds its own in a first pass over the files. Then they take turns: the harness, and
perf_analyzer with as many in flight as the harness has, and with its own best number. Throughputs are without start and
end: perf_analyzer's is its own figure over three windows, the harness's that of its measured phase, reading and
decoding included.

    python benchmarks/stream_vs_perf_analyzer.py --model hubert-base --model logmel
"""

from __future__ import annotations

import argparse
import base64
import csv
import json
import os
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

from arch_harness.streaming.pool import WorkerPool
from arch_harness.triton.endpoint import Endpoint
from rich.console import Console
from rich.table import Table
from streaming import SAMPLES, embed, in_memory, measure, triton, write_clips

CLIPS = {"hubert-base": 120, "logmel": 4000}
"""Of a round: less than a minute on 2 cores."""

SEARCHED = 1000
"""Clips of the first pass, those of a usual dataset: the search may take a third of them."""

SWEEP = (1, 2, 4, 8, 16, 32)


def perf_analyzer(binary: str, endpoint: Endpoint, model: str, concurrency: int, requests: int, folder: Path) -> float:
    """Clips/s by its own account, over three windows of a third of the requests each."""
    data, report = folder / "clip.json", folder / "report.csv"
    entry = {
        "waveform": {"b64": base64.b64encode(in_memory()["waveform"].tobytes()).decode(), "shape": [SAMPLES]},
        "num_samples": {"content": [SAMPLES], "shape": [1]},
    }
    data.write_text(json.dumps({"data": [entry]}))
    report.unlink(missing_ok=True)
    command = [binary, "-m", model, "-u", endpoint.address, "-i", "grpc", "--async", "-b", "1"]
    command += ["--input-data", str(data), "--shape", f"waveform:{SAMPLES}", "-f", str(report)]
    command += ["--concurrency-range", str(concurrency), "--measurement-mode", "count_windows"]
    # Every window counts, however much they differ: the machine may do other things, for both sides.
    command += ["--measurement-request-count", str(max(1, requests // 3)), "-s", "999", "-r", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not report.exists():
        raise SystemExit(f"{binary} failed: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    rows = [row for row in csv.DictReader(report.read_text().splitlines()) if row.get("Concurrency", "").isdigit()]
    return float(rows[0]["Inferences/Second"])


def compare(
    console: Console, binary: str, endpoint: Endpoint, model: str, clips: int, rounds: int, workers: int, folder: Path
) -> list[str]:
    """A row of the table: both medians and their ratio."""
    files = write_clips(folder / model, clips)
    swept = {level: perf_analyzer(binary, endpoint, model, level, max(12, clips // 4), folder) for level in SWEEP}
    best = max(swept, key=lambda level: swept[level])
    console.print(f"{model}: perf_analyzer " + ", ".join(f"{speed:.1f} at {level}" for level, speed in swept.items()))
    ours: list[float] = []
    with WorkerPool([endpoint], workers) as pool:
        many = [(index, files[index % clips][1]) for index in range(max(SEARCHED, clips))]
        first = embed(pool, model, folder / model, many)
        console.print(f"{model}: the harness found {first.concurrency} in flight, {first.clips_per_s:.1f} meanwhile")
        theirs: dict[int, list[float]] = {first.concurrency: [], best: []}
        for _ in range(rounds):
            last = measure(pool, model, folder / model, files, first.concurrency)
            ours.append(last.clips_per_s)
            for level, speeds in theirs.items():
                speeds.append(perf_analyzer(binary, endpoint, model, level, clips, folder))
            busy = "–" if last.server is None else f"{100 * last.server.busy_seconds / last.measured_seconds:.1f}"
            found = ", ".join(f"{speeds[-1]:.2f} at {level}" for level, speeds in theirs.items())
            console.print(f"{model}: harness {ours[-1]:.2f} (server busy {busy} %), perf_analyzer {found} clips/s")
    mine, peers = statistics.median(ours), {level: statistics.median(speeds) for level, speeds in theirs.items()}
    return [
        *(model, f"{mine:.1f} ({min(ours):.1f}–{max(ours):.1f})", f"{last.concurrency}"),
        ", ".join(f"{peer:.1f} at {level}" for level, peer in peers.items()),
        ", ".join(f"{mine / peer:.3f}" for peer in peers.values()),
        *(last.bottleneck or "–", busy, last.transport),
    ]


def main() -> None:
    """Print a row for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--perf-analyzer", default="perf_analyzer", help="the executable; by default that on PATH")
    parser.add_argument("--model", action="append", choices=CLIPS, help="by default all; may be repeated")
    parser.add_argument("--clips", type=int, help="of a round; by default what takes a minute on 2 cores")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=max(1, len(os.sched_getaffinity(0)) // 2))
    options = parser.parse_args()
    console = Console(width=130)
    binary = shutil.which(options.perf_analyzer)
    if binary is None:
        console.print(
            f"skipped: there is no {options.perf_analyzer}; pip install perf-analyzer, or --perf-analyzer PATH"
        )
        return
    models = options.model or list(CLIPS)
    table = Table(
        "model", "harness, clips/s", "in flight", "perf_analyzer, at in flight", "ratios", "limit", "server busy %"
    )
    table.add_column("transport")
    with tempfile.TemporaryDirectory() as folder, triton(*models) as endpoint:
        for model in models:
            clips = options.clips or CLIPS[model]
            row = compare(console, binary, endpoint, model, clips, options.rounds, options.workers, Path(folder))
            table.add_row(*row)
    console.print(table)


if __name__ == "__main__":
    main()
