"""Where a graph's time goes: milliseconds of each operator, by ONNX Runtime's profile of one run.

    CUDA_LAUNCH_BLOCKING=1 python benchmarks/gpu_operators.py FOLDER MODEL --batch 16 --seconds 10

prints JSON. A process of its own, because with that variable, which must be set before CUDA starts, every kernel is
waited for: without it the profile would hold the times of launches. The sum is therefore more than a run takes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

_RUNS = 5


def operators(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The profile's last run but those that took longer: by operator type, and its ten slowest nodes.

    Args:
        events: of ONNX Runtime's profile; the first two runs are taken for warm-up.

    Returns:
        `total_ms`; `kinds`, each with `kind`, `provider`, `count` and `ms`; `slowest`, each with `name`, `kind`, `ms`
        and `shapes`.
    """
    starts = sorted((one["ts"], one["ts"] + one["dur"]) for one in events if one["name"] == "model_run")[2:]
    kernels = [one for one in events if one.get("cat") == "Node" and one["name"].endswith("_kernel_time")]
    runs = [[one for one in kernels if start <= one["ts"] <= end] for start, end in starts]
    runs.sort(key=lambda run: sum(one["dur"] for one in run))
    middle = runs[len(runs) // 2]
    kinds: dict[tuple[str, str], list[float]] = defaultdict(list)
    for one in middle:
        kinds[one["args"]["op_name"], one["args"].get("provider", "")].append(one["dur"] / 1e3)
    slowest = sorted(middle, key=lambda one: -one["dur"])[:10]
    return {
        "total_ms": sum(one["dur"] for one in middle) / 1e3,
        "kinds": [
            {"kind": kind, "provider": provider.removesuffix("ExecutionProvider"), "count": len(each), "ms": sum(each)}
            for (kind, provider), each in sorted(kinds.items(), key=lambda item: -sum(item[1]))
        ],
        "slowest": [
            {
                "name": one["name"].removesuffix("_kernel_time"),
                "kind": one["args"]["op_name"],
                "ms": one["dur"] / 1e3,
                "shapes": f"{_shapes(one, 'input_type_shape')} → {_shapes(one, 'output_type_shape')}",
            }
            for one in slowest
        ],
    }


def _shapes(event: dict[str, Any], key: str) -> str:
    entries = event["args"].get(key) or []
    return " ".join(f"{dtype}{shape}".replace(" ", "") for entry in entries for dtype, shape in entry.items())


def main() -> None:
    """Profile one model and print JSON."""
    from gpu_engines import feeds_of, open_graph
    from gpu_models import load

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("model")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    asked = parser.parse_args()
    skeleton = next(one for one in load(asked.folder) if one.name == asked.model)
    with tempfile.TemporaryDirectory() as scratch:
        session = open_graph(
            skeleton.graph(asked.folder, asked.device), skeleton, asked.device, Path(scratch) / "profile"
        )
        for _ in range(_RUNS):
            session.run(["embedding"], feeds_of(asked.batch, asked.seconds))
        events = json.loads(Path(session.end_profiling()).read_text())
    print(json.dumps(operators(events)))


if __name__ == "__main__":
    main()
