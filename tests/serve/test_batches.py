"""How the server's backend brings batches to a GPU, by a driver and a session that are made up: none is here."""

from __future__ import annotations

import ctypes
import fcntl
import multiprocessing
import os
import re
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from arch_serve.backends.onnxruntime import batches

OUT_OF_MEMORY = 2


class Cuda:
    """CUDA's driver with the host's memory for the GPU's; calls are counted, and what is freed is known."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.memory: dict[int, Any] = {}
        self.room = 1 << 30
        self.refused: set[str] = set()
        self.stale = False

    def __getattr__(self, function: str) -> Any:
        def call(*arguments: Any) -> int:
            self.calls.append(function)
            known = getattr(type(self), f"_{function}", None)
            if function in self.refused:
                return OUT_OF_MEMORY
            return int(known(self, *arguments)) if known else 0

        return call

    def _allocate(self, address: Any, size: Any) -> int:
        if sum(len(one) for one in self.memory.values()) + size.value > self.room:
            return OUT_OF_MEMORY
        memory = (ctypes.c_uint8 * size.value)()
        self.memory[ctypes.addressof(memory)] = memory
        address._obj.value = ctypes.addressof(memory)
        return 0

    def _cuMemHostAlloc(self, address: Any, size: Any, _flags: Any) -> int:  # noqa: N802
        return self._allocate(address, size)

    def _cuMemAlloc_v2(self, address: Any, size: Any) -> int:  # noqa: N802
        return self._allocate(address, size)

    def _cuMemFree_v2(self, address: Any) -> int:  # noqa: N802
        if address.value:
            del self.memory[address.value]
        return 0

    def _cuMemFreeHost(self, address: Any) -> int:  # noqa: N802
        del self.memory[address.value]
        return 0

    def _cuMemcpyHtoD_v2(self, address: Any, source: Any, size: Any) -> int:  # noqa: N802
        if not self.stale:
            ctypes.memmove(address.value, source.value, size.value)
        return 0

    def _cuGetErrorString(self, _status: Any, text: Any) -> int:  # noqa: N802
        text._obj.value = b"out of memory"
        return 0


class Session:
    """Sums each clip's samples, read from where they were bound."""

    runs = 0
    shift = 0.0

    def io_binding(self) -> Any:
        bound: dict[str, Any] = {"outputs": []}

        def bind_input(name: str, device: str, number: int, dtype: Any, shape: tuple[int, ...], address: int) -> None:
            assert (name, device, number, dtype) == ("waveform", "cuda", 1, np.float32)
            size = int(np.prod(shape))
            bound[name] = np.ctypeslib.as_array((ctypes.c_float * size).from_address(address)).reshape(shape)

        return SimpleNamespace(
            bound=bound,
            bind_input=bind_input,
            bind_cpu_input=bound.__setitem__,
            bind_output=lambda name, device: bound["outputs"].append((name, device)),
            get_outputs=lambda: bound["found"],
        )

    def run(self, names: list[str], feeds: dict[str, Any]) -> list[Any]:
        return [{"sum": feeds["waveform"].sum(axis=1), "count": feeds["num_samples"][:, 0]}[name] for name in names]

    def run_with_iobinding(self, binding: Any) -> None:
        self.runs += 1
        bound = binding.bound
        values = {"sum": bound["waveform"].sum(axis=1) + self.shift, "count": bound["num_samples"][:, 0]}
        bound["found"] = [SimpleNamespace(numpy=values[name].copy) for name, _ in bound["outputs"]]


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    driver = Cuda()
    monkeypatch.setattr(ctypes, "CDLL", lambda _: driver)
    return driver


def parts_of(rows: int, samples: int) -> dict[str, list[Any]]:
    random = np.random.default_rng(rows * samples)
    return {
        "waveform": [random.standard_normal((1, samples)).astype(np.float32) for _ in range(rows)],
        "num_samples": [np.full((1, 1), samples, np.int64) for _ in range(rows)],
    }


def test_batches_of_any_size_are_answered_from_memory_that_grows(cuda: Cuda, tmp_path: Path) -> None:
    own = batches.GpuBatches(Session(), 1, bytes(tmp_path / "model.lock"))
    for rows, samples in ((1, 400), (4, 300), (2, 100), (8, 500)):
        parts = parts_of(rows, samples)
        counts, sums = own.run(["count", "sum"], parts)
        np.testing.assert_array_equal(sums, np.concatenate(parts["waveform"]).sum(axis=1))
        assert counts.tolist() == [samples] * rows
    # The waveforms' on the host and on the GPU: what was too small was given back.
    assert sorted(len(one) for one in cuda.memory.values()) == [16000, 16000]
    assert cuda.calls.count("cuMemAlloc_v2") == 3  # the third batch had room


def test_what_comes_out_is_held_against_onnx_runtimes_own_copies(cuda: Cuda, tmp_path: Path) -> None:
    own = batches.GpuBatches(Session(), 1, bytes(tmp_path / "model.lock"))
    assert own.fault(["sum", "count"]) == ""
    cuda.stale = True
    assert re.fullmatch(r"slow: batches copied beforehand give embeddings that are \d\.\de\S+ off", own.fault(["sum"]))
    Session.shift = float("nan")
    try:
        assert "1.0e+00 off" in own.fault(["sum"])
    finally:
        Session.shift = 0.0


def test_where_the_gpus_memory_is_full_onnx_runtime_copies_until_there_is_room(cuda: Cuda, tmp_path: Path) -> None:
    session = Session()
    own = batches.GpuBatches(session, 1, bytes(tmp_path / "model.lock"))
    own.run(["sum"], parts_of(2, 100))
    cuda.room = 0
    for parts in (parts_of(4, 100), parts_of(8, 50), parts_of(4, 100)):
        (sums,) = own.run(["sum"], parts)
        np.testing.assert_array_equal(sums, np.concatenate(parts["waveform"]).sum(axis=1))
    assert session.runs == 1  # the first, which there was room for
    with pytest.raises(RuntimeError, match=r"^CUDA's cuMemHostAlloc fails: out of memory \(2\)$"):
        own.fault(["sum"])  # a model that is loaded then says that it is slow
    cuda.room = 1 << 30
    before = session.runs
    (sums,) = own.run(["sum"], parts_of(4, 100))
    assert len(sums) == 4
    assert session.runs == before + 1


def test_a_driver_that_is_not_there_or_refuses_is_an_error(cuda: Cuda, tmp_path: Path) -> None:
    cuda.refused.add("cuInit")
    with pytest.raises(RuntimeError, match=r"^CUDA's cuInit fails: out of memory \(2\)$"):
        batches.GpuBatches(Session(), 1, bytes(tmp_path / "model.lock"))


def _hold(path: Path, held: Any) -> None:
    lock = os.open(path, os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    held.set()
    threading.Event().wait()


def test_an_instance_copies_while_another_computes_and_computes_when_that_ends_or_dies(
    cuda: Cuda, tmp_path: Path
) -> None:
    session = Session()
    own = batches.GpuBatches(session, 1, bytes(tmp_path / "model.lock"))
    context = multiprocessing.get_context("fork")
    held = context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "model.lock", held))
    other.start()
    assert held.wait(30)
    run = threading.Thread(target=own.run, args=(["sum"], parts_of(2, 100)))
    run.start()
    while "cuMemcpyHtoD_v2" not in cuda.calls:
        assert run.is_alive()
    run.join(0.2)  # long enough to compute, were it not another's turn
    assert run.is_alive()
    assert session.runs == 0
    other.kill()
    run.join(30)
    assert session.runs == 1
