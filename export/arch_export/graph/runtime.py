"""Sessions that run a variant the way a server will: in ONNX Runtime, or in OpenVINO where that alone can."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import onnxruntime
from arch_common.errors import ExportError, ExportUsageError, reason_of

from arch_export.precision import Precision

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

# What a CPU needs for bf16 matrix products, as Linux names it.
BF16_FLAGS = ("amx_bf16", "avx512_bf16")
# And for exact int8 products at full speed; as in the server's backend, which says why.
VNNI_FLAGS = ("avx512_vnni", "avx_vnni")
OPENVINO = "OpenVINOExecutionProvider"
# As in the server's backend, which says why.
SLOW_ON_CPU = ["SkipLayerNormFusion"]


class Session(Protocol):
    """What runs a graph; `onnxruntime.InferenceSession` is one."""

    def run(self, outputs: Sequence[str] | None, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The named outputs of the graph, by default all, for a batch of inputs."""


class OpenVinoSession:
    """OpenVINO's own runtime on the CPU, in bf16.

    Args:
        path: the ONNX file.

    Raises:
        ExportError: if OpenVINO cannot load the graph.
    """

    def __init__(self, path: Path) -> None:
        import openvino

        try:
            self.model = openvino.Core().compile_model(path, "CPU", _bf16_settings())
            chosen = self.model.get_property("INFERENCE_PRECISION_HINT").to_string()
        except Exception as error:  # OpenVINO's own errors are RuntimeErrors of many kinds
            raise ExportError(f"OpenVINO cannot load the bf16 graph ({reason_of(error)})") from error
        if chosen != "bf16":
            raise ExportUsageError(f"bf16 cannot be verified here: OpenVINO chooses {chosen} for this CPU; export int8")
        self._request = self.model.create_infer_request()

    def run(self, outputs: Sequence[str] | None, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """As `Session.run`."""
        found = self._request.infer(dict(feeds), share_inputs=True)
        ports = self.model.outputs if outputs is None else [self.model.output(name) for name in outputs]
        return [found[port] for port in ports]


def check_precision(precision: Precision) -> None:
    """See to it that a variant of this precision can be verified on this machine.

    Raises:
        ExportUsageError: if what runs it is not installed or the CPU lacks the instructions.
    """
    if precision is Precision.BF16:
        _openvino_device()


def open_session(path: Path, precision: Precision, options: onnxruntime.SessionOptions | None = None) -> Session:
    """A session on the CPU: bf16 through OpenVINO, everything else through ONNX Runtime's own kernels.

    OpenVINO's execution provider takes Intel's CPUs only; on others with bf16, OpenVINO's own runtime does the same.
    The CPU runs fp16 by way of fp32: rounded weights and casts show, overflow does not.

    Raises:
        ExportUsageError: as `check_precision`.
        ExportError: if the graph cannot be loaded.
    """
    options = options or onnxruntime.SessionOptions()
    providers: list[str] | None = ["CPUExecutionProvider"]
    if precision is Precision.BF16:
        device = _openvino_device()
        if device is None:
            return OpenVinoSession(path)
        options.add_provider_for_devices([device], {"load_config": json.dumps({"CPU": _bf16_settings()})})
        providers = None  # the options name it
    if precision is Precision.INT8 and not cpu_flags().intersection(VNNI_FLAGS):
        options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        session: Session = onnxruntime.InferenceSession(
            path, options, providers=providers, disabled_optimizers=SLOW_ON_CPU
        )
    except Exception as error:  # ONNX Runtime's own errors have no common base
        raise ExportError(f"ONNX Runtime cannot load the {precision} graph ({reason_of(error)})") from error
    return session


def _bf16_settings() -> dict[str, str]:
    return {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": str(len(os.sched_getaffinity(0)))}


def _openvino_device() -> onnxruntime.OrtEpDevice | None:
    """What OpenVINO's execution provider has for this CPU; None if OpenVINO's own runtime is to run it."""
    if not cpu_flags().intersection(BF16_FLAGS):
        raise ExportUsageError("bf16 cannot be verified here: this CPU has neither AMX nor AVX512-BF16; export int8")
    if importlib.util.find_spec("openvino") is None:
        raise ExportUsageError(
            "bf16 runs through OpenVINO, which is not installed: pip install 'arch-bench[openvino]' (in a clone: "
            "pip install '.[openvino]')"
        )
    return next(iter(_devices()), None)


@functools.cache  # a library can be registered once in a process
def _devices() -> list[onnxruntime.OrtEpDevice]:
    try:
        import onnxruntime_ep_openvino as plugin

        onnxruntime.register_execution_provider_library(OPENVINO, plugin.get_library_path())
    except Exception:  # not there, or not for this ONNX Runtime, whose own errors have no common base
        return []
    cpu = onnxruntime.OrtHardwareDeviceType.CPU
    return [one for one in onnxruntime.get_ep_devices() if one.ep_name == OPENVINO and one.device.type == cpu]


def cpu_flags() -> set[str]:
    """The instruction sets of this machine's CPU, as Linux names them."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("flags"):
            return set(line.split(":", 1)[1].split())
    return set()
