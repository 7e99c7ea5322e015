"""How a session over an exported graph is opened: provider, options, and what takes their place where they cannot be.

One file for who verifies a graph and for who serves it, so that nothing is verified in one way and served in another:
`arch_export` imports it, and `arch_serve` copies it beside the server's backend. So it needs ONNX Runtime and nothing
of arch.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import onnxruntime

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

OPENVINO = "OpenVINOExecutionProvider"
CUDA = "CUDAExecutionProvider"
# What a CPU needs for bf16 matrix products, as Linux names it.
BF16_FLAGS = ("amx_bf16", "avx512_bf16")
# Without, sums of two int8 products are kept in 16 bits, which weights of 8 bits overflow.
VNNI_FLAGS = ("avx512_vnni", "avx_vnni")

# ONNX Runtime 1.32 makes one operator of a residual sum and its layer norm, whose CPU kernel takes seven times as long
# as the norm's own: 3 % of a base encoder's time in fp32, 5 % in int8.
SLOW_ON_CPU = ["SkipLayerNormFusion"]


class SessionError(Exception):
    """A graph cannot be loaded; the message says why, in one line or in ONNX Runtime's own."""


class OtherPrecisionError(SessionError):
    """The runtime would compute in another precision than the one asked for."""


class Session(Protocol):
    """What runs a graph; `onnxruntime.InferenceSession` is one."""

    def run(self, outputs: Sequence[str] | None, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The named outputs of the graph, by default all, for a batch of inputs."""


class ServableSession(Session, Protocol):
    """One that also tells what it wants and what runs it; `onnxruntime.InferenceSession` is one."""

    def get_inputs(self) -> Sequence[Any]:
        """The graph's inputs."""

    def get_outputs(self) -> Sequence[Any]:
        """The graph's outputs."""

    def get_providers(self) -> Sequence[str]:
        """What executes the graph, the first one first."""


@dataclass(frozen=True)
class Opened:
    """A session, and what it really runs in.

    Attributes:
        session: over the graph.
        precision: what it computes in, which is not what was asked for where the machine cannot do that.
        note: why it is another one, or slow; empty if all is as it should be.
    """

    session: ServableSession
    precision: str
    note: str = ""

    @property
    def provider(self) -> str:
        """The execution provider."""
        return str(self.session.get_providers()[0])


class OpenVinoSession:
    """OpenVINO's own runtime on the CPU, in bf16, as a `Session`."""

    def __init__(self, path: Path, settings: dict[str, str]) -> None:
        import openvino

        self._model = openvino.Core().compile_model(path, "CPU", settings)
        chosen = self._model.get_property("INFERENCE_PRECISION_HINT").to_string()
        if chosen != "bf16":
            raise OtherPrecisionError(f"OpenVINO chooses {chosen} for this CPU, not bf16")
        self._request = self._model.create_infer_request()

    def run(self, outputs: Sequence[str] | None, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """As `Session.run`."""
        found = self._request.infer(dict(feeds), share_inputs=True)
        ports = self._model.outputs if outputs is None else [self._model.output(name) for name in outputs]
        return [found[port] for port in ports]

    def get_inputs(self) -> Sequence[Any]:
        """As `Session.get_inputs`."""
        return list(self._model.inputs)

    def get_outputs(self) -> Sequence[Any]:
        """As `Session.get_outputs`."""
        return list(self._model.outputs)

    def get_providers(self) -> Sequence[str]:
        """As `Session.get_providers`."""
        return ["OpenVINO"]


def session_options(threads: int | None = None) -> onnxruntime.SessionOptions:
    """The options of every session; `threads` of one operator, by default the cores that this process may use."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    # Threads that spin while they wait take cores from each other's work and from the clients on the same machine:
    # without, a batch of 8 was 25 % faster on 2 cores, one clip next to a busy client 50 %, and nothing got slower.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def open_on_cpu(path: Path, precision: str, options: onnxruntime.SessionOptions) -> Opened:
    """A session on the CPU: bf16 through OpenVINO, everything else through ONNX Runtime's own kernels.

    bf16 goes through OpenVINO's execution provider or, as that takes Intel's CPUs only, through its own runtime; on a
    CPU without bf16 the same graph runs in fp32, which gives the same embeddings more slowly. A CPU runs fp16 by way of
    fp32: rounded weights and casts show, overflow does not.

    Args:
        path: the ONNX file.
        precision: fp32, fp16, int8 or bf16; anything else runs as fp32 does.
        options: from `session_options`.

    Raises:
        OtherPrecisionError: if OpenVINO would not compute in bf16.
        SessionError: if the graph cannot be loaded, or OpenVINO is not installed: that can be mended, so bf16 does not
            become fp32.
    """
    note = ""
    if precision == "bf16" and (note := bf16_obstacle()):
        precision = "fp32"
    if precision == "bf16":
        return Opened(_in_bf16(path, options), precision)
    if precision == "int8" and not cpu_flags().intersection(VNNI_FLAGS):
        options.add_session_config_entry("session.x64quantprecision", "1")
        note = "this CPU has no VNNI: slow, because its fast int8 products overflow"
    return Opened(_in_onnxruntime(path, options, ["CPUExecutionProvider"], SLOW_ON_CPU), precision, note)


def open_on_gpu(
    path: Path, precision: str, options: onnxruntime.SessionOptions, device: str, search: str = "HEURISTIC"
) -> Opened:
    """A session on a GPU by ONNX Runtime's CUDA provider; it is on the CPU, by itself, where CUDA does not start.

    Args:
        path: the ONNX file.
        precision: that of the graph.
        options: from `session_options`.
        device: the number of the GPU.
        search: how cuDNN's algorithms for convolutions are chosen, as the provider names it.

    Raises:
        SessionError: if the graph cannot be loaded.
    """
    if hasattr(onnxruntime, "preload_dlls"):  # from 1.21 on
        onnxruntime.preload_dlls()  # CUDA and cuDNN as pip installs them are not on the loader's path
    settings = cuda_settings(precision) | {"device_id": device, "cudnn_conv_algo_search": search}
    session = _in_onnxruntime(path, options, [(CUDA, settings), "CPUExecutionProvider"], None)
    # Or a node that fails on the GPU has all run again on the CPU, now and from then on, and nobody is told.
    session.disable_fallback()  # type: ignore[attr-defined]
    return Opened(session, precision)


def cuda_settings(precision: str) -> dict[str, str]:
    """Options of the CUDA provider that a graph is verified with, by the names that NVIDIA's backend passes on too."""
    return {
        # fp32 is to be fp32: TF32, a default, keeps 10 bits of what it multiplies.
        "use_tf32": "1" if precision == "tf32" else "0",
        # Earlier versions sum a fused layer norm in fp16 otherwise, and overflow on what fp16 can hold (onnxruntime
        # pull request 28682); 1.31 is as fast either way.
        "enable_skip_layer_norm_strict_mode": "1",
    }


def _in_onnxruntime(
    path: Path, options: Any, providers: list[Any] | None, disabled: list[str] | None, engine: str = "ONNX Runtime"
) -> ServableSession:
    try:
        session: ServableSession = onnxruntime.InferenceSession(
            path, options, providers=providers, disabled_optimizers=disabled
        )
    except Exception as error:  # ONNX Runtime's own errors have no common base
        raise SessionError(f"{engine} cannot load {path.name}: {error}") from error
    return session


def _in_bf16(path: Path, options: onnxruntime.SessionOptions) -> ServableSession:
    if missing := missing_for_bf16():
        raise SessionError(missing)
    settings = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": str(options.intra_op_num_threads)}
    device = next(iter(_openvino_devices()), None)
    if device is not None:
        options.add_provider_for_devices([device], {"load_config": json.dumps({"CPU": settings})})
        return _in_onnxruntime(path, options, None, SLOW_ON_CPU, "OpenVINO")
    try:
        return OpenVinoSession(path, settings)
    except SessionError:
        raise
    except Exception as error:  # OpenVINO's own errors are RuntimeErrors of many kinds
        raise SessionError(f"OpenVINO cannot load {path.name}: {error}") from error


@functools.cache  # a library can be registered once in a process
def _openvino_devices() -> list[Any]:
    """What OpenVINO's execution provider has for this CPU: nothing if it is not installed or does not load."""
    try:
        import onnxruntime_ep_openvino as plugin

        onnxruntime.register_execution_provider_library(OPENVINO, plugin.get_library_path())
    except Exception:  # not there, or not for this ONNX Runtime, whose own errors have no common base
        return []
    cpu = onnxruntime.OrtHardwareDeviceType.CPU
    return [one for one in onnxruntime.get_ep_devices() if one.ep_name == OPENVINO and one.device.type == cpu]


def bf16_obstacle() -> str:
    """Why this CPU cannot multiply bf16; empty if it can."""
    return "" if cpu_flags().intersection(BF16_FLAGS) else "bf16 needs a CPU with AMX or AVX512-BF16"


def missing_for_bf16() -> str:
    """What to install for bf16; empty if it is there."""
    if importlib.util.find_spec("openvino") is not None:
        return ""
    return (
        "bf16 runs through OpenVINO, which is not installed: pip install 'arch-bench[openvino]' (in a clone: pip "
        "install '.[openvino]')"
    )


def has_cuda() -> bool:
    """Whether this ONNX Runtime was built with CUDA."""
    return CUDA in onnxruntime.get_available_providers()


def cpu_flags() -> set[str]:
    """The instruction sets of this machine's CPU, as Linux names them."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    return set(text.split("flags", 1)[-1].split("\n", 1)[0].split())


def usable_cores() -> int:
    """The cores that this process may use: a container's quota can be far less than the machine's."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="utf-8").split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no control groups of version 2, or no quota: "max"
        return cores
