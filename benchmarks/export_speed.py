"""The exported variants of HuBERT-base (random weights) beside PyTorch, in one process, on clips of 5 s.

PyTorch fp32, one clip at a time, is what the reference benchmark does; every ratio is to it. The engines take turns
within each round and the medians count. Then: how close each variant is to fp32, on fresh weights and on weights spread
like a trained encoder's, and where the time of each variant goes.

    python benchmarks/export_speed.py            # about 10 minutes and 6 GB of memory on 2 cores
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from arch_common.errors import ExportError
from arch_common.session import SLOW_ON_CPU, Session
from arch_export.checkpoint.random_weights import write_random
from arch_export.encoder.precision import Precision
from arch_export.graph.runtime import open_session
from arch_export.pipeline import Exported, export
from arch_export.verify import parity
from arch_export.verify.signals import synthesise
from rich.console import Console
from rich.table import Table

RATE, SECONDS = 16000, 5
BATCHES = (1, 8)
PRECISIONS = (Precision.FP32, Precision.INT8, Precision.BF16)
CUT = 6
CUT_SECONDS = (5, 10, 30)  # of the 12 datasets' clips, most are of 5 s, none is longer than 30
BASELINE = "PyTorch fp32"
Feeds = dict[str, "np.ndarray[Any, Any]"]
Engine = Callable[[Feeds], object]

out = Console(width=110)


def feeds_of(clips: int, seconds: int = SECONDS) -> Feeds:
    """A batch of clips of several kinds."""
    waveform = np.stack([synthesise(index, seconds * RATE, RATE, seed=99) for index in range(clips)])
    return {"waveform": waveform, "num_samples": np.full((clips, 1), seconds * RATE, dtype=np.int64)}


def gflop_per_clip(checkpoint: Path, seconds: int = SECONDS, layers: int | None = None) -> float:
    """Of the encoder's convolutions and matrix products, as PyTorch's own counter has it."""
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import HubertModel

    # Its counter does not see into the attention kernels for CPUs.
    model = HubertModel.from_pretrained(checkpoint, attn_implementation="eager").eval()
    del model.encoder.layers[layers or len(model.encoder.layers) :]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, seconds * RATE))
    return float(counter.get_total_flops()) / 1e9


def product_limit(dtype: torch.dtype) -> float:
    """GFLOP/s of dense matrix products of 2048 x 2048 in PyTorch, the best of ten."""
    left, right = (torch.randn(2048, 2048).to(dtype) for _ in range(2))
    best = 0.0
    for _ in range(10):
        started = time.perf_counter()
        torch.matmul(left, right)
        best = max(best, 2 * 2048**3 / (time.perf_counter() - started) / 1e9)
    return best


def torch_engine(model: torch.nn.Module, dtype: torch.dtype | None) -> Engine:
    """Normalise each clip, encode, mean over frames; under autocast where a dtype is given."""

    def run(feeds: Feeds) -> object:
        waveform = torch.from_numpy(feeds["waveform"])
        with torch.no_grad(), torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            deviation, mean = torch.std_mean(waveform, dim=1, keepdim=True, correction=0)
            return model((waveform - mean) / torch.sqrt(deviation**2 + 1e-7)).last_hidden_state.mean(dim=1)

    return run


def session_engine(session: Session) -> Engine:
    """The embedding of an exported graph."""
    return lambda feeds: session.run(["embedding"], feeds)


def static_int8(fp32: Path, folder: Path) -> Path:
    """What arch does not export: MatMul scales fixed beforehand, calibrated on 8 clips of other seeds."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Clips(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.feeds: Iterator[Feeds] = iter(
                {
                    "waveform": synthesise(index, SECONDS * RATE, RATE, seed=7)[None],
                    "num_samples": np.array([[SECONDS * RATE]]),
                }
                for index in range(8)
            )

        def get_next(self) -> Feeds | None:
            return next(self.feeds, None)

    logging.getLogger().setLevel(logging.ERROR)
    whole, prepared, target = (folder / f"{name}.onnx" for name in ("whole", "prepared", "static"))
    onnx.save_model(onnx.load(fp32), whole)  # ONNX Runtime's tools lose weights that lie in a file of their own
    quant_pre_process(str(whole), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared),
        str(target),
        Clips(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["MatMul"],
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QUInt8,
        per_channel=True,
        reduce_range=False,
        extra_options={"MatMulConstBOnly": True},
    )
    return target


def export_all(
    checkpoint: Path, repository: Path, precisions: tuple[Precision, ...] = PRECISIONS
) -> dict[str, Exported]:
    """Every one of the variants that this machine can verify; what misses its limits too."""
    found = {}
    for precision in precisions:
        out.print(f"exporting {checkpoint.name} in {precision}", highlight=False)
        try:
            found[str(precision)] = export(str(checkpoint), repository, precision=precision, force=True)
        except ExportError as error:
            out.print(f"{precision}: left out: {error}", highlight=False)
    return found


def rates(engines: dict[str, tuple[Engine, int]], rounds: int, seconds: int = SECONDS) -> dict[str, float]:
    """Median clips/s of each (engine, batch size); a first round warms up."""
    times: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(rounds + 1):
        for name, (engine, clips) in engines.items():
            feeds = feeds_of(clips, seconds)
            started = time.perf_counter()
            engine(feeds)
            times[name].append(time.perf_counter() - started)
    return {name: clips / statistics.median(times[name][1:]) for name, (_, clips) in engines.items()}


def profile(path: Path, precision: Precision, folder: Path, runs: int = 7) -> dict[str, float]:
    """Milliseconds by operator type of one clip, the median of each operator, by what runs it; OpenVINO for bf16."""
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    if precision is Precision.BF16:
        import openvino

        settings = {"INFERENCE_PRECISION_HINT": "bf16", "PERF_COUNT": "YES"}
        settings["INFERENCE_NUM_THREADS"] = str(torch.get_num_threads())
        request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()
        for _ in range(runs):
            request.infer(feeds_of(1))
            for operator in request.profiling_info:
                times[operator.node_type, operator.node_name].append(operator.real_time.total_seconds() * 1e3)
    else:
        options = onnxruntime.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / f"profile-{precision}")
        session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"], disabled_optimizers=SLOW_ON_CPU
        )
        for _ in range(runs):
            session.run(["embedding"], feeds_of(1))
        for event in json.loads(Path(session.end_profiling()).read_text(encoding="utf-8")):
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                times[event["args"]["op_name"], event["name"]].append(event["dur"] / 1e3)
    spent: dict[str, float] = defaultdict(float)
    for (kind, _), found in times.items():
        spent[kind] += statistics.median(found)
    return spent


def main() -> None:
    """Print the tables."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=5, help="how often each engine runs; medians count")
    arguments.add_argument("--only", choices=("speed", "cut", "closeness", "where"), help="one of the tables")
    asked = arguments.parse_args()
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    onnxruntime.set_default_logger_severity(3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = write_random(folder / "hubert-base", "hubert")
        variants = export_all(checkpoint, folder / "repository")
        if asked.only in (None, "speed"):
            speed(checkpoint, variants, static_int8(_file(variants["fp32"]), folder), threads, asked.rounds)
        if asked.only in (None, "cut"):
            shorter = export(str(checkpoint), folder / "repository", "cut", layers=str(CUT))
            cut(checkpoint, variants, shorter, asked.rounds)
        if asked.only in (None, "closeness"):
            spread = write_random(folder / "hubert-base-spread", "hubert", trained_scales=True)
            fresh = variants | export_all(checkpoint, folder / "repository", (Precision.FP16,))
            closeness({"fresh": fresh, "like trained": export_all(spread, folder / "repository", tuple(Precision))})
        if asked.only in (None, "where"):
            where(variants, folder)


def _file(exported: Exported) -> Path:
    return exported.folder / "1" / "model.onnx"


def speed(checkpoint: Path, variants: dict[str, Exported], static: Path, threads: int, rounds: int) -> None:
    """Clips/s, the ratio to the baseline, and the share of what the matrix products allow."""
    from transformers import HubertModel

    model = HubertModel.from_pretrained(checkpoint).eval()
    gflop = gflop_per_clip(checkpoint)
    limits = {"fp32": product_limit(torch.float32), "bf16": product_limit(torch.bfloat16)}
    engines: dict[str, tuple[Engine, int]] = {BASELINE: (torch_engine(model, None), 1)}
    engines["PyTorch bf16 autocast"] = (torch_engine(model, torch.bfloat16), 1)
    sessions = {f"arch {key}": open_session(_file(one), Precision(key)) for key, one in variants.items()}
    sessions["static int8 (QDQ), not exported"] = open_session(static, Precision.FP32)
    for key, session in sessions.items():
        for clips in BATCHES:
            engines[f"{key}, batch {clips}"] = (session_engine(session), clips)
    measured = rates(engines, rounds)
    table = Table(title=f"HuBERT-base, {SECONDS} s clips, {gflop:.0f} GFLOP each, {threads} threads")
    for column in ("engine", "clips/s", f"x {BASELINE}", "GFLOP/s", "of the limit"):
        table.add_column(column, justify="left" if column == "engine" else "right")
    for key, rate in measured.items():
        limit = limits["bf16" if "bf16" in key else "fp32"]
        achieved = ("–", "–") if "int8" in key else (f"{rate * gflop:,.0f}", f"{rate * gflop / limit:.0%}")
        table.add_row(key, f"{rate:.2f}", f"{rate / measured[BASELINE]:.2f}", *achieved)
    table.caption = f"matrix products here: fp32 {limits['fp32']:,.0f} GFLOP/s, bf16 {limits['bf16']:,.0f} GFLOP/s"
    out.print(table)


def cut(checkpoint: Path, variants: dict[str, Exported], shorter: Exported, rounds: int) -> None:
    """What an encoder cut after half of its layers saves, one clip at a time, beside the ratio of their GFLOP."""
    table = Table(title=f"HuBERT-base cut after layer {CUT} of 12, one clip at a time")
    for column in ("precision", "clip", "whole, clips/s", "cut, clips/s", "ratio", "of their GFLOP"):
        table.add_column(column, justify="left" if column == "precision" else "right")
    for key in ("fp32", "bf16"):
        if key not in variants:
            continue
        files = {"whole": _file(variants[key]), "cut": _file(shorter)}  # bf16 runs the fp32 file
        engines = {name: (session_engine(open_session(file, Precision(key))), 1) for name, file in files.items()}
        for seconds in CUT_SECONDS:
            found = rates(engines, rounds, seconds)
            bound = gflop_per_clip(checkpoint, seconds) / gflop_per_clip(checkpoint, seconds, CUT)
            ratio = found["cut"] / found["whole"]
            table.add_row(
                key, f"{seconds} s", f"{found['whole']:.2f}", f"{found['cut']:.2f}", f"{ratio:.2f}", f"{bound:.2f}"
            )
    out.print(table)


def closeness(found: dict[str, dict[str, Exported]]) -> None:
    """What the exports themselves measured, against the original in PyTorch fp32."""
    clips = sum(len(case.valid) for case in parity.cases(RATE))
    table = Table(title=f"Against PyTorch fp32, {clips} clips of arch_export/verify/signals.py, alone and in batches")
    for column in ("weights", "variant", "MB", "mean cosine", "worst", "rel. error", "batch effect, mean", "worst"):
        table.add_column(column, justify="left" if column in ("weights", "variant") else "right")
    for weights, variants in found.items():
        for key, one in variants.items():
            figures = one.parity
            table.add_row(
                weights,
                key + (" MISSES" if one.misses else ""),
                f"{sum(file.stat().st_size for file in (one.folder / '1').iterdir()) / 1e6:.0f}",
                f"{figures.mean_cosine:.6f}",
                f"{figures.min_cosine:.6f}",
                f"{figures.max_relative_error:.1e}",
                f"{figures.mean_batch_effect:.1e}",
                f"{figures.max_batch_effect:.1e}",
            )
    out.print(table)


def where(variants: dict[str, Exported], folder: Path) -> None:
    """The operators that take the time."""
    for key, one in variants.items():
        spent = profile(_file(one), Precision(key), folder)
        total = sum(spent.values())
        shares = [
            f"{kind} {spent[kind] / total:.0%}" for kind in sorted(spent, key=spent.__getitem__, reverse=True)[:9]
        ]
        out.print(f"{key}, one clip, {total:.0f} ms in: {', '.join(shares)}", highlight=False)


if __name__ == "__main__":
    main()
