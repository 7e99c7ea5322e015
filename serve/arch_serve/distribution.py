"""Where a tritonserver comes from: NVIDIA's container image, or the pip wheel that carries one."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import sys
import sysconfig
from ctypes.util import find_library
from dataclasses import dataclass
from pathlib import Path

import arch_common
from arch_common.errors import ServeError

_CONTAINER_BINARY = Path("/opt/tritonserver/bin/tritonserver")
_INSTALL = (
    "install the server with `pip install 'arch-bench[serve]'` (Linux on x86-64), or run inside NVIDIA's container "
    "image nvcr.io/nvidia/tritonserver"
)


@dataclass(frozen=True)
class Distribution:
    """A tritonserver that can be launched.

    Attributes:
        binary: The `tritonserver` executable.
        backends: Its backend directory; None leaves the choice to the server.
        environment: The environment to launch it in.
        has_stubs: Whether its models run in Triton's Python stubs, see `stubs`.
    """

    binary: Path
    backends: Path | None
    environment: dict[str, str]
    has_stubs: bool


def prepare_distribution(workdir: Path) -> Distribution:
    """Find a tritonserver and assemble what it needs to run.

    One that is installed (`tritonserver` on PATH or where NVIDIA's container image has it) runs with its own
    backends. Otherwise the one of the nvidia-pytriton wheel runs, with ONNX Runtime of the running Python behind it.

    Args:
        workdir: A folder for files that must live as long as the server, by a path that a shell takes as it is.

    Returns:
        The distribution.

    Raises:
        ServeError: No tritonserver is installed, or the one of the wheel cannot run in this Python.
    """
    installed = shutil.which("tritonserver") or (str(_CONTAINER_BINARY) if _CONTAINER_BINARY.is_file() else None)
    if installed:
        binary = Path(installed).resolve()
        backends = binary.parents[1] / "backends"
        return Distribution(binary, backends if backends.is_dir() else None, dict(os.environ), has_stubs=False)
    return _prepare_wheel(workdir)


def check_numpy() -> None:
    """Refuse a NumPy with which Triton's Python backend answers with empty tensors and no error.

    Raises:
        ServeError: NumPy is missing or is not version 1.
    """
    try:
        version = importlib.metadata.version("numpy")
    except importlib.metadata.PackageNotFoundError:
        raise ServeError(f"NumPy is missing: {_INSTALL}") from None
    if int(version.split(".")[0]) >= 2:
        raise ServeError(
            f"NumPy {version} does not work with this server (it would answer with empty tensors): "
            "run `pip install 'numpy<2'`"
        )


def _prepare_wheel(workdir: Path) -> Distribution:
    # Importing pytriton would start its own machinery; its location is enough.
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise ServeError(f"no tritonserver is installed: {_INSTALL}")
    check_numpy()
    if importlib.util.find_spec("onnxruntime") is None:
        raise ServeError("ONNX Runtime is missing: run `pip install 'arch-bench[serve]'`")
    package = Path(spec.submodule_search_locations[0])
    root = package / "tritonserver"
    binary = root / "bin" / "tritonserver"
    libraries = package.parent / "nvidia_pytriton.libs"
    if not binary.is_file() or not libraries.is_dir():
        raise ServeError("this nvidia-pytriton holds no server: run `pip install 'nvidia-pytriton==0.7.0'`")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = root / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        raise ServeError(f"nvidia-pytriton has no stub for Python {version}: use Python 3.11 or 3.12")

    # Copies: Triton refuses a backend library that is a link out of the backend directory.
    backends = workdir / "backends"
    (backends / "python").mkdir(parents=True)
    (backends / "onnxruntime").mkdir()
    for source in (stub, *(root / "backends" / "python").glob("*.*")):
        shutil.copy(source, backends / "python")
    for source in (Path(__file__).parent / "backends" / "onnxruntime").glob("*.py"):
        shutil.copy(source, backends / "onnxruntime")
    # What opens a graph here opened it when it was verified, and what hashes it did so when it was exported.
    for shared in ("session", "content", "conv_search"):
        source = Path(arch_common.__file__).parent / f"{shared}.py"
        shutil.copy(source, backends / "onnxruntime" / f"arch_{shared}.py")

    lib = workdir / "lib"
    lib.mkdir()
    libpython = _find_libpython(version)
    if libpython is not None:
        (lib / libpython.name).symlink_to(libpython)
    (workdir / "libraries").symlink_to(libraries)  # its own path may hold a colon, which ends an entry of the list
    return Distribution(binary, backends, _environment([str(lib), str(workdir / "libraries")]), has_stubs=True)


def _environment(libraries: list[str]) -> dict[str, str]:
    environment = dict(os.environ)
    # The Python in the stub takes its prefix, and with it its packages, from the first python3 on PATH.
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    environment.pop("PYTHONHOME", None)
    inherited = environment.get("LD_LIBRARY_PATH")
    environment["LD_LIBRARY_PATH"] = os.pathsep.join([*libraries, inherited] if inherited else libraries)
    return environment


def _find_libpython(version: str) -> Path | None:
    """Locate the shared library that the stub links, or None where the loader finds it by itself."""
    name = f"libpython{version}.so.1.0"
    folders = (sysconfig.get_config_var("LIBDIR"), Path(sys.base_prefix) / "lib")
    for folder in folders:
        if folder and (path := Path(folder) / name).is_file():
            return path
    if find_library(f"python{version}") == name:
        return None
    raise ServeError(
        f"{name} is missing, which the server's Python backend needs: "
        f"on Debian or Ubuntu run `apt-get install libpython{version}`"
    )
