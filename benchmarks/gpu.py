"""Everything about a GPU in one command: its limits, PyTorch and arch's graphs on it, parity, operators, serving.

    python benchmarks/gpu.py prepare FOLDER      # on a machine that can export; a few MB, to be taken to the other
    python benchmarks/gpu.py run FOLDER          # on the machine with the GPU, whose PyTorch need not be the pinned one

The weights are random, so nothing is downloaded. `run` makes them anew (see gpu_models.py), measures in the order of
what matters most until its minutes are over, and says what it left out. Engines take turns within each round and the
medians count. Rows are also written to --out as JSON lines the moment they are known. With `prepare --tiny` and
`run --device cpu` all of it is rehearsed without a GPU.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gpu_models
from arch_common.session import usable_cores
from gpu_tables import CAPTURED, measured_rates, named, operator_tables, served_line
from rich.console import Console

SECTIONS = ("limits", "torch", "inprocess", "operators", "parity", "families", "triton")
BATCHES = (1, 2, 4, 8, 16, 32, 64)
EAGER = "torch eager"
# Measured at every shape, the others at those of `_FEW`.
_OFTEN = ("fp16", "bf16", EAGER)
_FIRST = [(10, 16), (10, 32)]
_FEW = [*_FIRST, (10, 1), (5, 32)]
_CPU_BATCHES = (1, 2)
# Seconds that an engine is measured for at a shape, and what it takes before.
_MEASURE_S, _WARM_S = 0.8, 0.7
_SERVED_S = 12


@dataclass(frozen=True)
class Task:
    """A piece of work that is done if there is time for it.

    Attributes:
        section: what `--only` names; empty where only what was asked for is in it.
        title: for the list of what was left out.
        part: of it.
        needs_s: seconds that it takes, about.
        work: does it.
    """

    section: str
    title: str
    part: str
    needs_s: float
    work: Callable[[], None]


class Run:
    """What was asked for, what is open, and what was measured."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.started = time.perf_counter()
        self.folder: Path = asked.folder
        self.device: str = asked.device
        self.server: str | None = asked.server
        self.only: list[str] = asked.only
        self.minutes: float = asked.minutes
        self.console = Console(width=130, highlight=False, color_system=None)
        self.file = asked.out.open("w") if asked.out else None
        self.skeletons = {one.name: one for one in gpu_models.load(self.folder)}
        self.sizes = [one for one in asked.models if any(each.size == one for each in self.skeletons.values())]
        self.limits: dict[str, float] = {}
        # (size, engine, seconds, batch) -> clips/s, or why there are none.
        self.rates: dict[tuple[str, str, int, int], float | str] = {}
        self._open: dict[str, Any] = {}
        self._of = ""

    def left(self) -> float:
        """Seconds."""
        return 60 * self.minutes - (time.perf_counter() - self.started)

    def say(self, text: str) -> None:
        """Print a line, with the time since the start."""
        self.console.print(f"[{time.perf_counter() - self.started:5.0f} s] {text}", markup=False, soft_wrap=True)

    def row(self, section: str, text: str, **values: Any) -> None:
        """Keep a result: in the file at once, and as a line."""
        if self.file:
            print(json.dumps({"section": section, **values}), file=self.file, flush=True)
        self.say(text)

    def of(self, size: str) -> dict[str, gpu_models.Skeleton]:
        """The variants of base or large."""
        found = {one.variant: one for one in self.skeletons.values() if one.size == size}
        return {variant: found[variant] for variant in gpu_models.VARIANTS if variant in found}

    def close(self) -> None:
        """Let go of all that is open."""
        from gpu_engines import release

        self._open.clear()
        release()

    def _opened(self, size: str, engine: str) -> Any:
        from gpu_engines import TorchModel, open_graph

        if self._of != size:
            self.close()
            self._of = size
        if engine not in self._open:
            variants = self.of(size)
            if engine == EAGER:
                self._open[engine] = TorchModel(next(iter(variants.values())), self.device)
            else:
                path = variants[engine].graph(self.folder, self.device)
                self._open[engine] = open_graph(path, variants[engine], self.device)
        return self._open[engine]

    def engines(self, size: str, often: bool) -> list[str]:
        """Those that were asked for and are there: the ones measured at every shape, or the others."""
        torch = [EAGER] if "torch" in self.only else []
        graphs = [one for one in gpu_models.VARIANTS if one in self.of(size)] if "inprocess" in self.only else []
        return [one for one in [*graphs, *torch] if (one in _OFTEN) == often]

    def _ready(self, size: str, engine: str, feeds: Any) -> Any:
        from gpu_engines import graph_engine

        opened = self._opened(size, engine)
        return opened.engine(feeds) if engine == EAGER else graph_engine(opened, feeds, self.device)

    def speed(self, size: str, engines: list[str], seconds: int, batch: int) -> None:
        """Measure engines at one shape, in turns; one that finds no memory beside the others, alone."""
        from gpu_engines import feeds_of, is_memory, medians, reason_of

        feeds, ready = feeds_of(batch, seconds), {}
        found: dict[str, float | str] = {}
        for engine in engines:
            if (size, engine, seconds, batch) in self.rates:
                continue
            try:
                ready[engine] = self._ready(size, engine, feeds)
            except Exception as error:  # ONNX Runtime's and CUDA's own errors have no common base
                found[engine] = reason_of(error)
        found |= medians(ready, _MEASURE_S)
        ready.clear()
        for engine in [one for one in found if is_memory(found[one])]:
            self.close()
            found[engine] = medians({engine: self._ready(size, engine, feeds)}, _MEASURE_S)[engine]
        for engine, median in found.items():
            self.keep(size, engine, seconds, batch, median)

    def keep(self, size: str, engine: str, seconds: int, batch: int, median: float | str) -> None:
        """Note the median seconds of a batch, or why there are none."""
        key = (size, engine, seconds, batch)
        what = {"model": size, "engine": named(engine), "seconds": seconds, "batch": batch}
        title = f"{size:6}{named(engine):28}{seconds:3} s x {batch:2}"
        if isinstance(median, str):
            self.rates[key] = median
            self.row("speed", f"{title}  fails: {median}", **what, fails=median)
            return
        self.rates[key] = rate = batch / median
        share = self.share(size, seconds, rate)
        text = f"{title}{rate:10,.1f} clips/s{1e3 * median:10.2f} ms{share:7.1%} of the limit"
        self.row("speed", text, **what, clips_per_s=rate, share=share)

    def share(self, size: str, seconds: int, rate: float) -> float:
        """Of the products' limit in fp16."""
        gflop = next(iter(self.of(size).values())).gflop[str(seconds)]
        return rate * gflop / 1e3 / self.limits["fp16_tflops"]

    def compiled(self, size: str, mode: str, seconds: int, batch: int) -> None:
        """torch.compile at one shape."""
        from gpu_engines import TorchModel, feeds_of, medians

        self.close()
        started = time.perf_counter()
        engine = TorchModel(next(iter(self.of(size).values())), self.device, mode).engine(feeds_of(batch, seconds))
        found = medians({"": engine}, 1.0)
        self.say(f"torch.compile ({mode}) took {time.perf_counter() - started:.0f} s with its measurement")
        self.keep(size, f"torch.compile {mode}", seconds, batch, found[""])

    def measure_limits(self) -> None:
        """The card, and what it reaches."""
        from gpu_engines import card, limits

        told = card(self.device)
        self.row("card", "; ".join(f"{key} {value}" for key, value in told.items()), **told)
        self.limits = limits(self.device, fast=self.device == "cpu")
        text = ", ".join(f"{key.split('_')[0]} {value:.3g}" for key, value in self.limits.items() if "tflops" in key)
        more = f", from the host {self.limits['from_host_gb_s']:.1f} GB/s" if "from_host_gb_s" in self.limits else ""
        self.row("limits", f"TFLOP/s: {text}; copy {self.limits['copy_tb_s']:.3g} TB/s{more}", **self.limits)

    def check(self, name: str, section: str) -> None:
        """A model on the device against the CPU, in sessions of its own."""
        from gpu_checks import check

        found = check(self.folder, self.skeletons[name], self.device)
        text = f"{name:32} mean cosine {found['mean_cosine']:.7f}, min {found['min_cosine']:.7f}, "
        text += f"relative error {found['relative_error']:.1e}, loaded in {found['load_s']:.1f} s"
        self.row(section, text, model=name, **found)

    def operators(self, name: str, batch: int, seconds: int) -> None:
        """Milliseconds by operator of a process of its own, beside the prediction."""
        self.close()
        command = [sys.executable, str(Path(__file__).with_name("gpu_operators.py")), str(self.folder), name]
        command += ["--batch", str(batch), "--seconds", str(seconds), "--device", self.device]
        environment = os.environ | {"CUDA_LAUNCH_BLOCKING": "1"}
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, timeout=max(10, self.left())
        )
        if done.returncode:
            raise RuntimeError((done.stderr.strip().splitlines() or ["no reason given"])[-1])
        found = json.loads(done.stdout.strip().splitlines()[-1])
        title = f"{name}, {batch} clips of {seconds} s"
        self.row("operators", f"{title}: {found['total_ms']:.2f} ms", model=name, batch=batch, seconds=seconds, **found)
        path = self.skeletons[name].graph(self.folder, "cuda")
        self.console.print(*operator_tables(title, found, path, batch, seconds, self.limits))

    def triton(self, size: str) -> None:
        """What a plain client and `arch bench` from disk get of Triton, beside the in-process figure."""
        from gpu_serving import through_triton

        self.close()
        skeleton = self.of(size)["fp16"]
        if not any(key[:3] == (size, "fp16", 10) for key in self.rates):
            self.speed(size, ["fp16"], 10, 16 if self.device == "cuda" else 1)
            self.close()
        rates = [
            rate
            for (model, engine, seconds, _), rate in self.rates.items()
            if (model, engine, seconds) == (size, "fp16", 10) and isinstance(rate, float)
        ]
        best = max(rates, default=0.0)
        clips = round(min(20000, max(128, (best or 100) * _SERVED_S)))
        for client, found in through_triton(self.folder, skeleton, self.device, self.server, clips, self.left):
            if found is None:
                self.say(f"{size} through Triton by {client}: left out, no time is left")
                continue
            rate = found["clips_per_s"]
            what = {
                "model": size,
                "client": client,
                "clips_per_s": rate,
                "of_in_process": rate / best if best else None,
            }
            self.row("triton", served_line(size, client, found, best), **what, measurement=found)

    def captured(self, size: str) -> None:
        """A clip alone by a CUDA graph."""
        from gpu_engines import captured_engine, feeds_of, medians

        self.close()
        feeds = feeds_of(1, 10)
        engine = captured_engine(self.of(size)["fp16"].graph(self.folder, "cuda"), feeds)
        self.keep(size, CAPTURED, 10, 1, medians({"": engine}, 1.0)[""])

    def tasks(self) -> list[Task]:
        """All that can be done, the most important first."""
        sizes = [one for one in ("large", "base") if one in self.sizes]
        fp16 = {size: self.of(size)["fp16"].name for size in sizes if "fp16" in self.of(size)}
        often = {size: self.engines(size, True) for size in sizes}
        seldom = {size: self.engines(size, False) for size in sizes}
        before = {size: [one for one in seldom[size] if one == "generic"] for size in sizes}
        batch = 16 if self.device == "cuda" else _CPU_BATCHES[-1]
        found = [task for size in sizes for task in self._speeds(size, often[size] + before[size], _FIRST)]
        for size in sizes:
            found += [
                Task("parity", "parity", one.name, 15, partial(self.check, one.name, "parity"))
                for one in self.of(size).values()
            ]
        for size, name in fp16.items():
            found.append(Task("operators", "operators", size, 20, partial(self.operators, name, batch, 10)))
        for one in self.skeletons.values():
            if one.size == "family":
                found.append(Task("families", "families", one.name, 5, partial(self.check, one.name, "families")))
        found += [Task("triton", "through Triton", size, 80, partial(self.triton, size)) for size in fp16]
        every = [shape for shape in itertools.product((10, 5), BATCHES) if shape not in _FIRST]
        for size in sizes:
            found += [*self._speeds(size, often[size], every), *self._speeds(size, seldom[size], _FEW)]
        if self.device == "cuda":
            found += [Task("inprocess", "CUDA graph", size, 5, partial(self.captured, size)) for size in fp16]
        for size in sizes:
            for mode, clips in (("default", batch), ("reduce-overhead", 1)):
                work = partial(self.compiled, size, mode, 10, clips)
                found.append(Task("torch", "torch.compile", f"{size} {mode}", 50, work))
        return found

    def _speeds(self, size: str, engines: list[str], shapes: list[tuple[int, int]]) -> list[Task]:
        if self.device == "cpu":
            shapes = [(seconds, batch) for seconds in dict(shapes) for batch in _CPU_BATCHES]
        needs = len(engines) * (_MEASURE_S + _WARM_S)
        return [
            Task("", f"{size} by {', '.join(engines)}", f"{seconds} s x {batch}", needs, work)
            for seconds, batch in shapes
            for work in [partial(self.speed, size, engines, seconds, batch)]
            if engines
        ]


def run(asked: argparse.Namespace) -> None:
    """Do the tasks that there is time for, then print the tables."""
    import torch
    from gpu_engines import reason_of

    if asked.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("PyTorch finds no GPU here; --device cpu rehearses without one")
    this = Run(asked)
    if not this.skeletons:
        raise SystemExit(f"{this.folder} holds no skeletons: make them with `prepare`")
    wanted = [
        one
        for one in this.skeletons.values()
        if one.size in this.sizes or (one.size == "family" and "families" in this.only)
    ]
    if set(this.only) - {"limits", "torch"}:
        written = gpu_models.regenerate(this.folder, wanted, usable_cores())
        this.say(f"weights of {len(wanted)} models are there, {written / 1e9:.1f} GB of them made now")
    this.measure_limits()
    left_out: dict[str, list[str]] = {}
    for task in this.tasks():
        if task.section and task.section not in this.only:
            continue
        if this.left() < task.needs_s:
            left_out.setdefault(task.title, []).append(task.part)
            continue
        try:
            task.work()
        except Exception as error:  # whatever fails is a line, not the end of the measurement
            what = f"{task.title} ({task.part})"
            this.row("failed", f"{what}: fails: {reason_of(error)}", what=what, fails=reason_of(error))
    this.console.print(
        *measured_rates({(a, named(b), c, d): rate for (a, b, c, d), rate in this.rates.items()}, this.share)
    )
    if left_out:
        told = "; ".join(f"{title} ({', '.join(parts)})" for title, parts in left_out.items())
        this.row("left out", f"left out, as {this.minutes:g} minutes are over: {told}", **left_out)
    this.say("done")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)

    def names(known: tuple[str, ...]) -> Callable[[str], list[str]]:
        def read(text: str) -> list[str]:
            if unknown := set(text.split(",")) - set(known):
                raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
            return text.split(",")

        return read

    prepare = commands.add_parser("prepare", help="export, and keep what a GPU machine needs to make the weights anew")
    prepare.add_argument("folder", type=Path)
    models = ("base", "large", "families")
    prepare.add_argument("--models", type=names(models), default=list(models), help="separated by commas")
    variants = tuple(gpu_models.VARIANTS)
    prepare.add_argument("--variants", type=names(variants), default=list(variants), help="of base and large")
    prepare.add_argument("--tiny", action="store_true", help="small encoders, to rehearse with on a CPU")
    prepare.set_defaults(work=_prepare)
    measure = commands.add_parser("run", help="measure")
    measure.add_argument("folder", type=Path)
    measure.add_argument(
        "--only", type=names(SECTIONS), default=list(SECTIONS), help="separated by commas; limits always"
    )
    measure.add_argument("--models", type=names(("base", "large")), default=["base", "large"])
    measure.add_argument("--minutes", type=float, default=6, help="after which nothing new is begun")
    measure.add_argument("--out", type=Path, help="file for the results as JSON lines")
    measure.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: to rehearse with")
    measure.add_argument("--server", help="HOST:PORT of a Triton's gRPC that serves FOLDER; by default one is started")
    measure.set_defaults(work=run)
    asked = parser.parse_args()
    asked.work(asked)


def _prepare(asked: argparse.Namespace) -> None:
    asked.folder.mkdir(parents=True, exist_ok=True)
    console = Console(highlight=False)
    gpu_models.prepare(
        asked.folder,
        asked.models,
        asked.variants,
        asked.tiny,
        lambda text: console.print(text, markup=False, soft_wrap=True),
    )


if __name__ == "__main__":
    main()
