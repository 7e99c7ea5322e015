"""What a tuning is measured with: the precisions of this machine, and versions of what serves and sends."""

from __future__ import annotations

import hashlib

from arch_bench.health.packages import RUNTIMES, installed

_SENDS = "mlcommons-loadgen"
_WHEEL = "nvidia-pytriton"


def of_machine() -> tuple[str, list[str]]:
    """The target of exports, and the precisions that this machine runs."""
    from arch_common import session
    from arch_harness.measuring.machine import describe_machine

    if session.has_cuda() and describe_machine().gpus:
        return "gpu", ["fp32", "tf32", "fp16"]
    bf16 = [] if session.bf16_obstacle() or session.missing_for_bf16() else ["bf16"]
    return "auto", ["fp32", "int8", *bf16]


def versions() -> dict[str, str]:
    """Versions of Triton, ONNX Runtime and LoadGen, as far as they are here; no server is started.

    A Triton of the pip wheel has the wheel's version. One that is installed has that of the file `TRITON_VERSION`,
    which NVIDIA's image holds, or else a digest of its program stands for it.

    Raises:
        ServeError: if there is no tritonserver, or it cannot run.
    """
    from arch_serve.distribution import prepare_distribution
    from arch_serve.stubs import working_folder

    found = {name: one.version for name in (*RUNTIMES, _SENDS) if (one := installed(name))}
    with working_folder() as folder:
        server = prepare_distribution(folder)
    if server.has_stubs:
        wheel = installed(_WHEEL)
        return found | ({_WHEEL: wheel.version} if wheel else {})
    try:
        version = (server.binary.parents[1] / "TRITON_VERSION").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        version = ""
    return found | {"tritonserver": version or hashlib.sha256(server.binary.read_bytes()).hexdigest()[:16]}
