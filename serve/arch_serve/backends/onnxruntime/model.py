"""The `onnxruntime` backend for a tritonserver that lacks NVIDIA's C++ one, as a Python-based backend.

Triton runs this file for every model with `backend: "onnxruntime"` when the backend directory holds
`onnxruntime/model.py` and no `libtriton_onnxruntime.so`. It reads the same keys of config.pbtxt as the C++ backend,
so that a model repository serves unchanged in either. It runs inside Triton's Python stub and imports nothing of the
package around it.

Beyond the C++ backend, it runs a model whose parameter `precision` is `bf16` in OpenVINO, if the CPU multiplies bf16:
through its execution provider or, as that takes Intel's CPUs only, in its own runtime. What a model really runs on is
told by the metric `arch_execution_info` on Triton's metrics endpoint, and in the log: this Triton's Python backend
knows no response parameters.
"""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils

if TYPE_CHECKING:
    from collections.abc import Sequence

# optimization.graph.level as the C++ backend reads it; it has no entry for 0, the default: everything.
_GRAPH_LEVELS = {
    -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}

_OPENVINO = "OpenVINOExecutionProvider"
_WITH_CUDA = "'onnxruntime-gpu[cuda,cudnn]' in place of 'onnxruntime'"
# What a CPU needs for bf16 matrix products, as Linux names it.
_BF16_FLAGS = {"amx_bf16", "avx512_bf16"}
# Without, sums of two int8 products are kept in 16 bits, which weights of 8 bits overflow.
_VNNI_FLAGS = {"avx512_vnni", "avx_vnni"}

# ONNX Runtime 1.32 makes one operator of a residual sum and its layer norm, whose CPU kernel takes seven times as long
# as the norm's own: 3 % of a base encoder's time in fp32, 5 % in int8.
_SLOW_ON_CPU = ["SkipLayerNormFusion"]


class TritonPythonModel:
    """One instance of one model: Triton calls `initialize` once and `execute` for every batch."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the ONNX file that the model configuration names.

        Args:
            args: What Triton says of the instance; `model_config` is JSON.

        Raises:
            TritonModelException: The model cannot be served; Triton shows the message as the model's reason.
        """
        if int(np.__version__.split(".")[0]) >= 2:
            # Triton 2.51's Python backend then answers with empty tensors, and says nothing.
            raise pb_utils.TritonModelException(f"NumPy {np.__version__} in the server's Python: install 'numpy<2'")
        config = json.loads(args["model_config"])
        self._batching = config["max_batch_size"] > 0
        self._inputs = [entry["name"] for entry in config["input"]]
        self._outputs = [entry["name"] for entry in config["output"]]
        filename = config["default_model_filename"] or "model.onnx"
        path = Path(args["model_repository"], args["model_version"], filename)
        if not path.is_file():
            raise pb_utils.TritonModelException(f"{path.parent.name}/{filename} is missing: export the model again")
        precision, note = _parameter(config, "precision"), ""
        on_cpu = args["model_instance_kind"] != "GPU"
        if not on_cpu and _parameter(config, "target") == "auto" and not _has_cuda():
            # Triton takes the GPU for a model that leaves the choice to it, whatever ONNX Runtime is installed.
            on_cpu, note = True, f"the GPU is not used: install {_WITH_CUDA}"
        options = _session_options(config)
        if precision == "bf16" and (reason := _no_bf16() if on_cpu else "bf16 is for CPUs"):
            precision, note = "fp32", reason
        if precision == "int8" and on_cpu and not _VNNI_FLAGS.intersection(_cpu_flags()):
            options.add_session_config_entry("session.x64quantprecision", "1")
            note = "this CPU has no VNNI: slow, because its fast int8 products overflow"
        try:
            if precision == "bf16":
                self._session = _bf16_session(path, options)
            else:
                providers = ["CPUExecutionProvider"] if on_cpu else _gpu_providers(args, config)
                slow = _SLOW_ON_CPU if on_cpu else None
                self._session = ort.InferenceSession(path, options, providers=providers, disabled_optimizers=slow)
        except pb_utils.TritonModelException:
            raise
        except Exception as error:
            engine = "OpenVINO" if precision == "bf16" else "ONNX Runtime"
            raise pb_utils.TritonModelException(f"{engine} cannot load {filename}: {error}") from error
        if not on_cpu and "CUDAExecutionProvider" not in self._session.get_providers():
            # ONNX Runtime goes on by itself, on the CPU.
            note = f"ONNX Runtime could not start CUDA, see Triton's log; it wants {_WITH_CUDA}"
            if _parameter(config, "target") != "auto":
                raise pb_utils.TritonModelException(f"KIND_GPU: {note}")
        _check_names("input", self._inputs, self._session.get_inputs())
        _check_names("output", self._outputs, self._session.get_outputs())
        self._report(args, config, precision, note)

    def _report(self, args: dict[str, str], config: dict[str, Any], precision: str, note: str) -> None:
        """Tell what the model runs on, as a metric of value 1 whose labels say it."""
        labels = {
            "model": args["model_name"],
            "version": args["model_version"],
            "content_hash": _parameter(config, "content_hash"),
            "execution_provider": self._session.get_providers()[0],
            "precision": precision,
            "note": note,
        }
        pb_utils.Logger.log_info(
            f"{args['model_name']} runs in {precision or 'its own precision'} on "
            f"{labels['execution_provider']}" + (f": {note}" if note else "")
        )
        # Both are kept: the metric goes when either object does.
        self._family = pb_utils.MetricFamily(
            name="arch_execution_info",
            description="What a model runs on",
            kind=pb_utils.MetricFamily.GAUGE,
        )
        self._metric = self._family.Metric(labels=labels)
        self._metric.set(1)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer the requests that Triton's scheduler put into one batch.

        Args:
            requests: `pb_utils.InferenceRequest`s of equal shapes but for the batch dimension.

        Returns:
            One `pb_utils.InferenceResponse` per request, in order.
        """
        batches = [requests] if self._batching else [[request] for request in requests]
        return [response for batch in batches for response in self._respond(batch)]

    def _respond(self, batch: Sequence[Any]) -> list[Any]:
        try:
            return self._infer(batch)
        except Exception as error:
            # An exception that left execute() would say the same, but with a traceback. Each response needs an error
            # object of its own: Triton crashes on one that is shared.
            reason = str(error)
            return [pb_utils.InferenceResponse([], pb_utils.TritonError(reason)) for _ in batch]

    def _infer(self, batch: Sequence[Any]) -> list[Any]:
        requested = [set(request.requested_output_names()) for request in batch]
        names = [name for name in self._outputs if any(name in wanted for wanted in requested)]
        feeds = {}
        for name in self._inputs:
            parts = [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for request in batch]
            rows = [len(part) for part in parts] if self._batching else []
            # A request alone stays where Triton put it.
            feeds[name] = parts[0] if len(parts) == 1 else np.concatenate(parts)
        results = dict(zip(names, self._session.run(names, feeds), strict=True))

        if not self._batching:
            return [pb_utils.InferenceResponse([pb_utils.Tensor(name, results[name]) for name in names])]
        for name, result in results.items():
            if result.shape[:1] != (sum(rows),):
                raise ValueError(f"output '{name}' has shape {result.shape} for a batch of {sum(rows)}")
        responses = []
        start = 0
        for wanted, count in zip(requested, rows, strict=True):
            own = {name: results[name][start : start + count] for name in names if name in wanted}
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor(*item) for item in own.items()]))
            start += count
        return responses


def _parameter(config: dict[str, Any], key: str) -> str:
    return str(config.get("parameters", {}).get(key, {}).get("string_value") or "")


def _session_options(config: dict[str, Any]) -> ort.SessionOptions:
    def integer(key: str) -> int:
        return int(_parameter(config, key) or 0)

    instances = sum(group["count"] * max(1, len(group["gpus"])) for group in config["instance_group"])
    share = max(1, _cores() // max(1, instances))
    level = int(config.get("optimization", {}).get("graph", {}).get("level", 0))

    options = ort.SessionOptions()
    options.intra_op_num_threads = integer("intra_op_thread_count") or share
    options.inter_op_num_threads = integer("inter_op_thread_count")
    if integer("execution_mode") == 1:
        options.execution_mode = ort.ExecutionMode.ORT_PARALLEL
    # Threads that spin while they wait take cores from each other's work and from the clients on the same machine:
    # without, a batch of 8 was 25 % faster on 2 cores, one clip next to a busy client 50 %, and nothing got slower.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.graph_optimization_level = _GRAPH_LEVELS.get(level, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
    return options


class _OpenVinoSession:
    """OpenVINO's own runtime, with the calls of an `ort.InferenceSession` that are used here."""

    def __init__(self, path: Path, settings: dict[str, str]) -> None:
        import openvino

        self._model = openvino.Core().compile_model(path, "CPU", settings)
        found = self._model.get_property("INFERENCE_PRECISION_HINT").to_string()
        if found != "bf16":
            raise RuntimeError(f"OpenVINO would run it in {found}, not in bf16")
        self._request = self._model.create_infer_request()

    def run(self, names: Sequence[str], feeds: dict[str, Any]) -> list[Any]:
        results = self._request.infer(feeds, share_inputs=True)
        return [results[self._model.output(name)] for name in names]

    def get_inputs(self) -> list[Any]:
        return list(self._model.inputs)

    def get_outputs(self) -> list[Any]:
        return list(self._model.outputs)

    def get_providers(self) -> list[str]:
        return ["OpenVINO"]


def _bf16_session(path: Path, options: ort.SessionOptions) -> Any:
    """OpenVINO in bf16.

    Raises:
        TritonModelException: It is not installed: a missing package can be mended, so the model does not run in fp32.
    """
    if importlib.util.find_spec("openvino") is None:
        raise pb_utils.TritonModelException("bf16 runs through OpenVINO: run `pip install 'arch-bench[openvino]'`")
    threads = str(options.intra_op_num_threads)
    settings = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": threads}
    for device in _openvino_devices():
        options.add_provider_for_devices([device], {"load_config": json.dumps({"CPU": settings})})
        return ort.InferenceSession(path, options)
    return _OpenVinoSession(path, settings)


def _openvino_devices() -> list[Any]:
    """What OpenVINO's execution provider has for this CPU: nothing if it is not installed or does not load."""
    try:
        import onnxruntime_ep_openvino as plugin

        ort.register_execution_provider_library(_OPENVINO, plugin.get_library_path())
    except Exception:
        return []
    cpu = ort.OrtHardwareDeviceType.CPU
    return [one for one in ort.get_ep_devices() if one.ep_name == _OPENVINO and one.device.type == cpu]


def _no_bf16() -> str:
    """Why this CPU runs a bf16 model in fp32, which gives the same embeddings more slowly; empty if it need not."""
    return "" if _BF16_FLAGS.intersection(_cpu_flags()) else "bf16 needs a CPU with AMX or AVX512-BF16"


def _cpu_flags() -> set[str]:
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    return set(text.split("flags", 1)[-1].split("\n", 1)[0].split())


def _cores() -> int:
    """The cores that this process may use: a container's quota can be far less than the machine's."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="utf-8").split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no control groups of version 2, or no quota: "max"
        return cores


def _has_cuda() -> bool:
    return "CUDAExecutionProvider" in ort.get_available_providers()


def _gpu_providers(args: dict[str, str], config: dict[str, Any]) -> list[Any]:
    accelerators = config.get("optimization", {}).get("execution_accelerators", {}).get("gpu_execution_accelerator", [])
    if any(accelerator["name"] == "tensorrt" for accelerator in accelerators):
        raise pb_utils.TritonModelException("TensorRT runs in NVIDIA's container: serve the repository there")
    if not _has_cuda():
        raise pb_utils.TritonModelException(f"KIND_GPU needs ONNX Runtime with CUDA: install {_WITH_CUDA}")
    ort.preload_dlls()  # CUDA and cuDNN as pip installs them are not on the loader's path
    # The default, EXHAUSTIVE, tunes the convolutions again for every new input shape. And fp32 is to be fp32: TF32,
    # also a default, keeps 10 bits of what it multiplies.
    options = {
        "device_id": args["model_instance_device_id"],
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": "0",
    }
    return [("CUDAExecutionProvider", options), "CPUExecutionProvider"]


def _check_names(kind: str, listed: list[str], ports: list[Any]) -> None:
    # OpenVINO knows an input by all names of the values that it has merged with it.
    names = [port.get_names() if hasattr(port, "get_names") else {port.name} for port in ports]
    # A graph's input must be fed; an output may go unserved.
    missing = kind == "input" and any(known.isdisjoint(listed) for known in names)
    if not listed or missing or not set(listed) <= set().union(*names):
        raise pb_utils.TritonModelException(
            f"config.pbtxt lists the {kind}s {sorted(listed)}, the ONNX graph has {sorted(map(min, names))}"
        )
