"""The tables of gpu.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from gpu_models import VARIANTS
from rich.table import Table

CAPTURED = "fp16, CUDA graph"
_TOP = 14


def named(engine: str) -> str:
    """An engine as it is shown."""
    if engine == "generic":
        return "arch fp16, generic graph"
    return f"arch {engine}" if engine in (*VARIANTS, CAPTURED) else engine


def measured_rates(
    rates: dict[tuple[str, str, int, int], float | str], share: Callable[[str, int, float], float]
) -> list[Table]:
    """Clips/s and the share of the limit, a table for each length of clips.

    Args:
        rates: (model, engine, seconds, batch) -> clips/s, or why there are none.
        share: of the limit, by model, seconds and clips/s.
    """
    tables = []
    for seconds in sorted({key[2] for key in rates}, reverse=True):
        here = {key: rate for key, rate in rates.items() if key[2] == seconds}
        batches = sorted({key[3] for key in here})
        title = f"Clips of {seconds} s: clips/s, and % of the limit of fp16 products; by batch size"
        table = _table(title, ["model", "engine"], [str(batch) for batch in batches])
        for model, engine in sorted(dict.fromkeys(key[:2] for key in here), key=lambda pair: pair[0]):
            cells = []
            for batch in batches:
                rate = here.get((model, engine, seconds, batch), "")
                cells.append(
                    f"{rate:,.0f} {share(model, seconds, rate):.0%}"
                    if isinstance(rate, float)
                    else "fails" * bool(rate)
                )
            table.add_row(model, engine, *cells)
        tables.append(table)
    return tables


def operator_tables(
    title: str, found: dict[str, Any], path: Path, batch: int, seconds: int, limits: dict[str, float]
) -> list[Table | str]:
    """Measured milliseconds by operator type beside the predicted ones, and the slowest nodes.

    Args:
        title: of the model and the shape.
        found: by `gpu_operators.operators`.
        path: the graph, for the prediction.
        batch: clips.
        seconds: of a clip.
        limits: of the card, which the prediction takes.
    """
    predicted, note = _predicted(path, batch, seconds, limits)
    table = _table(f"{title}: by operator type", ["type", "provider"], ["kernels", "ms", "%", "predicted", "ms"])
    seen = set()
    for one in found["kinds"][:_TOP]:
        count, milliseconds = predicted.get(one["kind"], (0, 0.0)) if one["kind"] not in seen else (0, 0.0)
        seen.add(one["kind"])
        of_all = f"{one['ms'] / found['total_ms']:.1%}"
        foreseen = (str(count), f"{milliseconds:.3f}") if count else ("", "")
        table.add_row(one["kind"], one["provider"], str(one["count"]), f"{one['ms']:.3f}", of_all, *foreseen)
    rest = found["kinds"][_TOP:]
    if rest:
        kernels, milliseconds = sum(one["count"] for one in rest), sum(one["ms"] for one in rest)
        table.add_row(
            "others", "", str(kernels), f"{milliseconds:.3f}", f"{milliseconds / found['total_ms']:.1%}", "", ""
        )
    if unseen := {
        kind: pair for kind, pair in predicted.items() if kind not in {one["kind"] for one in found["kinds"]}
    }:
        note += "; predicted, but fused: " + ", ".join(
            f"{pair[0]} {kind} {pair[1]:.3f} ms" for kind, pair in unseen.items()
        )
    kernels = sum(one["count"] for one in found["kinds"])
    table.add_row("all", "", str(kernels), f"{found['total_ms']:.3f}", "", *_sum(predicted.values()))
    slowest = _table(f"{title}: the slowest nodes", ["type", "name", "shapes"], ["ms"])
    for one in found["slowest"]:
        slowest.add_row(one["kind"], one["name"][-40:], one["shapes"], f"{one['ms']:.3f}")
    return [table, note, slowest]


def served_line(size: str, client: str, found: dict[str, Any], in_process: float) -> str:
    """What a client got of a server, in a line.

    Args:
        size: of the model.
        client: who it was.
        found: the measurement, that of `arch bench` as results.json has it.
        in_process: clips/s without a server; 0 if that was not measured.
    """
    rate = found["clips_per_s"]
    line = f"{size} through Triton by {client}: {rate:,.1f} clips/s"
    line += f" ({rate / in_process:.2f} of in-process)" if in_process else ""
    if "steadiness" not in found:
        return line
    line += f", {found['steadiness']}, {found['measured_clips']} clips of 10 s in {found['measured_seconds']:.1f} s"
    line += f"; {found['bottleneck']} limits it, {found['mean_concurrency']:.0f} in flight"
    return line + (f", batches of {found['server']['mean_batch_size']:.1f}" if found["server"] else "")


def _predicted(
    path: Path, batch: int, seconds: int, limits: dict[str, float]
) -> tuple[dict[str, tuple[int, float]], str]:
    """Count and milliseconds of each operator type by gpu_roofline, and what to say of it."""
    try:
        from gpu_roofline import Rates, predict

        foreseen = predict(path, batch, seconds, Rates(limits["fp16_tflops"], limits["copy_tb_s"]))
    except Exception as error:  # a graph that it does not know costs the column, not the measurement
        return {}, f"no prediction: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
    kinds = {one.kind for one in foreseen.operators}
    found = {kind: (len(foreseen.of(kind)), 1e3 * sum(one.seconds for one in foreseen.of(kind))) for kind in kinds}
    return found, f"predicted: {foreseen.milliseconds:.2f} ms at the measured limits"


def _sum(pairs: Iterable[tuple[int, float]]) -> tuple[str, str]:
    counts, times = zip(*pairs, strict=True) if pairs else ((), ())
    return (str(sum(counts)), f"{sum(times):.3f}") if counts else ("", "")


def _table(title: str, left: list[str], right: list[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in left:
        table.add_column(column, overflow="fold")
    for column in right:
        table.add_column(column, justify="right")
    return table
