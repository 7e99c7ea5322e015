"""What the server's backend makes of hardware that is not here: a GPU, other CPUs, a container's quota.

Triton gives a model to its backend as a GPU's only where there is one, so Triton's side of the call is made up here.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import arch_serve
import numpy as np
import pytest
from arch_common import content, conv_search, session
from arch_serve.backends.onnxruntime import batches
from support.serve_models import add_model

pytestmark = pytest.mark.torch

BACKEND = Path(arch_serve.__file__).parent / "backends" / "onnxruntime" / "model.py"
Load = Callable[..., dict[str, str]]


class Metric:
    """Keeps the labels of the gauge that tells what a model runs on."""

    GAUGE, COUNTER = 0, 1
    labels: dict[str, str]

    def __init__(self, name: str, **_: object) -> None:
        self._name = name

    def Metric(self, labels: dict[str, str]) -> SimpleNamespace:  # noqa: N802
        if self._name == "arch_execution_info":
            Metric.labels = labels
        return SimpleNamespace(set=lambda _: None)


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    utils: Any = ModuleType("triton_python_backend_utils")
    utils.TritonModelException = type("TritonModelException", (Exception,), {})
    utils.Logger = SimpleNamespace(log_info=lambda _: None)
    utils.MetricFamily = Metric
    monkeypatch.setitem(sys.modules, utils.__name__, utils)
    monkeypatch.setitem(sys.modules, "arch_session", session)  # beside the backend they are copies
    monkeypatch.setitem(sys.modules, "arch_content", content)
    monkeypatch.setitem(sys.modules, "arch_conv_search", conv_search)
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = importlib.util.spec_from_file_location("arch_backend", BACKEND)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(session, "cpu_flags", lambda: {"avx512_vnni", "avx512_bf16"})
    monkeypatch.setattr(session, "has_cuda", lambda: False)
    return module


@pytest.fixture
def load(tmp_path: Path, backend: ModuleType) -> Load:
    """Load a model as an instance of the given kind; the labels of its metric."""

    add_model(tmp_path, "model")

    def run(kind: str, **parameters: str) -> dict[str, str]:
        config = {
            "max_batch_size": 4,
            "input": [{"name": "x"}],
            "output": [{"name": "sum"}],
            "default_model_filename": "",
            "instance_group": [{"count": 1, "gpus": []}],
            "parameters": {key: {"string_value": value} for key, value in parameters.items()},
        }
        backend.TritonPythonModel().initialize(
            {
                "model_config": json.dumps(config),
                "model_repository": str(tmp_path / "model"),
                "model_version": "1",
                "model_name": "model",
                "model_instance_name": "model_0",
                "model_instance_kind": kind,
                "model_instance_device_id": "0",
            }
        )
        return Metric.labels

    return run


def test_without_cuda_the_choice_falls_on_the_cpu_where_there_is_one(load: Load, backend: ModuleType) -> None:
    labels = load("GPU", target="auto", precision="fp32")
    assert labels["execution_provider"] == "CPUExecutionProvider"
    assert labels["note"] == "the GPU is not used: install 'onnxruntime-gpu[cuda,cudnn]' in place of 'onnxruntime'"


def test_what_was_loaded_is_told_beside_what_was_exported(load: Load, tmp_path: Path) -> None:
    files = tmp_path / "model" / "1"
    (files / "weights").write_bytes(b"of an external file")
    one = {name: hashlib.sha256((files / name).read_bytes()).digest() for name in ("model.onnx", "weights")}
    expected = hashlib.sha256(b"".join(name.encode() + b"\0" + digest for name, digest in one.items())).hexdigest()
    (files / ".DS_Store").touch()
    (files / "cache").mkdir()
    labels = load("CPU", content_hash=f"sha256:{expected}")
    assert (labels["content_hash"], labels["served_hash"]) == (f"sha256:{expected}",) * 2
    assert labels["note"] == ""
    was = (files / "weights").stat()
    (files / "weights").write_bytes(b"of another, as long")  # as long, and as old
    os.utime(files / "weights", ns=(was.st_atime_ns, was.st_mtime_ns))
    labels = load("GPU", content_hash=f"sha256:{expected}", target="auto")
    assert labels["served_hash"] != labels["content_hash"] == f"sha256:{expected}"
    assert labels["note"] == (
        "the GPU is not used: install 'onnxruntime-gpu[cuda,cudnn]' in place of 'onnxruntime'; it is not what was "
        "exported: its files were changed since"
    )
    assert load("CPU")["note"] == ""  # not of arch export


def test_a_gpu_that_was_asked_for_is_not_replaced(load: Load, backend: ModuleType) -> None:
    with pytest.raises(backend.pb_utils.TritonModelException, match="KIND_GPU needs ONNX Runtime with CUDA"):
        load("GPU", target="gpu", precision="fp32")


class GpuSession:
    """A session whose GPU refuses an operator, as ONNX Runtime tells of it; or runs all."""

    def __init__(self, refuses: bool) -> None:
        self._refuses = refuses

    def get_providers(self) -> list[str]:
        return [session.CUDA]

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="waveform"), SimpleNamespace(name="num_samples")]

    def get_outputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="embedding")]

    def run(self, _outputs: Any, feeds: Any) -> list[Any]:
        assert feeds["waveform"].shape == (1, 16000)
        if self._refuses:
            raise RuntimeError(
                "[ONNXRuntimeError] : 11 : EP_FAIL : Non-zero status code returned while running Conv node. "
                "Name:'node_positions' Status Message: CUDNN_FE failure 8: HEURISTIC_QUERY_FAILED ; GPU=0 ; "
                "hostname=here ; file=conv.cc ; line=455 ;\nand pages more"
            )
        return [None]


class GpuWay(batches.Batches):
    """Batches for a GPU where there is none."""

    told = ""
    refused: ClassVar[Exception | None] = None

    def __init__(self, opened: Any, device: int, lock: bytes) -> None:
        super().__init__(opened)
        assert (device, lock.endswith(b"/model-1-0.lock")) == (0, True)
        if self.refused is not None:
            raise self.refused

    def fault(self, names: list[str]) -> str:
        assert names == ["embedding"]
        return self.told


@pytest.fixture
def load_on_gpu(tmp_path: Path, backend: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Load an exported encoder as a GPU's, by a session that is made up."""
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "model.onnx").touch()
    monkeypatch.setattr(session, "has_cuda", lambda: True)

    def run(refuses: bool, **parameters: str) -> dict[str, str]:
        opened = lambda _path, precision, *_: session.Opened(GpuSession(refuses), precision)  # noqa: E731
        monkeypatch.setattr(session, "open_on_gpu", opened)
        monkeypatch.setattr(backend.batches, "GpuBatches", GpuWay)
        config = {
            "max_batch_size": 4,
            "input": [{"name": "waveform"}, {"name": "num_samples"}],
            "output": [{"name": "embedding"}],
            "default_model_filename": "",
            "instance_group": [{"count": 1, "gpus": [0]}],
            "parameters": {key: {"string_value": value} for key, value in parameters.items()},
        }
        backend.TritonPythonModel().initialize(
            {
                "model_config": json.dumps(config),
                "model_repository": str(tmp_path),
                "model_version": "1",
                "model_name": "model",
                "model_instance_name": "model_0",
                "model_instance_kind": "GPU",
                "model_instance_device_id": "0",
            }
        )
        return Metric.labels

    return run


def test_what_the_gpu_refuses_is_told_at_load_in_one_line(load_on_gpu: Load, backend: ModuleType) -> None:
    with pytest.raises(backend.pb_utils.TritonModelException) as caught:
        load_on_gpu(True, target="gpu", precision="fp16")
    assert str(caught.value) == (
        "KIND_GPU: Conv node 'node_positions' failed: CUDNN_FE failure 8: HEURISTIC_QUERY_FAILED; "
        "export it with --target cpu, or in another precision"
    )


def test_bf16_runs_on_the_gpu_that_it_was_exported_for(load_on_gpu: Load) -> None:
    labels = load_on_gpu(False, target="gpu", precision="bf16")
    assert (labels["precision"], labels["note"]) == ("bf16", "")
    labels = load_on_gpu(False, target="auto", precision="bf16")
    assert labels["precision"] == "fp32"
    assert labels["note"].startswith("it was exported for CPUs")


def test_copies_to_the_gpu_that_give_other_embeddings_are_told(
    load_on_gpu: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GpuWay, "told", "slow: batches differ")
    assert load_on_gpu(False, target="gpu", precision="fp16")["note"] == "slow: batches differ"
    monkeypatch.setattr(GpuWay, "refused", RuntimeError("CUDA's cuMemHostAlloc fails: out of memory (2)"))
    assert load_on_gpu(False, target="gpu", precision="fp16")["note"] == (
        "slow: batches are not copied beforehand: CUDA's cuMemHostAlloc fails: out of memory (2)"
    )


def test_a_batch_is_joined_in_memory_that_is_kept() -> None:
    batch = batches.Batches(session=None)
    random = np.random.default_rng(0)
    addresses = set()
    for rows, samples in ((4, 50), (2, 60), (3, 10), (4, 50)):
        parts = [random.standard_normal((1, samples)).astype(np.float32) for _ in range(rows)]
        joined = batch.joined("waveform", parts)
        np.testing.assert_array_equal(joined, np.concatenate(parts))
        addresses.add(joined.ctypes.data)
    assert len(addresses) == 1
    assert batch.joined("num_samples", [np.array([[7]]), np.array([[9]])]).tolist() == [[7], [9]]


@pytest.mark.parametrize("flags", [{"avx2"}, {"avx2", "avx512f"}])
def test_int8_without_vnni_does_not_overflow(
    load: Load, backend: ModuleType, monkeypatch: pytest.MonkeyPatch, flags: set[str]
) -> None:
    entries = []

    class Options(backend.ort.SessionOptions):  # type: ignore[name-defined,misc]
        def add_session_config_entry(self, key: str, value: str) -> None:
            entries.append((key, value))
            super().add_session_config_entry(key, value)

    monkeypatch.setattr(backend.ort, "SessionOptions", Options)
    assert load("CPU", precision="int8")["note"] == ""
    assert ("session.x64quantprecision", "1") not in entries
    monkeypatch.setattr(session, "cpu_flags", lambda: flags)
    assert load("CPU", precision="int8")["note"].startswith("this CPU has no VNNI")
    assert ("session.x64quantprecision", "1") in entries
    labels = load("CPU", precision="bf16")
    assert (labels["precision"], labels["note"]) == ("fp32", "bf16 needs a CPU with AMX or AVX512-BF16")


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        *(("max 100000", None), ("100000 100000", 1), ("50000 100000", 1), ("150000 100000", 1)),
        *(("12800000 100000", None), ("", None)),
    ],
)
def test_a_containers_quota_bounds_the_threads(
    backend: ModuleType, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int | None
) -> None:
    class Files:
        def __init__(self, path: str) -> None:
            assert path == "/sys/fs/cgroup/cpu.max"

        def read_text(self, encoding: str) -> str:  # noqa: ARG002
            return quota

    monkeypatch.setattr(session, "Path", Files)
    options = backend._session_options({"instance_group": [{"count": 1, "gpus": []}]})
    assert options.intra_op_num_threads == (cores or len(os.sched_getaffinity(0)))
