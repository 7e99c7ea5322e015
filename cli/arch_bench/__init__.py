"""Benchmark audio encoders as they are served: throughput, latency and accuracy in one report.

    import arch_bench

    arch_bench.export("hubert-large")
    run = arch_bench.bench(["esc50", "audio_mnist"])
    print(run.to_pandas())

Each function needs the part of arch that does the work (`pip install 'arch-bench[export]'`, `[serve]`, `[bench]`) and
says so where it is missing. All errors that a caller can act on are `ArchError`s: see `arch_common.errors`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from arch_common.errors import (
        ArchError,
        ConfigError,
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
    from arch_bench.analysis import Analysed, analyse
    from arch_bench.api import aliases, bench, check, endpoints, export, load, probe, serve
    from arch_bench.decisions.comparing import compare
    from arch_bench.decisions.gating import gate
    from arch_bench.decisions.publishing import Published, publish
    from arch_bench.demonstration import demo
    from arch_bench.health import Finding, doctor
    from arch_bench.load_tests.testing import LoadTested, load_test, read_load_test
    from arch_bench.loaded import Embeddings, LoadedRun
    from arch_bench.reproduction import Reproduced, plan_reproduction, reproduce
    from arch_bench.tuning import Tuned, tune

    __version__: str

_ERRORS = (
    *("ArchError", "ConfigError", "ExportError", "ExportUsageError", "GateError", "MissingExtraError", "ScoreError"),
    *("ServeError", "ServeUsageError", "UsageError"),
)
_HOMES = {
    **dict.fromkeys(_ERRORS, "arch_common.errors"),
    **dict.fromkeys(("Analysed", "analyse"), "arch_bench.analysis"),
    **dict.fromkeys(("aliases", "bench", "check", "endpoints", "export", "load", "probe", "serve"), "arch_bench.api"),
    **dict.fromkeys(("LoadTested", "load_test", "read_load_test"), "arch_bench.load_tests.testing"),
    **dict.fromkeys(("Published", "publish"), "arch_bench.decisions.publishing"),
    **dict.fromkeys(("Reproduced", "plan_reproduction", "reproduce"), "arch_bench.reproduction"),
    **dict.fromkeys(("Finding", "doctor"), "arch_bench.health"),
    **dict.fromkeys(("Embeddings", "LoadedRun"), "arch_bench.loaded"),
    **dict.fromkeys(("Tuned", "tune"), "arch_bench.tuning"),
    "compare": "arch_bench.decisions.comparing",
    "gate": "arch_bench.decisions.gating",
    "demo": "arch_bench.demonstration",
}

__all__ = [
    "Analysed",
    "ArchError",
    "ConfigError",
    "Embeddings",
    "ExportError",
    "ExportUsageError",
    "Finding",
    "GateError",
    "LoadTested",
    "LoadedRun",
    "MissingExtraError",
    "Published",
    "Reproduced",
    "ScoreError",
    "ServeError",
    "ServeUsageError",
    "Tuned",
    "UsageError",
    "__version__",
    "aliases",
    "analyse",
    "bench",
    "cache",
    "check",
    "compare",
    "data",
    "demo",
    "doctor",
    "endpoints",
    "export",
    "gate",
    "load",
    "load_test",
    "plan_reproduction",
    "probe",
    "publish",
    "read_load_test",
    "reproduce",
    "serve",
    "tune",
]


def __getattr__(name: str) -> Any:
    """What is offered here is imported when it is first asked for: the command line starts without it."""
    if name == "__version__":
        found: Any = importlib.import_module("importlib.metadata").version("arch-bench")
    elif name in ("cache", "data"):
        found = importlib.import_module(f"arch_bench.{name}")
    elif name in _HOMES:
        found = getattr(importlib.import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
