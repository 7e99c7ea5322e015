"""The `onnxruntime` backend for a tritonserver that lacks NVIDIA's C++ one, as a Python-based backend.

Triton runs this file for every model with `backend: "onnxruntime"` when the backend directory holds
`onnxruntime/model.py` and no `libtriton_onnxruntime.so`. It reads the same keys of config.pbtxt as the C++ backend,
so that a model repository serves unchanged in either. It runs inside Triton's Python stub and imports of the packages
around it only what lies beside it: `batches.py`, and copies of files of `arch_common`, `session.py`, which opened the
graph when it was verified, `content.py`, which hashed it when it was exported, and `conv_search.py`.

Beyond the C++ backend, it runs a model whose parameter `precision` is `bf16` in OpenVINO, if the CPU multiplies bf16.
What a model really runs on, and the hash of what was loaded, is told by the metric `arch_execution_info` on Triton's
metrics endpoint, and in the log: this Triton's Python backend knows no response parameters.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arch_common import content, conv_search
    from arch_common import session as sessions
    from arch_serve.backends.onnxruntime import batches
else:
    sys.path.insert(0, str(Path(__file__).parent))
    import arch_content as content
    import arch_conv_search as conv_search
    import arch_session as sessions
    import batches

# optimization.graph.level as the C++ backend reads it; it has no entry for 0, the default: everything.
_GRAPH_LEVELS = {
    -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}

_WITH_CUDA = "'onnxruntime-gpu[cuda,cudnn]' in place of 'onnxruntime'"
# Of ONNX Runtime's message, which goes on for pages where cuDNN or CUDA fail.
_FAILED_NODE = re.compile(
    r"while running (?P<operator>\S+) node\. Name:'(?P<name>[^']*)' Status Message: (?P<why>[^\n;]*)"
)
_CHANGED = "it is not what was exported: its files were changed since"
# Looked for up to here: an encoder of this family needs 25 ms.
_SHORTEST_AT_MOST = 16000
_LOOK_SECONDS = 1.0
_OTHER_LENGTHS = (8000, 16000)


class TritonPythonModel:
    """One instance of one model: Triton calls `initialize` once and `execute` for every batch."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the ONNX file that the model configuration names.

        Args:
            args: What Triton says of the instance; `model_config` is JSON.

        Raises:
            TritonModelException: The model cannot be served; Triton shows the message as the model's reason.
        """
        began = time.monotonic()
        if int(np.__version__.split(".")[0]) >= 2:
            # Triton 2.51's Python backend then answers with empty tensors, and says nothing.
            raise pb_utils.TritonModelException(f"NumPy {np.__version__} in the server's Python: install 'numpy<2'")
        config = json.loads(args["model_config"])
        self._name = args["model_name"]
        self._batching = config["max_batch_size"] > 0
        self._inputs = [entry["name"] for entry in config["input"]]
        self._outputs = [entry["name"] for entry in config["output"]]
        filename = config["default_model_filename"] or "model.onnx"
        path = _version_folder(args) / filename
        if not path.is_file():
            raise pb_utils.TritonModelException(
                f"{args['model_version']}/{filename} is missing: export the model again"
            )
        precision, target = _parameter(config, "precision"), _parameter(config, "target")
        on_cpu, note = args["model_instance_kind"] != "GPU", ""
        if not on_cpu and target == "auto" and not sessions.has_cuda():
            # Triton takes the GPU for a model that leaves the choice to it, whatever ONNX Runtime is installed.
            on_cpu, note = True, f"the GPU is not used: install {_WITH_CUDA}"
        options = _session_options(config)
        try:
            if on_cpu:
                opened = sessions.open_on_cpu(path, precision, options)
            else:
                _check_gpu(config)
                if precision == "bf16" and target != "gpu":
                    precision, note = "fp32", "it was exported for CPUs, where OpenVINO makes bf16 of it"
                search = conv_search.name_of(_parameter(config, conv_search.PARAMETER)).upper()
                opened = sessions.open_on_gpu(path, precision, options, args["model_instance_device_id"], search)
        except sessions.SessionError as error:
            raise pb_utils.TritonModelException(str(error)) from error
        self._session = opened.session
        if not on_cpu and opened.provider != sessions.CUDA:
            # ONNX Runtime goes on by itself, on the CPU.
            note = f"ONNX Runtime could not start CUDA, see Triton's log; it wants {_WITH_CUDA}"
            if target != "auto":
                raise pb_utils.TritonModelException(f"KIND_GPU: {note}")
        _check_names("input", self._inputs, self._session.get_inputs())
        _check_names("output", self._outputs, self._session.get_outputs())
        self._is_encoder = {port.name for port in self._session.get_inputs()} == {"waveform", "num_samples"}
        self._provider = opened.provider
        self._batches = batches.Batches(self._session)
        if opened.provider == sessions.CUDA and self._is_encoder:
            note = self._take_gpu(args) or note
        self._shortest = int(_parameter(config, "receptive_field") or 0)
        # They come first, and have a num_samples of 0: Triton makes zeros or random numbers.
        self._warmups = sum(max(1, one.get("count", 1)) for one in config.get("model_warmup", []) if one["batch_size"])
        took = time.monotonic() - began
        self._report(args, config, opened, [opened.note or note], content.content_hash(path.parent))
        self._tell_footprint(args, _parameter(config, "content_hash"), path.parent, took)

    def _report(
        self, args: dict[str, str], config: dict[str, Any], opened: sessions.Opened, notes: list[str], served: str
    ) -> None:
        """Tell what the model runs on, as a metric of value 1 whose labels say it, and prepare to count failures."""
        exported = _parameter(config, "content_hash")
        if exported and exported != served:
            notes.append(_CHANGED)
        note = "; ".join(filter(None, notes))
        model = {"model": args["model_name"], "version": args["model_version"]}
        labels = {
            **model,
            # Tells this server from others of its machine, whose models have the same names.
            "server": os.environ.get("ARCH_SERVER_ID", ""),
            "content_hash": exported,
            "served_hash": served,
            "execution_provider": opened.provider,
            "precision": opened.precision,
            "note": note,
        }
        pb_utils.Logger.log_info(
            f"{args['model_name']} runs in {opened.precision or 'its own precision'} on "
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
        # Triton's own counter has one flag for all requests of an execution.
        self._failure_family = pb_utils.MetricFamily(
            name="arch_failed_requests_total",
            description="Requests that a model answered with an error, those whose batch mates succeeded too",
            kind=pb_utils.MetricFamily.COUNTER,
        )
        self._failures = self._failure_family.Metric(labels=model)

    def _tell_footprint(self, args: dict[str, str], exported: str, folder: Path, load_seconds: float) -> None:
        """Tell what this instance takes, as metrics with labels of its own; the peak of its memory may yet grow."""
        labels = {
            "model": args["model_name"],
            "version": args["model_version"],
            "instance": args["model_instance_name"],
            "server": os.environ.get("ARCH_SERVER_ID", ""),
            "content_hash": exported,
        }
        files = [file for file in folder.iterdir() if file.is_file() and not file.name.startswith(".")]
        self._families, self._footprint = [], {}
        for name, what, value in (
            ("arch_instance_peak_memory_bytes", "Most resident memory of an instance's process", _peak_memory()),
            ("arch_instance_disk_bytes", "Size of the model's files", sum(file.stat().st_size for file in files)),
            ("arch_instance_load_seconds", "Time to read and optimise the graph", load_seconds),
        ):
            family = pb_utils.MetricFamily(name=name, description=what, kind=pb_utils.MetricFamily.GAUGE)
            self._families.append(family)  # a metric goes when its family's object does
            self._footprint[name] = family.Metric(labels=labels)
            self._footprint[name].set(value)
        self._looked = time.monotonic()

    def _look_at_memory(self) -> None:
        """Tell the peak of the memory anew, at most once a second: to tell it is a message to Triton."""
        if time.monotonic() - self._looked >= _LOOK_SECONDS:
            self._footprint["arch_instance_peak_memory_bytes"].set(_peak_memory())
            self._looked = time.monotonic()

    def _take_gpu(self, args: dict[str, str]) -> str:
        """Run a clip of a second, so that what the GPU refuses is told now; gives what there is to note."""
        try:
            self._session.run(None, _silence(16000))
        except Exception as error:  # ONNX Runtime's own errors have no common base
            raise pb_utils.TritonModelException(
                f"KIND_GPU: {_in_one_line(error)}; export it with --target cpu, or in another precision"
            ) from error
        device = args["model_instance_device_id"]
        turns = batches.beside_this(f"{args['model_name']}-{args['model_version']}-{device}.lock")
        try:
            own = batches.GpuBatches(self._session, int(device), turns)
            fault = own.fault(self._outputs)
        except Exception as error:  # likewise
            fault = f"slow: batches are not copied beforehand: {error}"
        self._batches = self._batches if fault else own
        return fault

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer the requests that Triton's scheduler put into one batch.

        Args:
            requests: `pb_utils.InferenceRequest`s of equal shapes but for the batch dimension.

        Returns:
            One `pb_utils.InferenceResponse` per request, in order.
        """
        checked = self._is_encoder and not self._warmups
        self._warmups = max(0, self._warmups - 1)
        batches = [requests] if self._batching else [[request] for request in requests]
        responses = [response for batch in batches for response in self._respond(batch, checked)]
        self._look_at_memory()
        failed = [response for response in responses if response.has_error()]
        if failed:
            self._failures.increment(len(failed))
            reason = failed[0].error().message()
            pb_utils.Logger.log_error(f"{self._name}: {len(failed)} of {len(requests)} requests failed: {reason}")
        if len(failed) == len(requests):
            # Triton counts an execution as failed only if execute() does. An exception would say the reason behind a
            # prefix and before a traceback, so the answers are sent first; to return them once more is the error.
            for request, response in zip(requests, responses, strict=True):
                request.get_response_sender().send(response, pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        return responses

    def _respond(self, batch: Sequence[Any], checked: bool) -> list[Any]:
        """A response for each request: what is wrong with one is no error of the others."""
        faults = [self._fault(request) if checked else "" for request in batch]
        sound = [request for request, fault in zip(batch, faults, strict=True) if not fault]
        try:
            answers = iter(self._infer(sound) if sound else [])
        except Exception as error:
            self._forget()
            fault = self._too_short(sound)
            code = pb_utils.TritonError.INVALID_ARG if fault else pb_utils.TritonError.INTERNAL
            answers = iter([_failure(fault or _in_one_line(error), code) for _ in sound])
        invalid = pb_utils.TritonError.INVALID_ARG
        return [_failure(fault, invalid) if fault else next(answers) for fault in faults]

    def _fault(self, request: Any) -> str:
        """Why a clip cannot be embedded, as far as its tensors show; the graph would take any `num_samples`."""
        samples = _tensor(request, "waveform").shape[-1]
        if samples < max(1, self._shortest):
            return self._too_short([request])
        counts = _tensor(request, "num_samples")
        wrong = counts[(counts < 1) | (counts > samples)]
        if not wrong.size:
            return ""
        return f"num_samples must be from 1 to the {samples} samples of waveform, not {wrong[0]}"

    def _too_short(self, batch: Sequence[Any]) -> str:
        """Say what a clip must have if these, of one length, have less; empty if that is not their fault."""
        samples = _tensor(batch[0], "waveform").shape[-1] if self._is_encoder else _SHORTEST_AT_MOST
        if samples < _SHORTEST_AT_MOST and not self._shortest:
            self._shortest = self._find_shortest()
        if samples >= self._shortest:
            return ""
        return f"waveform must have at least {self._shortest} samples, not {samples}"

    def _find_shortest(self) -> int:
        """The fewest samples that the graph takes; 0 if it does not take a second either."""
        least, most = 0, 1
        while not self._takes(most):
            if most >= _SHORTEST_AT_MOST:
                return 0
            least, most = most, 2 * most
        while most - least > 1:
            middle = (least + most) // 2
            least, most = (least, middle) if self._takes(middle) else (middle, most)
        return most

    def _takes(self, samples: int) -> bool:
        try:
            self._session.run(None, _silence(samples))
        except Exception:  # ONNX Runtime's own errors have no common base
            self._forget()
            return False
        return True

    def _forget(self) -> None:
        """Have OpenVINO forget a run that failed.

        It takes shapes for prepared that are those of the last run but one, the last that went well, and so fails at
        every further clip of that length. Two lengths, because one may be just that.
        """
        if self._is_encoder and self._provider.startswith("OpenVINO"):
            for samples in _OTHER_LENGTHS:
                with contextlib.suppress(Exception):
                    self._session.run(None, _silence(samples))

    def _infer(self, batch: Sequence[Any]) -> list[Any]:
        requested = [set(request.requested_output_names()) for request in batch]
        names = [name for name in self._outputs if any(name in wanted for wanted in requested)]
        parts = {name: [_tensor(request, name) for request in batch] for name in self._inputs}
        results = dict(zip(names, self._batches.run(names, parts), strict=True))

        if not self._batching:
            return [pb_utils.InferenceResponse([pb_utils.Tensor(name, results[name]) for name in names])]
        rows = [len(part) for part in parts[self._inputs[0]]]
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


def _version_folder(args: dict[str, str]) -> Path:
    """The folder of the model's files, by a path of plain ASCII.

    The stub's Python takes paths for ASCII, whatever the locale; ONNX Runtime and OpenVINO take UTF-8.
    """
    folder = f"{args['model_repository']}/{args['model_version']}".encode()
    return Path(f"/proc/self/fd/{os.open(folder, os.O_RDONLY | os.O_DIRECTORY)}")


def _peak_memory() -> int:
    """Bytes; 0 where the system does not tell. Not getrusage's: that keeps what was before the exec, Triton's own."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return 0


def _tensor(request: Any, name: str) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
    return array


def _silence(samples: int) -> dict[str, np.ndarray[Any, Any]]:
    """A clip as the encoders of arch export take it."""
    return {"waveform": np.zeros((1, samples), np.float32), "num_samples": np.full((1, 1), samples, np.int64)}


def _failure(reason: str, code: Any) -> Any:
    """An error response; each needs an error object of its own, because Triton crashes on one that is shared."""
    return pb_utils.InferenceResponse([], pb_utils.TritonError(reason, code))


def _in_one_line(error: Exception) -> str:
    failed = _FAILED_NODE.search(str(error))
    if failed is None:
        return str(error)
    return f"{failed['operator']} node {failed['name']!r} failed: {failed['why'].strip()}"


def _parameter(config: dict[str, Any], key: str) -> str:
    return str(config.get("parameters", {}).get(key, {}).get("string_value") or "")


def _session_options(config: dict[str, Any]) -> ort.SessionOptions:
    def integer(key: str) -> int:
        return int(_parameter(config, key) or 0)

    instances = sum(group["count"] * max(1, len(group["gpus"])) for group in config["instance_group"])
    level = int(config.get("optimization", {}).get("graph", {}).get("level", 0))
    share = max(1, sessions.usable_cores() // max(1, instances))

    options = sessions.session_options(integer("intra_op_thread_count") or share)
    options.inter_op_num_threads = integer("inter_op_thread_count")
    if integer("execution_mode") == 1:
        options.execution_mode = ort.ExecutionMode.ORT_PARALLEL
    options.graph_optimization_level = _GRAPH_LEVELS.get(level, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
    return options


def _check_gpu(config: dict[str, Any]) -> None:
    accelerators = config.get("optimization", {}).get("execution_accelerators", {}).get("gpu_execution_accelerator", [])
    if any(accelerator["name"] == "tensorrt" for accelerator in accelerators):
        raise pb_utils.TritonModelException("TensorRT runs in NVIDIA's container: serve the repository there")
    if not sessions.has_cuda():
        raise pb_utils.TritonModelException(f"KIND_GPU needs ONNX Runtime with CUDA: install {_WITH_CUDA}")


def _check_names(kind: str, listed: list[str], ports: Sequence[Any]) -> None:
    # OpenVINO knows an input by all names of the values that it has merged with it.
    names = [port.get_names() if hasattr(port, "get_names") else {port.name} for port in ports]
    # A graph's input must be fed; an output may go unserved.
    missing = kind == "input" and any(known.isdisjoint(listed) for known in names)
    if not listed or missing or not set(listed) <= set().union(*names):
        raise pb_utils.TritonModelException(
            f"config.pbtxt lists the {kind}s {sorted(listed)}, the ONNX graph has {sorted(map(min, names))}"
        )
