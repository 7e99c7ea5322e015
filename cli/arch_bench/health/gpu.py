"""The GPU: driver, CUDA and cuDNN, against the ONNX Runtime that is installed."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from arch_common.errors import last_line
from packaging.requirements import Requirement

from arch_bench.health.finding import Finding
from arch_bench.health.packages import installed
from arch_bench.health.surroundings import Surroundings, run

_NVIDIA = "0x10de"
_DISPLAY = "0x03"  # PCI's class of display and 3D controllers
_VERSIONS = re.compile(r"Driver Version: *(?P<driver>[\d.]+).*?CUDA (?:\w+ )?Version: *(?P<cuda>\d+\.\d+)", re.DOTALL)
# The first driver for each CUDA; later ones of the same major version need no later driver.
_FIRST_DRIVER = {11: "450", 12: "525", 13: "580"}
_WITH_CUDA = "pip uninstall -y onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]'"
# Loads what ONNX Runtime loads when a model asks for CUDA; a library that is missing is named by the loader.
_LOAD = """
import ctypes, pathlib, onnxruntime
if hasattr(onnxruntime, "preload_dlls"):
    onnxruntime.preload_dlls()
folder = pathlib.Path(onnxruntime.__file__).parent / "capi"
for name in ("shared", "cuda"):
    ctypes.CDLL(str(folder / f"libonnxruntime_providers_{name}.so"), mode=ctypes.RTLD_GLOBAL)
"""


@dataclass(frozen=True)
class _Driver:
    version: str
    cuda: str
    gpus: list[str]


def check_gpu(around: Surroundings) -> Iterator[Finding]:
    """The driver, and whether ONNX Runtime can use the GPU through it."""
    runtime = installed("onnxruntime-gpu")
    driver = _driver(around)
    if driver is None:
        yield _without(around)
        return
    if isinstance(driver, Finding):
        yield driver
        return
    words = f"{', '.join(driver.gpus)}; driver {driver.version} for CUDA {driver.cuda}"
    if runtime is None:
        served = installed("nvidia-pytriton") is not None and installed("onnxruntime") is not None
        if served:
            yield Finding(
                "GPU", "warning", f"{words}, but models run on the CPU: this ONNX Runtime has no CUDA", _WITH_CUDA
            )
        else:
            yield Finding("GPU", "ok", words)
        return
    wanted = _cuda_of(runtime.requires or [])
    if wanted is not None and int(driver.cuda.partition(".")[0]) < wanted:
        first = _FIRST_DRIVER.get(wanted)
        yield Finding(
            *("GPU", "fault", f"{words}; onnxruntime-gpu {runtime.version} is built for CUDA {wanted}"),
            f"update the driver{f' to {first} or later' if first else ''}, or install an onnxruntime-gpu for CUDA "
            f"{driver.cuda.partition('.')[0]}",
        )
        return
    yield Finding("GPU", "ok", words)
    yield _loaded(around, runtime.version, wanted)


def _without(around: Surroundings) -> Finding:
    """There is no driver's program."""
    if _has_card(around):
        return Finding(
            *("GPU", "warning", "there is an NVIDIA GPU, but no driver for it (no nvidia-smi): models run on the CPU"),
            "install NVIDIA's driver; in a container: docker run --gpus all",
        )
    return Finding("GPU", "absent", "no NVIDIA GPU")


def _has_card(around: Surroundings) -> bool:
    for device in (around.root / "sys/bus/pci/devices").glob("*"):
        vendor, kind = (
            around.read(str((device / name).relative_to(around.root))).strip() for name in ("vendor", "class")
        )
        if vendor == _NVIDIA and kind.startswith(_DISPLAY):
            return True
    return (around.root / "dev/nvidiactl").exists()


def _driver(around: Surroundings) -> _Driver | Finding | None:
    """What the driver says; what is wrong with it; None where there is none."""
    program = shutil.which("nvidia-smi", path=around.environ.get("PATH"))
    if program is None:
        return None
    code, said = run([program], around.environ)
    found = _VERSIONS.search(said)
    if code != 0 or found is None:
        reason = last_line(said, f"it ends with exit status {code}")
        if "mismatch" in reason:
            advice = "restart the machine: the driver's library was updated, its kernel module was not"
        elif "No devices" in reason:
            advice = "in a container: docker run --gpus all; or the GPU has fallen off the bus, see dmesg"
        else:
            advice = "mend the driver until nvidia-smi lists the GPU (sudo modprobe nvidia, or install it again)"
        return Finding("GPU", "fault", f"nvidia-smi: {reason}", advice)
    code, said = run([program, "--query-gpu=name", "--format=csv,noheader"], around.environ)
    names = said.split("\n") if code == 0 else []
    return _Driver(found["driver"], found["cuda"], [name.strip() for name in names if name.strip()] or ["a GPU"])


def _cuda_of(requirements: list[str]) -> int | None:
    """The major version of CUDA that a package is built for, by the libraries that it names; None if it names none."""
    for requirement in map(Requirement, requirements):
        if requirement.name.startswith("nvidia-cuda-runtime"):
            numbers = re.findall(r"\d+", str(requirement.specifier))
            return int(numbers[0]) if numbers else None
    return None


def _loaded(around: Surroundings, version: str, cuda: int | None) -> Finding:
    """Whether the libraries of CUDA and cuDNN are found."""
    code, said = run([sys.executable, "-u", "-c", _LOAD], around.environ)
    if code == 0:
        return Finding("CUDA and cuDNN", "ok", f"onnxruntime-gpu {version} finds them")
    reason = last_line(said, f"it ends with exit status {code}").removeprefix("OSError: ")
    return Finding(
        *("CUDA and cuDNN", "fault", f"onnxruntime-gpu {version} does not load: {reason}"),
        f"pip install 'onnxruntime-gpu[cuda,cudnn]=={version}', or put the folders of CUDA {cuda or ''} and cuDNN on "
        "LD_LIBRARY_PATH",
    )
