"""How a batch gets into a session and its outputs out of it again; on a GPU, beside the computing of others.

The instances of a model are processes, which a GPU serves in slices of time: two that compute at once are each half as
fast, and lose what the switching takes. So they take turns: one computes, and meanwhile the other takes its requests
in, joins them and copies them to the GPU. On an H100 that made 968 clips/s of 884 (docs/gpu.md).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Array = np.ndarray[Any, Any]

_CHECKED, _SAMPLES = 3, 16000
_MOST_DIFFERENT = 0.02  # of the largest number: more than kernels that are chosen anew differ by in bf16
_PORTABLE = 1  # of cuMemHostAlloc: pinned for every context of the process, that of ONNX Runtime too


def beside_this(name: str) -> bytes:
    """The path of a file beside this one; in bytes, because the stub's Python takes names for ASCII."""
    return os.path.join(os.fsencode(os.path.dirname(__file__)), name.encode())  # noqa: PTH118, PTH120


class Batches:
    """Runs the parts of a batch as one, in memory that is kept: the system clears every page of new memory first."""

    def __init__(self, session: Any) -> None:
        """Over an open session."""
        self._session = session
        self._buffers: dict[str, Array] = {}

    def run(self, names: list[str], parts: Mapping[str, Sequence[Array]]) -> list[Array]:
        """Run a batch.

        Args:
            names: of the outputs.
            parts: of each input, equal in shape but for the batch dimension.

        Returns:
            The outputs, in the order of `names`.
        """
        # A request alone stays where Triton put it.
        feeds = {name: own[0] if len(own) == 1 else self.joined(name, own) for name, own in parts.items()}
        found: list[Array] = self._session.run(names, feeds)
        return found

    def joined(self, name: str, parts: Sequence[Array]) -> Array:
        """The parts of an input as one array, until the next call for that input."""
        size = sum(part.size for part in parts)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            if buffer is not None:
                self._release(self._buffers.pop(name))
            buffer = self._buffers[name] = self._memory(size, parts[0].dtype)
        batch = buffer[:size].reshape(-1, *parts[0].shape[1:])
        return np.concatenate(parts, out=batch)

    def _memory(self, size: int, dtype: np.dtype[Any]) -> Array:
        return np.empty(size, dtype)

    def _release(self, buffer: Array) -> None:
        """Give memory back that the system does not take back by itself."""


class GpuBatches(Batches):
    """Runs the batches of an encoder on a GPU: joined in pinned memory, copied before it is this instance's turn.

    Memory that is not pinned is copied by way of a small piece that is: at 8 GB/s in place of 54 on an H100.
    """

    def __init__(self, session: Any, device: int, lock: bytes) -> None:
        """Over an open session.

        Args:
            session: of the CUDA provider.
            device: the number of the GPU.
            lock: path of a file that the instances of the model on that GPU share; made if it is not there.

        Raises:
            OSError: if there is no driver, or no file can be made there.
            RuntimeError: if the driver refuses.
        """
        super().__init__(session)
        self._driver = CudaDriver(device)
        self._device = device
        self._lock = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._copy = (0, 0)  # address and bytes of the waveforms' memory on the GPU

    def run(self, names: list[str], parts: Mapping[str, Sequence[Array]]) -> list[Array]:
        """As `Batches.run`."""
        try:
            waveform = self._copied(parts["waveform"])
        except RuntimeError:  # the GPU's memory is full, but for what ONNX Runtime holds and may have room in
            with self._turn():
                return self._plain(names, parts)
        return self._run(names, waveform, parts["num_samples"])

    def _plain(self, names: list[str], parts: Mapping[str, Sequence[Array]]) -> list[Array]:
        """Run a batch by ONNX Runtime's own copies."""
        found: list[Array] = self._session.run(names, {name: np.concatenate(own) for name, own in parts.items()})
        return found

    def _copied(self, parts: Sequence[Array]) -> Array:
        """The waveforms as one array, of which there is a copy on the GPU.

        Raises:
            RuntimeError: if the driver refuses, as it does where memory is full.
        """
        self._driver.enter()
        waveform = self.joined("waveform", parts)
        address, room = self._copy
        if room < waveform.nbytes:
            self._driver.free(address)
            self._copy = (0, 0)  # should there be no memory for more
            address = self._driver.allocate(waveform.nbytes)
            self._copy = (address, waveform.nbytes)
        self._driver.copy(address, waveform)
        return waveform

    def _run(self, names: list[str], waveform: Array, counts: Sequence[Array]) -> list[Array]:
        binding = self._session.io_binding()
        binding.bind_input("waveform", "cuda", self._device, np.float32, waveform.shape, self._copy[0])
        lengths = np.concatenate(counts)  # must be there until it has run
        binding.bind_cpu_input("num_samples", lengths)
        for name in names:
            binding.bind_output(name, "cpu")
        with self._turn():
            self._session.run_with_iobinding(binding)
        return [value.numpy() for value in binding.get_outputs()]

    def fault(self, names: list[str]) -> str:
        """Why this must not be used: noise comes out other than by ONNX Runtime's own copies. Empty if it does not.

        Raises:
            RuntimeError: if the driver refuses.
        """
        largest = 0.0
        for seed in range(2):  # what is left of the first would show in the second
            noise = np.random.default_rng(seed).standard_normal((_CHECKED, 1, _SAMPLES), dtype=np.float32)
            parts = {"waveform": list(0.1 * noise), "num_samples": [np.full((1, 1), _SAMPLES)] * _CHECKED}
            plain = self._plain(names, parts)
            found = self._run(names, self._copied(parts["waveform"]), parts["num_samples"])
            for one, other in zip(found, plain, strict=True):
                largest = float(np.fmax(largest, np.nan_to_num(np.abs(one - other).max() / np.abs(other).max(), nan=1)))
        if largest <= _MOST_DIFFERENT:
            return ""
        return f"slow: batches copied beforehand give embeddings that are {largest:.1e} off"

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait until no other instance of this model computes; a lock of a process that dies is the next one's."""
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _memory(self, size: int, dtype: np.dtype[Any]) -> Array:
        return self._driver.pinned(size, dtype)

    def _release(self, buffer: Array) -> None:
        self._driver.free_pinned(buffer)


class CudaDriver:
    """The little of CUDA's driver that ONNX Runtime has no call for, in the context that ONNX Runtime computes in."""

    def __init__(self, device: int) -> None:
        """For the GPU of that number.

        Raises:
            RuntimeError: if the driver refuses.
        """
        self._cuda = ctypes.CDLL("libcuda.so.1")
        self._context = ctypes.c_void_p()
        number = ctypes.c_int()
        self._call("cuInit", ctypes.c_uint(0))
        self._call("cuDeviceGet", ctypes.byref(number), ctypes.c_int(device))
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), number)

    def enter(self) -> None:
        """Have this thread's calls go to the GPU."""
        self._call("cuCtxSetCurrent", self._context)

    def pinned(self, size: int, dtype: np.dtype[Any]) -> Array:
        """Memory of the host that the GPU reads by itself: `size` numbers."""
        address = ctypes.c_void_p()
        size_bytes = size * dtype.itemsize
        self._call("cuMemHostAlloc", ctypes.byref(address), ctypes.c_size_t(size_bytes), ctypes.c_uint(_PORTABLE))
        memory = (ctypes.c_uint8 * size_bytes).from_address(address.value or 0)
        return np.ctypeslib.as_array(memory).view(dtype)

    def free_pinned(self, memory: Array) -> None:
        """Give `pinned` memory back; nothing may use it any more."""
        self._call("cuMemFreeHost", ctypes.c_void_p(memory.ctypes.data))

    def allocate(self, size: int) -> int:
        """The address of so many bytes on the GPU."""
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        return address.value

    def free(self, address: int) -> None:
        """Give memory of the GPU back; 0 is none."""
        self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def copy(self, address: int, source: Array) -> None:
        """Copy an array to the GPU, and wait until it is there."""
        self._call(
            "cuMemcpyHtoD_v2",
            ctypes.c_uint64(address),
            ctypes.c_void_p(source.ctypes.data),
            ctypes.c_size_t(source.nbytes),
        )

    def _call(self, function: str, *arguments: Any) -> None:
        status = getattr(self._cuda, function)(*arguments)
        if status:
            text = ctypes.c_char_p()
            self._cuda.cuGetErrorString(ctypes.c_int(status), ctypes.byref(text))
            raise RuntimeError(f"CUDA's {function} fails: {(text.value or b'no reason').decode()} ({status})")
