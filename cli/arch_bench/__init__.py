"""Benchmark audio encoders as they are served: throughput, latency and accuracy in one report.

    import arch_bench

    arch_bench.export("hubert-large")
    run = arch_bench.bench(["esc50", "audio_mnist"])
    print(run.to_pandas())

Each function needs the part of arch that does the work (`pip install 'arch-bench[export]'`, `[serve]`, `[bench]`) and
says so where it is missing. All errors that a caller can act on are `ArchError`s: see `arch_common.errors`.
"""

import importlib.metadata

from arch_common.errors import (
    ArchError,
    ExportError,
    ExportUsageError,
    GateError,
    MissingExtraError,
    ScoreError,
    ServeError,
    ServeUsageError,
    UsageError,
)

from arch_bench import cache, data
from arch_bench.api import aliases, bench, check, endpoints, export, load, probe, serve
from arch_bench.decisions.comparing import compare
from arch_bench.decisions.gating import gate
from arch_bench.demonstration import demo
from arch_bench.load_tests.testing import LoadTested, load_test
from arch_bench.loaded import Embeddings, LoadedRun
from arch_bench.reproduction import Reproduced, plan_reproduction, reproduce

__version__ = importlib.metadata.version("arch-bench")

__all__ = [
    "ArchError",
    "Embeddings",
    "ExportError",
    "ExportUsageError",
    "GateError",
    "LoadTested",
    "LoadedRun",
    "MissingExtraError",
    "Reproduced",
    "ScoreError",
    "ServeError",
    "ServeUsageError",
    "UsageError",
    "__version__",
    "aliases",
    "bench",
    "cache",
    "check",
    "compare",
    "data",
    "demo",
    "endpoints",
    "export",
    "gate",
    "load",
    "load_test",
    "plan_reproduction",
    "probe",
    "reproduce",
    "serve",
]
