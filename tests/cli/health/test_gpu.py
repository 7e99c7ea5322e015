"""What `arch doctor` finds of GPUs, by programs and libraries that stand in for NVIDIA's: no GPU is needed here."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from arch_bench.health.gpu import check_gpu
from arch_bench.health.surroundings import Surroundings
from support.faulty_machines import package, packages, program, tree

HEAD = "| NVIDIA-SMI {driver}    Driver Version: {driver}    CUDA Version: {cuda} |"
CUDA_13 = (
    'nvidia-cuda-runtime~=13.0; extra == "cuda"',
    'nvidia-cudnn-cu13~=9.0; extra == "cudnn"',
)


def smi(folder: Path, driver: str = "580.95", cuda: str = "13.0") -> Path:
    """NVIDIA's program, of a machine with one card."""
    head = HEAD.format(driver=driver, cuda=cuda)
    return program(folder / "bin", "nvidia-smi", f'[ $# = 0 ] && echo "{head}" || echo "NVIDIA H100 80GB HBM3"')


def machine(folder: Path, **environ: str) -> Surroundings:
    return Surroundings(root=folder, environ={"PATH": f"{folder / 'bin'}:/usr/bin:/bin", **environ})


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = packages(tmp_path / "site", nvidia_pytriton="0.7.0")
    monkeypatch.setattr(sys, "path", [str(folder)])
    return folder


def test_no_gpu(tmp_path: Path) -> None:
    (found,) = check_gpu(Surroundings(root=tmp_path, environ={"PATH": str(tmp_path)}))
    assert (found.level, found.found) == ("absent", "no NVIDIA GPU")


@pytest.mark.parametrize(
    ("vendor", "kind", "level"),
    [
        ("0x10de\n", "0x030200\n", "warning"),
        ("0x10de\n", "0x020000\n", "absent"),  # a network card of NVIDIA's
        ("0x8086\n", "0x030000\n", "absent"),
    ],
)
def test_a_card_without_a_driver(tmp_path: Path, vendor: str, kind: str, level: str) -> None:
    around = tree(tmp_path, sys__bus__pci__devices__card__vendor=vendor)
    tree(tmp_path, sys__bus__pci__devices__card__class=kind)
    (found,) = check_gpu(Surroundings(root=around.root, environ={"PATH": str(tmp_path)}))
    assert found.level == level
    assert ("docker run --gpus all" in found.advice) == (level == "warning")


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("Failed to initialize NVML: Driver/library version mismatch", "restart the machine"),
        ("No devices were found", "docker run --gpus all"),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", "sudo modprobe nvidia"),
    ],
)
def test_a_driver_that_does_not_work(tmp_path: Path, said: str, advice: str) -> None:
    program(tmp_path / "bin", "nvidia-smi", f'echo "{said}"; exit 9')
    (found,) = check_gpu(machine(tmp_path))
    assert (found.level, found.found) == ("fault", f"nvidia-smi: {said}")
    assert advice in found.advice


def test_an_onnxruntime_without_cuda_beside_a_gpu(tmp_path: Path, site: Path) -> None:
    smi(tmp_path)
    packages(site, onnxruntime="1.32.0")
    (found,) = check_gpu(machine(tmp_path))
    assert found.level == "warning"
    assert found.found.startswith("NVIDIA H100 80GB HBM3; driver 580.95 for CUDA 13.0, but models run on the CPU")
    assert found.advice == "pip uninstall -y onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]'"


def test_a_gpu_of_a_machine_that_serves_nothing_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(packages(tmp_path / "site", ray="2.60.0"))])
    smi(tmp_path)
    (found,) = check_gpu(machine(tmp_path))
    assert found.level == "ok"


def test_a_driver_that_is_too_old_for_the_onnxruntime(tmp_path: Path, site: Path) -> None:
    smi(tmp_path, "535.183.01", "12.2")
    package(site, "onnxruntime-gpu", "1.31.1", CUDA_13)
    (found,) = check_gpu(machine(tmp_path))
    assert found.level == "fault"
    assert found.found.endswith("driver 535.183.01 for CUDA 12.2; onnxruntime-gpu 1.31.1 is built for CUDA 13")
    assert found.advice == "update the driver to 580 or later, or install an onnxruntime-gpu for CUDA 12"


def library(name: str) -> Path:
    """A shared library of this environment, of which there is one."""
    (found,) = (Path(np.__file__).parents[1] / "numpy.libs").glob(f"{name}-*.so*")
    return found


def library_that_wants_cudnn() -> bytes:
    """A real one, that wants cuDNN where it wanted another."""
    wanted = library("libquadmath").name.encode() + b"\0"
    content = library("libgfortran").read_bytes()
    assert wanted in content
    return content.replace(wanted, b"libcudnn.so.9".ljust(len(wanted), b"\0"))


@pytest.mark.parametrize("missing", [True, False])
def test_cudnn(tmp_path: Path, site: Path, missing: bool) -> None:
    """Libraries in the place of ONNX Runtime's for CUDA: to the system's loader they are none other."""
    smi(tmp_path)
    package(site, "onnxruntime-gpu", "1.31.1", CUDA_13)
    fake = tmp_path / "modules" / "onnxruntime"
    (fake / "capi").mkdir(parents=True)
    (fake / "__init__.py").write_text("def preload_dlls(): print('Failed to load libcudnn.so.9')\n")
    plain = library("libquadmath").read_bytes()
    (fake / "capi" / "libonnxruntime_providers_shared.so").write_bytes(plain)
    cuda = library_that_wants_cudnn() if missing else plain
    (fake / "capi" / "libonnxruntime_providers_cuda.so").write_bytes(cuda)
    gpu, found = check_gpu(machine(tmp_path, PYTHONPATH=str(fake.parent)))
    assert gpu.level == "ok"
    assert found.topic == "CUDA and cuDNN"
    if missing:
        assert found.level == "fault"
        assert "libcudnn.so.9: cannot open shared object file" in found.found
        assert found.advice.startswith(
            "pip install 'onnxruntime-gpu[cuda,cudnn]==1.31.1', or put the folders of CUDA 13"
        )
    else:
        assert (found.level, found.advice) == ("ok", "")
