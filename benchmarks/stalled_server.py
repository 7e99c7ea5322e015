"""What a closed loop leaves out: a server that stands still for 2 s, seen by an open loop and by a closed one.

The processes of a real Triton are stopped (SIGSTOP) for 2 s of each run. The open loop's clips are due all the same and
wait; the closed loop's one client waits too, and sends nothing that could be late: coordinated omission.

    python benchmarks/stalled_server.py --repository model_repository --drawing docs/load-stall.svg
"""

from __future__ import annotations

import argparse
import signal
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
from arch_harness.datasets.catalog.demo import write_demo
from arch_harness.datasets.registry import open_dataset
from arch_harness.load.asked import LoadRequest, Slo
from arch_harness.load.measure import LoadTarget, LoadTest, job_of
from arch_harness.load.report import LoadRun
from arch_harness.load.sending.client import Driver, decoded
from arch_harness.report.plots.style import styled
from arch_harness.report.plots.svg import as_svg
from arch_harness.triton.endpoint import Endpoint
from arch_harness.triton.server import Server
from arch_serve.server import LocalServer
from matplotlib.figure import Figure

STALL_S = 2.0
_LENGTH_S = 10.0
_NAMES = ("p50_ms", "p90_ms", "p95_ms", "p99_ms")


def stall(after_s: float) -> None:
    """Stop the Triton that this process has started, with all of its processes, for a while."""
    time.sleep(after_s)
    found = [one for one in psutil.Process().children(recursive=True) if one.name().startswith("triton")]
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for one in found:
            one.send_signal(number)
        if number == signal.SIGSTOP:
            time.sleep(STALL_S)


def measure(test: LoadTest, target: LoadTarget, rate: float) -> tuple[LoadRun, LoadRun]:
    """An open loop at a rate and a closed one, each with a stall in its middle."""
    found = []
    for opened in (True, False):
        thread = threading.Thread(target=stall, args=(_LENGTH_S / 2,))
        thread.start()
        if opened:
            found.append(test.at_rate(target, rate, "curve"))
        else:
            settings = {"min_duration_ms": round(1e3 * _LENGTH_S), "min_query_count": 10}
            found.append(test.run_once(target, "single-stream", settings, None, "measured"))
        thread.join()
    return found[0], found[1]


def draw(opened: LoadRun, closed: LoadRun, rate: float) -> str:
    """The percentiles of both, as SVG."""
    with styled():
        figure = Figure(figsize=(5.2, 3.4), layout="constrained")
        axes = figure.add_subplot()
        for run, colour, name in (
            (opened, "#0072B2", f"open loop, {rate:g} clips/s: {opened.queries:,} clips"),
            (closed, "#D55E00", f"closed loop, one client: {closed.queries:,} clips"),
        ):
            values = [getattr(run, one) for one in _NAMES]
            axes.plot(range(len(_NAMES)), values, marker="o", color=colour, label=name)
            for place, value in enumerate(values):
                axes.annotate(f"{value:,.0f}", (place, value), (0, 7), textcoords="offset points", ha="center", size=8)
        axes.set_xticks(range(len(_NAMES)), [one.removesuffix("_ms") for one in _NAMES])
        axes.set(yscale="log", ylim=(1, 6000), ylabel="Latency (ms)")
        axes.legend(loc="upper left")
        figure.suptitle(f"A server that stands still for {STALL_S:g} s of {_LENGTH_S:g}", x=0.02, ha="left")
        return as_svg(figure)


def main() -> None:
    """Print both, and draw them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--model", default="logmel")
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--drawing", type=Path, default=Path("load-stall.svg"))
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_demo(folder / "demo", clips_per_class=5)
        server = LocalServer(options.repository, [options.model], grpc_port=0, http_port=0, metrics_port=0)
        endpoint = Endpoint(stack.enter_context(server).grpc_url)
        running = stack.enter_context(Server(endpoint))
        clips = stack.enter_context(decoded(open_dataset(f"demo={folder / 'demo'}", folder), 16000, 50, 0, print))
        asked = LoadRequest(slo=Slo(0.99, 200), rates=(options.rate,), min_duration_s=_LENGTH_S)
        job = job_of(running.models([options.model])[0])
        driver = stack.enter_context(Driver([endpoint], job, clips))
        target = LoadTarget(driver, [running], options.model, 1)
        opened, closed = measure(LoadTest(asked, clips, folder, print), target, options.rate)
    for name, run in (("open", opened), ("closed", closed)):
        print(name, run.queries, *(f"{one} {getattr(run, one):.1f}" for one in _NAMES))
    options.drawing.write_text(draw(opened, closed, options.rate), encoding="utf-8")


if __name__ == "__main__":
    main()
