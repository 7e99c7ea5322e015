"""Sessions that run a graph as the server will, for its verification on this machine's CPU."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import onnxruntime
from arch_common import session
from arch_common.errors import ExportError, ExportUsageError, first_line

from arch_export.encoder.precision import Precision, Target
from arch_export.graph.cpu_twin import write_cpu_twin
from arch_export.graph.peaks import fp16_values, largest_magnitude

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def check_precision(precision: Precision, target: Target = Target.AUTO) -> None:
    """See to it that a graph of this precision can be verified on this machine, before any work is done for it.

    Raises:
        ExportUsageError: if what runs it is not installed or the CPU lacks the instructions.
    """
    if precision is not Precision.BF16 or target is Target.GPU:
        return
    if session.bf16_obstacle():
        raise ExportUsageError("bf16 cannot be verified here: this CPU has neither AMX nor AVX512-BF16; export int8")
    if missing := session.missing_for_bf16():
        raise ExportUsageError(missing)


def open_session(
    path: Path, precision: Precision, options: onnxruntime.SessionOptions | None = None
) -> session.Session:
    """A session on the CPU, as `arch_common.session` opens it for the server too.

    Raises:
        ExportUsageError: as `check_precision`.
        ExportError: if the graph cannot be loaded.
    """
    check_precision(precision)
    try:
        return session.open_on_cpu(path, precision, options or session.session_options()).session
    except session.OtherPrecisionError as error:
        raise ExportUsageError(f"{precision} cannot be verified here: {error}; export int8") from error
    except session.SessionError as error:
        raise ExportError(first_line(str(error), type(error).__name__)) from error


@contextmanager
def cuda_twin(path: Path, precision: Precision) -> Iterator[Path]:
    """The twin for CPUs of a graph for CUDA, for as long as it is needed."""
    twin = write_cpu_twin(path, precision)
    try:
        yield twin
    finally:
        twin.unlink()


def cuda_fp16_peak(path: Path, feeds: Iterable[dict[str, NDArray[np.generic]]]) -> float:
    """The largest magnitude of what a graph for CUDA holds in fp16; infinity if it overflows on one of the inputs."""
    with cuda_twin(path, Precision.FP16) as twin:
        model = onnx.load(twin, load_external_data=False)
        return largest_magnitude(model, fp16_values(path), path.parent, feeds)
