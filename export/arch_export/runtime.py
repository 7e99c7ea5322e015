"""ONNX Runtime sessions that run a variant the way a server will."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path

import onnxruntime

from arch_export.errors import ExportError, ExportUsageError, reason_of
from arch_export.precision import Precision

# What a CPU needs for bf16 matrix products, as Linux names it.
BF16_FLAGS = ("amx_bf16", "avx512_bf16")
OPENVINO = "OpenVINOExecutionProvider"
# As in the server's backend, which says why.
SLOW_ON_CPU = ["SkipLayerNormFusion"]


def check_precision(precision: Precision) -> None:
    """See to it that a variant of this precision can be verified on this machine.

    Raises:
        ExportUsageError: if the execution provider is not installed or the CPU lacks the instructions.
    """
    if precision is Precision.BF16:
        _openvino_device()


def open_session(
    path: Path, precision: Precision, options: onnxruntime.SessionOptions | None = None
) -> onnxruntime.InferenceSession:
    """A session on the CPU: bf16 through OpenVINO, everything else through ONNX Runtime's own kernels.

    The CPU runs fp16 by way of fp32: rounded weights and casts show, overflow does not.

    Raises:
        ExportUsageError: as `check_precision`.
        ExportError: if ONNX Runtime cannot load the graph.
    """
    options = options or onnxruntime.SessionOptions()
    providers: list[str] | None = ["CPUExecutionProvider"]
    if precision is Precision.BF16:
        device = _openvino_device()
        threads = str(len(os.sched_getaffinity(0)))
        settings = {"CPU": {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": threads}}
        options.add_provider_for_devices([device], {"load_config": json.dumps(settings)})
        providers = None  # the options name it
    try:
        return onnxruntime.InferenceSession(path, options, providers=providers, disabled_optimizers=SLOW_ON_CPU)
    except Exception as error:  # ONNX Runtime's own errors have no common base
        raise ExportError(f"ONNX Runtime cannot load the {precision} graph ({reason_of(error)})") from error


def _openvino_device() -> onnxruntime.OrtEpDevice:
    try:
        import onnxruntime_ep_openvino as plugin
    except ModuleNotFoundError as error:
        raise ExportUsageError(
            "bf16 runs through OpenVINO's execution provider, which is not installed: pip install "
            "'arch-bench[openvino]' (in a clone: pip install '.[openvino]')"
        ) from error
    if not cpu_flags().intersection(BF16_FLAGS):
        raise ExportUsageError("bf16 cannot be verified here: this CPU has neither AMX nor AVX512-BF16; export int8")
    found = _devices(plugin.get_library_path())
    if not found:
        raise ExportUsageError(
            "bf16 cannot be verified here: OpenVINO's execution provider offers no device for this CPU "
            "(version 1.8 takes Intel's only); export int8"
        )
    return found[0]


@functools.cache  # a library can be registered once in a process
def _devices(library: str) -> list[onnxruntime.OrtEpDevice]:
    try:
        onnxruntime.register_execution_provider_library(OPENVINO, library)
    except Exception as error:  # ONNX Runtime's own errors have no common base
        raise ExportUsageError(f"OpenVINO's execution provider does not load ({reason_of(error)})") from error
    cpu = onnxruntime.OrtHardwareDeviceType.CPU
    return [one for one in onnxruntime.get_ep_devices() if one.ep_name == OPENVINO and one.device.type == cpu]


def cpu_flags() -> set[str]:
    """The instruction sets of this machine's CPU, as Linux names them."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("flags"):
            return set(line.split(":", 1)[1].split())
    return set()
