"""What computes an embedding on a device, timed: arch's graphs and PyTorch; and what the device reaches at best."""

from __future__ import annotations

import functools
import gc
import re
import shutil
import statistics
import subprocess
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from arch_common import session as sessions
from gpu_models import SAMPLE_RATE, Skeleton

Array = np.ndarray[Any, np.dtype[Any]]
Feeds = dict[str, Array]
# One run of a batch, and what it needs; it returns when the embeddings are there.
Engine = Callable[[], object]

ROUNDS, LEAST_ROUNDS = 15, 3
# Short runs are timed several at a time.
_ROUND_S = 0.02


def feeds_of(batch: int, seconds: float, seed: int = 0) -> Feeds:
    """Noise, `batch` clips of `seconds`."""
    waveform = 0.1 * np.random.default_rng(seed).standard_normal(
        (batch, round(seconds * SAMPLE_RATE)), dtype=np.float32
    )
    return {"waveform": waveform, "num_samples": np.full((batch, 1), waveform.shape[1], dtype=np.int64)}


def reason_of(error: BaseException) -> str:
    """Why something fails on a GPU, in one line: the node, and what CUDA or cuDNN says of it."""
    text = str(error)
    node = re.search(r"Name:'([^']*)'", text)
    said = re.search(
        r"CUDNN_\w+[^;\n]*|CUDA failure[^;\n]*|CUBLAS_\w+|Failed to allocate[^\n]*|out of memory[^\n]*", text
    )
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    return (f"{node.group(1)}: " if node else "") + (said.group(0) if said else lines[0])[:160]


def is_memory(found: float | str) -> bool:
    """Whether it is a reason, and one of want of memory."""
    return isinstance(found, str) and any(word in found for word in ("allocate", "ALLOC_FAILED", "out of memory"))


def medians(engines: dict[str, Engine], seconds: float) -> dict[str, float | str]:
    """Median seconds of a run of each engine, which take turns within each round; or why it fails.

    Args:
        engines: by name.
        seconds: for each of them to take; three rounds are run however long they are.
    """
    found: dict[str, float | str] = {}
    repeats: dict[str, int] = {}
    for name, engine in engines.items():
        try:
            engine()  # chooses kernels and takes memory
            engine()
            repeats[name] = max(1, round(_ROUND_S / _timed(engine, 1)))
        except Exception as error:  # ONNX Runtime's and CUDA's own errors have no common base
            found[name] = reason_of(error)
    times: dict[str, list[float]] = {name: [] for name in repeats}
    ends = time.perf_counter() + seconds * len(repeats)
    for done in range(ROUNDS):
        if done >= LEAST_ROUNDS and time.perf_counter() > ends:
            break
        for name in list(times):
            try:
                times[name].append(_timed(engines[name], repeats[name]))
            except Exception as error:  # likewise
                found[name] = reason_of(error)
                del times[name]
    return found | {name: statistics.median(each) for name, each in times.items() if each}


def _timed(engine: Engine, repeats: int) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        engine()
    return (time.perf_counter() - started) / repeats


def open_graph(path: Path, skeleton: Skeleton, device: str, profile: Path | None = None) -> Any:
    """A session as the server opens it; `profile` is the beginning of the name of a file for ONNX Runtime's profile.

    The graph that is not for GPUs in particular holds a convolution that cuDNN's heuristics refuse. It gets cuDNN's
    default search, which finds something.

    Raises:
        SessionError: if the graph does not load, or CUDA does not start.
    """
    options = sessions.session_options()
    options.log_severity_level = 4  # cuDNN's complaints fill pages; what fails is told in one line
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    if device == "cpu":
        as_fp32 = path.name != "model.onnx"  # a twin rounds by itself
        return sessions.open_on_cpu(path, "fp32" if as_fp32 else skeleton.precision, options).session
    if skeleton.variant == "generic":
        onnxruntime.preload_dlls()
        settings = sessions.cuda_settings(skeleton.precision) | {"device_id": "0", "cudnn_conv_algo_search": "DEFAULT"}
        opened = onnxruntime.InferenceSession(
            path, options, providers=[(sessions.CUDA, settings), "CPUExecutionProvider"]
        )
        opened.disable_fallback()
    else:
        opened = sessions.open_on_gpu(path, skeleton.precision, options, "0").session
    if opened.get_providers()[0] != sessions.CUDA:
        raise sessions.SessionError("ONNX Runtime could not start CUDA")
    return opened


def graph_engine(session: Any, feeds: Feeds, device: str) -> Engine:
    """The embedding by an exported graph, its inputs and output on the device."""
    binding = session.io_binding()
    for name, array in feeds.items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array, device, 0))
    binding.bind_output("embedding", device, 0)

    def run() -> None:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()

    return run


def captured_engine(path: Path, feeds: Feeds) -> Engine:
    """The embedding of clips of one shape by a CUDA graph, which spares the launches of single operators.

    ONNX Runtime captures nothing of a graph whose shapes are computed, as it does that on the CPU: both dimensions are
    fixed, so that a session serves one shape.

    Raises:
        Exception: ONNX Runtime's own, if it cannot be captured.
    """
    options = sessions.session_options()
    options.log_severity_level = 4
    rows, samples = feeds["waveform"].shape
    options.add_free_dimension_override_by_name("batch", rows)
    options.add_free_dimension_override_by_name("samples", samples)
    settings = sessions.cuda_settings("fp16") | {"cudnn_conv_algo_search": "HEURISTIC", "enable_cuda_graph": "1"}
    onnxruntime.preload_dlls()
    session = onnxruntime.InferenceSession(path, options, providers=[(sessions.CUDA, settings), "CPUExecutionProvider"])
    session.disable_fallback()
    shape = [rows, session.get_outputs()[0].shape[1]]
    # At one place for good: what was captured reads and writes there.
    places = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array, "cuda", 0) for name, array in feeds.items()}
    output = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, "cuda", 0)
    binding = session.io_binding()
    for name, place in places.items():
        binding.bind_ortvalue_input(name, place)
    binding.bind_ortvalue_output("embedding", output)

    def run() -> None:
        session.run_with_iobinding(binding)

    return run


class TorchModel:
    """transformers' model with random weights, in fp16 on a GPU; a CPU is slow in that, and takes fp32.

    Args:
        skeleton: whose architecture it has.
        device: cuda or cpu.
        mode: of torch.compile; None runs it eagerly.
    """

    def __init__(self, skeleton: Skeleton, device: str, mode: str | None = None) -> None:
        import torch
        import transformers

        transformers.logging.set_verbosity_error()
        self._device = device
        self._dtype = torch.float16 if device == "cuda" else torch.float32
        torch.manual_seed(0)
        config = transformers.AutoConfig.for_model(skeleton.family, **skeleton.config)
        with torch.device(device):
            model = transformers.AutoModel.from_config(config, attn_implementation="sdpa").eval().to(self._dtype)
        if mode is not None:
            warnings.filterwarnings("ignore", module="torch")
            torch._dynamo.reset()
            model = torch.compile(model, mode=mode)
        self._model = model

    def engine(self, feeds: Feeds) -> Engine:
        """Normalise, encode, mean over frames; the clips are on the device."""
        import torch

        waveform = torch.from_numpy(feeds["waveform"]).to(self._device)

        def run() -> None:
            with torch.no_grad():
                deviation, mean = torch.std_mean(waveform, dim=1, keepdim=True, correction=0)
                normal = (waveform - mean) / torch.sqrt(deviation**2 + 1e-7)
                self._model(normal.to(self._dtype)).last_hidden_state.float().mean(1)
            if self._device == "cuda":
                torch.cuda.synchronize()

        return run


def release() -> None:
    """Give PyTorch's unused memory of the GPU back, which ONNX Runtime wants."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def limits(device: str, fast: bool) -> dict[str, float]:
    """TFLOP/s of products by type, TB/s of a copy, read and write counted, and GB/s from the host, pinned.

    Args:
        device: cuda or cpu.
        fast: small sizes, to rehearse with.
    """
    import torch

    size, numbers = (1024, 1 << 22) if fast else (8192, 1 << 29)
    torch.backends.cuda.matmul.allow_tf32 = False

    def best(run: Callable[[], object], repeats: int) -> float:
        def once() -> None:
            for _ in range(repeats):
                run()
            if device == "cuda":
                torch.cuda.synchronize()

        once()
        return min(_timed(once, 1) for _ in range(3)) / repeats

    found = {}
    for name, dtype, repeats in (("fp16", torch.float16, 20), ("bf16", torch.bfloat16, 20), ("fp32", torch.float32, 3)):
        pair = [torch.randn(size, size, device=device).to(dtype) for _ in range(2)]
        seconds = best(functools.partial(torch.matmul, *pair), 1 if fast else repeats)
        found[f"{name}_tflops"] = 2 * size**3 / seconds / 1e12
    source = torch.empty(numbers, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    found["copy_tb_s"] = 2 * 4 * numbers / best(functools.partial(target.copy_, source), 5) / 1e12
    if device == "cuda":
        host = torch.empty(numbers // 8, dtype=torch.float32, pin_memory=True)
        part = target[: len(host)]
        seconds = best(functools.partial(part.copy_, host, non_blocking=True), 5)
        found["from_host_gb_s"] = 4 * len(host) / seconds / 1e9
    release()
    return found


def card(device: str) -> dict[str, str]:
    """The card and the versions of what runs on it."""
    import platform

    import torch
    import transformers

    cudnn: Any = torch.backends.cudnn
    told = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": onnxruntime.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "CUDA (torch)": str(torch.version.cuda),
        "cuDNN (torch)": str(cudnn.version()),
        "cores": str(sessions.usable_cores()),
    }
    if device == "cuda":
        told = {"card": torch.cuda.get_device_name()} | told
    if device == "cuda" and shutil.which("nvidia-smi"):
        asked = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,power.limit", "--format=csv,noheader"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        told["card"] = done.stdout.strip().split("\n")[0] or told["card"]
    return told
