"""What is left of a benchmark when something goes wrong: `python benchmarks/faults.py`; some minutes.

Runs `arch bench` over a real Triton in every scenario of tests/fault_scenarios.py. A scenario passes if every clip is
in the store, once, or in the list of failures, no process is left, and the score equals that of an undisturbed run; for
corrupt files and NaN, where clips are missing by intent, that of its embeddings of the others.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from arch_export.pipeline import export
from arch_harness.datasets.catalog.demo import write_demo
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.fault_scenarios import SCENARIOS, undisturbed
from support.fault_scene import Scene, WrongError, prepare


def main() -> int:
    """Run all scenarios and print a table; 1 if one fails."""
    table = Table(title="Faults", title_justify="left")
    for column in ("scenario", "clips", "failed", "score", "retries", "faults counted", "seconds", "outcome"):
        table.add_column(column, overflow="fold")
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        export("logmel", root / "repository")
        data = prepare(root / "data", write_demo(root / "demo", clips_per_class=10))
        expected = None
        for number, (title, scenario) in enumerate({"undisturbed": undisturbed, **SCENARIOS}.items()):
            folder = root / str(number)
            folder.mkdir()
            scene = Scene(root / "repository", data, folder, expected)
            started = time.perf_counter()
            try:
                result = scenario(scene)
            except WrongError as error:
                wrong += 1
                cells = ["", "", "", "", "", f"{time.perf_counter() - started:.0f}", f"WRONG: {error}"]
            else:
                expected = expected or scene
                counts = result.measurement.faults.model_dump() if result.measurement else {}
                retries = counts.pop("retries", 0)
                told = ", ".join(f"{count} {fault.replace('_', ' ')}" for fault, count in counts.items() if count)
                seconds = time.perf_counter() - started
                outcome = "; ".join(["as it must", *scene.notes])
                cells = [
                    *(str(result.clips), str(result.failed), f"{result.score:.4f}", str(retries), told or "none"),
                    *(f"{seconds:.0f}", outcome),
                ]
            table.add_row(title, *cells)
    Console(width=150).print(table)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
