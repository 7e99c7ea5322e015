"""Torch traces a module once in a run of the tests."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from arch_export.graph import trace
from filelock import FileLock


@contextmanager
def traced_once(traces: Path) -> Iterator[None]:
    """Let the same module again give the file that is kept in `traces`.

    Tracing takes nine tenths of a small export's time, and precisions and targets of a checkpoint have it in common.
    """
    write_traced = trace.write_onnx

    def write_onnx(module: torch.nn.Module, path: Path, outputs: list[str], sample_rate: int) -> None:
        kept = traces / _digest(module, outputs, sample_rate)
        with FileLock(f"{kept}.lock"):
            if not kept.exists():
                write_traced(module, path, outputs, sample_rate)
                if path.with_name(f"{path.name}.data").exists():  # it is named in the graph, and could not be renamed
                    return
                shutil.copy(path, f"{kept}.unfinished")
                Path(f"{kept}.unfinished").rename(kept)
        shutil.copy(kept, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "write_onnx", write_onnx)
        yield


def _digest(module: torch.nn.Module, *more: object) -> str:
    """Of the weights and of all that stands in the module and its parts."""
    found = hashlib.sha256(repr((module, more)).encode())
    for name, part in module.named_modules():
        plain = {key: repr(value) for key, value in sorted(vars(part).items()) if not key.startswith("_")}
        found.update(repr((name, plain)).encode())
    for name, weights in module.state_dict().items():
        found.update(name.encode() + weights.numpy().tobytes())
    return found.hexdigest()
