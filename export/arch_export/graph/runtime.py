"""Sessions that run a graph as the server will, for its verification on this machine's CPU."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
from arch_common import session
from arch_common.errors import ExportError, ExportUsageError

from arch_export.encoder.precision import Precision


def check_precision(precision: Precision) -> None:
    """See to it that a graph of this precision can be verified on this machine, before any work is done for it.

    Raises:
        ExportUsageError: if what runs it is not installed or the CPU lacks the instructions.
    """
    if precision is not Precision.BF16:
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
        raise ExportError(str(error).splitlines()[0]) from error
